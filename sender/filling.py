"""What stands in a layer's box where it owns nothing: whatever codes smallest. Nobody sees it.

Measured on brain FLAIR and CT (`docs/codecs.md`): exact codecs want a flat zero (a straight line
between the hole's edges costs 4-10 % more); HEVC at an equal PSNR of what counts wants each row's
last owned sample carried on, for a step to zero would cost its neighbours 1-3 dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fill_zero(samples: NDArray[Any], owned: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The samples with every unowned one set to zero, in place.

    Args:
        samples: (z, y, x) unsigned.
        owned: (z, y, x) bool, or None for all.
    """
    if owned is not None:
        samples[~owned] = 0
    return samples


def fill_forward(samples: NDArray[Any], owned: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The samples with every unowned one set to the owned one before it in its row, in place.

    Before the first owned sample of a row stands that sample; rows that own nothing repeat the row
    above, the topmost ones the first row below that owns something; a slice that owns nothing is
    zero.

    Args:
        samples: (z, y, x) unsigned.
        owned: (z, y, x) bool, or None for all.
    """
    if owned is None:
        return samples
    for plane, mine in zip(samples, owned, strict=True):
        rows = mine.any(axis=1)
        if not rows.any():
            plane[...] = 0
        elif not mine.all():
            _carry_on(plane, mine, np.flatnonzero(rows & ~mine.all(axis=1)))
            filled = np.flatnonzero(rows)
            above = np.searchsorted(filled, np.arange(rows.size), "right") - 1
            plane[~rows] = plane[filled[np.maximum(above, 0)]][~rows]
    return samples


def _carry_on(plane: NDArray[Any], mine: NDArray[np.bool_], rows: NDArray[np.intp]) -> None:
    known = mine[rows]
    place = np.where(known, np.arange(plane.shape[1]), -1)
    source = np.maximum.accumulate(place, axis=1)
    first = known.argmax(axis=1)
    source = np.where(source < 0, first[:, None], source)
    plane[rows] = np.take_along_axis(plane[rows], source, axis=1)
