"""The linear experts' weights, fitted by the encoder and sent as small whole numbers.

Weighted least squares over some voxels of the brick, a few passes: a voxel that was badly predicted
counts less in the next, so that edges do not spoil the weights of what is smooth. Gram matrices are
sums of whole numbers below 2**53: no order of addition, no number of threads changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.codecs.causal.layout import PAD, WEIGHT_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared.codecs.causal.layout import Tap
    from shared.geometry import Triple

_SAMPLES, _FEW_SAMPLES = 12_000, 6_000
_PASSES, _FEW_PASSES = 3, 2
_VALUE_BITS = 11
_WEIGHT_TOP = 1 << 14
_SMALLEST_GAIN = 1e-6
_LIMIT = (1 << 15) - 1


@dataclass(frozen=True, slots=True)
class Planes:
    """A brick as the model has it, `planes`."""

    shape: Triple
    known: NDArray[np.int32]
    """What its voxels are decoded to."""
    side: NDArray[np.int32] | None
    """What is known of them beforehand."""
    side_taps: Sequence[Tap] = ()
    """Where that is looked at, (z, y, x) offsets."""

    def place(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where voxels stand, given by their flat indices in the brick."""
        _, rows, columns = self.shape
        z, rest = np.divmod(number, rows * columns)
        y, x = np.divmod(rest, columns)
        return ((z + 2) * (rows + 2 * PAD) + y + PAD) * (columns + 2 * PAD) + x + PAD

    def offset(self, tap: Tap) -> int:
        """How far a neighbour stands from a voxel."""
        _, rows, columns = self.shape
        return (tap[0] * (rows + 2 * PAD) + tap[1]) * (columns + 2 * PAD) + tap[2]


class Fit(NamedTuple):
    """A linear expert."""

    weights: NDArray[np.int64]
    """Of side taps, of taps, in 1/4096, and the constant in whole samples; 16 bits each, signed."""
    error: float
    """Its mean error where it was fitted, in whole samples; infinite where nothing was fitted."""


def plain_weights(count: int, sides: Sequence[Tap]) -> NDArray[np.int64]:
    """Where there is little to learn from: the voxel as a preview shows it, or the one before."""
    plain = np.zeros(count, np.int64)
    plain[0 if (0, 0, 0) in sides else len(sides)] = 1 << WEIGHT_BITS
    return plain


def fit_weights(
    planes: Planes,
    wanted: NDArray[np.int32],
    chosen: NDArray[np.int64],
    taps: Sequence[Tap],
    *,
    few: bool = False,
    interval: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None,
) -> Fit:
    """The weights that predict best.

    Args:
        wanted: the voxels to predict, flat over the brick.
        chosen: which of them there are to learn from, ascending flat indices.
        taps: (z, y, x) offsets.
        few: less is looked at, in half the time.
        interval: lowest, and one above the highest, that each voxel may be. One that is predicted
            far outside has little to teach: its interval says more than a better prediction would.
    """
    sides = planes.side_taps
    plain = plain_weights(len(sides) + len(taps) + 1, sides)
    before = 1 if any(z < 0 for z, _, _ in taps) else 0
    plane = planes.shape[1] * planes.shape[2]
    chosen = chosen[np.searchsorted(chosen, before * plane) :]
    count = min(_FEW_SAMPLES if few else _SAMPLES, chosen.size)
    if count < 4 * plain.size:
        return Fit(plain, np.inf)
    number = chosen[(np.arange(count) * chosen.size) // count]
    at = planes.place(number)
    seen = np.empty((count, plain.size - 1), np.int64)
    for k, tap in enumerate(sides):
        assert planes.side is not None
        seen[:, k] = planes.side[at + planes.offset(tap)]
    for k, tap in enumerate(taps):
        seen[:, len(sides) + k] = planes.known[at + planes.offset(tap)]
    own = list(taps)
    west, north, corner, right = (
        len(sides) + own.index(tap) for tap in ((0, 0, -1), (0, -1, 0), (0, -1, -1), (0, -1, 1))
    )
    centre = int(seen[:, 0].sum()) // count
    shift = max(0, int(np.abs(seen - centre).max()).bit_length() - _VALUE_BITS)
    rows_of = np.empty((count, plain.size))
    rows_of[:, :-1] = (seen - centre) >> shift
    rows_of[:, -1] = 16.0
    target = ((wanted[number] - centre) >> shift).astype(np.float64)
    least, width = target, np.zeros(count)
    if interval is not None:
        low, high = (each.reshape(-1)[number].astype(np.int64) for each in interval)
        least, width = ((low - centre) >> shift).astype(np.float64), np.rint((high - low) >> shift)
    half, off = width / 2 + 1, np.zeros(count)
    calm = np.zeros(count)
    for a, b in ((west, corner), (north, corner), (north, right)):
        calm += np.abs(rows_of[:, a] - rows_of[:, b])
    error: NDArray[Any] = calm.copy()
    solved = np.zeros(plain.size)
    for _ in range(_FEW_PASSES if few else _PASSES):
        trust = np.rint(_WEIGHT_TOP / (0.2 * calm + error + 1) * (half / (half + off)))
        weighted = rows_of * trust[:, None]
        gram = rows_of.T @ weighted
        gram[np.diag_indices_from(gram)] *= 1 + _SMALLEST_GAIN
        gram[np.diag_indices_from(gram)] += _WEIGHT_TOP
        solved = np.linalg.solve(gram, weighted.T @ target)
        predicted = np.rint(rows_of @ solved)
        error = np.rint(np.abs(rows_of @ solved - target))
        if interval is not None:
            off = np.abs(np.clip(predicted, least, least + width) - predicted)
    weights = np.rint(solved * (1 << WEIGHT_BITS)).astype(np.int64)
    constant = solved[-1] * 16 * (1 << shift) + centre * (
        1 - weights[:-1].sum() / (1 << WEIGHT_BITS)
    )
    # In whole samples: sent in 16 bits, like a weight.
    weights[-1] = round(constant)
    return Fit(np.clip(weights, -_LIMIT, _LIMIT), float(error.mean()) * (1 << shift))
