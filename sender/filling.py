"""What stands in a layer's box where it owns nothing: whatever codes smallest.

Nobody sees these samples. A straight line between a row's owned neighbours gives predictive codecs
and HEVC's transforms next to nothing to code (measured: `docs/codecs.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fill_unowned(samples: NDArray[Any], owned: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The samples with every unowned one replaced, slice by slice; owned ones stay as they are.

    Args:
        samples: (z, y, x) unsigned; changed in place and returned.
        owned: (z, y, x) bool, or None for all.
    """
    if owned is None:
        return samples
    for plane, mine in zip(samples, owned, strict=True):
        if mine.all():
            continue
        rows = mine.any(axis=1)
        if not rows.any():
            plane[...] = 0
            continue
        _fill_rows(plane, mine, np.flatnonzero(rows & ~mine.all(axis=1)))
        _fill_empty_rows(plane, rows)
    return samples


def _fill_rows(plane: NDArray[Any], mine: NDArray[np.bool_], which: NDArray[np.intp]) -> None:
    """In each of these rows, a straight line from owned sample to owned sample."""
    known = mine[which]
    width = plane.shape[1]
    place = np.arange(width, dtype=np.int32)
    before = np.maximum.accumulate(np.where(known, place, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, place, width)[:, ::-1], axis=1)[:, ::-1]
    row, column = np.nonzero(~known)
    left, right = before[row, column], after[row, column]
    left, right = np.where(left < 0, right, left), np.where(right == width, left, right)
    values = plane[which]
    low, high = values[row, left].astype(np.float64), values[row, right].astype(np.float64)
    share = (column - left) / np.maximum(right - left, 1)
    plane[which[row], column] = np.rint(low + (high - low) * share).astype(plane.dtype)


def _fill_empty_rows(plane: NDArray[Any], rows: NDArray[np.bool_]) -> None:
    """Rows that own nothing repeat the row above, the first ones the first row that does."""
    filled = np.flatnonzero(rows)
    source = filled[np.maximum(np.searchsorted(filled, np.arange(rows.size), "right") - 1, 0)]
    plane[~rows] = plane[source[~rows]]
