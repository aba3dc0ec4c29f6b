"""The linear experts' weights, fitted by the encoder and sent as small whole numbers.

Weighted least squares over some voxels of the brick, a few passes: a voxel that was badly predicted
counts less in the next, so that edges do not spoil the weights of what is smooth. Gram matrices are
sums of whole numbers below 2**53: no order of addition, no number of threads changes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.codecs.causal.layout import PAD, WEIGHT_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared.codecs.causal.layout import Tap

_SAMPLES = 12_000
_PASSES = 3
_VALUE_BITS = 11
_WEIGHT_TOP = 1 << 14
_SMALLEST_GAIN = 1e-6
_LIMIT = (1 << 15) - 1


def fit_weights(
    voxels: NDArray[np.int32], background: NDArray[np.uint8] | None, taps: Sequence[Tap]
) -> NDArray[np.int64]:
    """The weights of the taps and the constant behind them, in 1/4096, each a signed 16-bit one.

    Args:
        voxels: (z, y, x) samples.
        background: (z, y, x), 1 where nothing is predicted; None for nowhere.
        taps: (z, y, x) offsets.
    """
    plain = np.zeros(len(taps) + 1, np.int64)
    plain[0] = 1 << WEIGHT_BITS
    before = max(-z for z, _, _ in taps)
    depth, rows, columns = voxels.shape
    inside = (depth - before, rows - 2 * PAD, columns - 2 * PAD)
    if min(inside) < 1 or inside[0] * inside[1] * inside[2] < 4 * len(taps):
        return plain
    number = np.arange(0, inside[0] * inside[1] * inside[2])
    if background is not None:
        number = number[~background[before:, PAD:-PAD, PAD:-PAD].astype(bool).reshape(-1)]
    # An odd multiplier, so that the chosen ones do not stand in columns.
    count = min(_SAMPLES, number.size)
    if count < 4 * len(taps):
        return plain
    number = number[(np.arange(count) * number.size) // count]
    z, rest = np.divmod(number, inside[1] * inside[2])
    y, x = np.divmod(rest, inside[2])
    at = ((z + before) * rows + y + PAD) * columns + x + PAD
    values = voxels.reshape(-1)
    offsets = [(dz * rows + dy) * columns + dx for dz, dy, dx in taps]
    seen = np.stack([values[at + offset] for offset in offsets], axis=1)
    centre = int(seen[:, 0].sum()) // count
    top = int(np.abs(seen - centre).max())
    shift = max(0, top.bit_length() - _VALUE_BITS)
    rows_of = np.empty((count, len(taps) + 1))
    rows_of[:, :-1] = (seen - centre) >> shift
    rows_of[:, -1] = 16.0
    wanted = ((values[at] - centre) >> shift).astype(np.float64)
    west, north = _column(taps, (0, 0, -1)), _column(taps, (0, -1, 0))
    corner, right = _column(taps, (0, -1, -1)), _column(taps, (0, -1, 1))
    calm = np.zeros(count)
    for a, b in ((west, corner), (north, corner), (north, right)):
        calm += np.abs(rows_of[:, a] - rows_of[:, b])
    error = calm.copy()
    solved = np.zeros(len(taps) + 1)
    for _ in range(_PASSES):
        trust = np.rint(_WEIGHT_TOP / (0.2 * calm + error + 1))
        weighted = rows_of * trust[:, None]
        gram = rows_of.T @ weighted
        gram[np.diag_indices_from(gram)] *= 1 + _SMALLEST_GAIN
        gram[np.diag_indices_from(gram)] += _WEIGHT_TOP
        solved = np.linalg.solve(gram, weighted.T @ wanted)
        error = np.rint(np.abs(rows_of @ solved - wanted))
    weights = np.rint(solved * (1 << WEIGHT_BITS)).astype(np.int64)
    constant = solved[-1] * 16 * (1 << shift) + centre * (
        1 - weights[:-1].sum() / (1 << WEIGHT_BITS)
    )
    # In whole samples: sent in 16 bits, like a weight.
    weights[-1] = round(constant)
    return np.clip(weights, -_LIMIT, _LIMIT)


def _column(taps: Sequence[Tap], tap: Tap) -> int:
    return list(taps).index(tap)
