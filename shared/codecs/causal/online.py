"""The expert of `archive`: least squares over what was coded around a voxel, solved again each row.

    gram matrices of groups of columns, older rows counting less --smoothed along the row--> weights
    those of the rows around here in the plane before           --'

Sums are of binary64 numbers, by addition, subtraction, multiplication and division alone, in the
order written down here: IEEE 754 leaves no machine a choice. What comes out of them is rounded to
whole numbers before anything is predicted. Nothing here may be compiled with fast mathematics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.codecs.causal.kernels import kernel
from shared.codecs.causal.layout import PAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]

_GROUP = 4
"""Columns that share weights."""
_ROW_FADES, _COLUMN_FADES, _PLANE_COUNTS = 0.625, 0.1875, 0.6875
_ROWS_AHEAD = 2
"""In the plane before, of the row that is coded."""
_MOST_SEEN = 2047
_RIDGE, _LEAST_RIDGE = 0.0001, 256.0
_WEIGHT_BITS = 16
_MOST_WEIGHT = 8.0


class Online(NamedTuple):
    """What it keeps while a brick is coded."""

    at: Longs
    """Where the taps lie, from a voxel's own place in the planes."""
    weights: Longs
    """(group, tap), 1/65536."""
    seen: Longs
    """What the taps show, less the prediction of space, in 1/16."""
    scaled: Doubles
    """The same over the expected error, whole numbers, the voxel itself behind them."""
    centres: Longs
    trusts: Longs
    """Of every voxel so far: the prediction of space, and how much its sums count."""
    here: Doubles
    behind: Doubles
    smooth: Doubles
    """(group, packed gram matrix and right-hand side)."""
    run: Doubles
    """Packed sums on their way along a row."""
    gram: Doubles
    right: Doubles
    column: Doubles


@kernel
def new_online(taps: Ints, shape: tuple[int, int, int]) -> Online:
    """Before the first voxel.

    Args:
        taps: (taps, 3) offsets (z, y, x); none where this expert is not asked.
    """
    depth, rows, columns = shape
    count = len(taps)
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    at = np.zeros(count, np.int64)
    for k in range(count):
        at[k] = taps[k, 0] * area + taps[k, 1] * width + taps[k, 2]
    groups = -(-columns // _GROUP) if count else 0
    packed = count * (count + 1) // 2 + count
    voxels = depth * rows * columns if count else 0
    return Online(
        at,
        np.zeros(groups * count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count + 1, np.float64),
        np.zeros(voxels, np.int64),
        np.zeros(voxels, np.int64),
        np.zeros((groups, packed), np.float64),
        np.zeros((groups, packed), np.float64),
        np.zeros((groups, packed), np.float64),
        np.zeros(packed, np.float64),
        np.zeros((count, count), np.float64),
        np.zeros(count, np.float64),
        np.zeros(count, np.float64),
    )


@kernel
def begin_online_row(
    online: Online, known: Ints, z: int, y: int, shape: tuple[int, int, int]
) -> None:
    """New weights for every group of columns."""
    here, behind, smooth, run = online.here, online.behind, online.smooth, online.run
    if y == 0:
        here[:] = 0.0
        behind[:] = 0.0
        for row in range(_ROWS_AHEAD):
            _add_behind(online, known, z - 1, row, shape)
    _add_behind(online, known, z - 1, y + _ROWS_AHEAD, shape)
    groups, packed = here.shape
    # Each group's sums, and its neighbours' on both sides, fading.
    run[:] = 0.0
    for g in range(groups):
        for i in range(packed):
            run[i] = _COLUMN_FADES * run[i] + (here[g, i] + _PLANE_COUNTS * behind[g, i])
            smooth[g, i] = run[i]
    run[:] = 0.0
    for g in range(groups - 1, -1, -1):
        for i in range(packed):
            smooth[g, i] += run[i]
            run[i] = _COLUMN_FADES * (run[i] + (here[g, i] + _PLANE_COUNTS * behind[g, i]))
            here[g, i] *= _ROW_FADES
    for g in range(groups):
        _solve(online, g)


@kernel
def predict_online(online: Online, known: Ints, at: int, x: int, centre: int, most: int) -> int:
    """The prediction of a voxel, in 1/16."""
    count = len(online.at)
    weights = x // _GROUP * count
    total = 0
    for k in range(count):
        d = (known[at + online.at[k]] << 4) - centre
        online.seen[k] = d
        total += online.weights[weights + k] * d
    return min(most << 4, max(0, centre + (total >> _WEIGHT_BITS)))


@kernel
def learn_online(
    online: Online, target: int, centre: int, mean_error: int, index: int, x: int
) -> None:
    """A voxel is known: it is added to the sums of its group."""
    trust = (1 << 20) // (mean_error + 16)
    online.centres[index] = centre
    online.trusts[index] = trust
    count = len(online.at)
    for k in range(count):
        online.scaled[k] = _scaled(online.seen[k], trust)
    online.scaled[count] = _scaled(target - centre, trust)
    _add(online.here[x // _GROUP], online.scaled)


@kernel
def _add_behind(online: Online, known: Ints, z: int, y: int, shape: tuple[int, int, int]) -> None:
    """The sums of a row of the plane before, taken up beside older ones."""
    _, rows, columns = shape
    online.behind[:] *= _ROW_FADES
    if y >= rows or z < 1:
        return
    width = columns + 2 * PAD
    line = (z + 2) * (rows + 2 * PAD) * width + (y + PAD) * width + PAD
    count = len(online.at)
    for x in range(columns):
        index = (z * rows + y) * columns + x
        trust = online.trusts[index]
        if trust:
            centre = online.centres[index]
            for k in range(count):
                seen = (known[line + x + online.at[k]] << 4) - centre
                online.scaled[k] = _scaled(seen, trust)
            online.scaled[count] = _scaled((known[line + x] << 4) - centre, trust)
            _add(online.behind[x // _GROUP], online.scaled)


@kernel
def _scaled(seen: int, trust: int) -> float:
    return float(min(_MOST_SEEN, max(-_MOST_SEEN, (seen * trust) >> 16)))


@kernel
def _add(sums: Doubles, scaled: Doubles) -> None:
    """The products of everything with everything: the lower triangle row by row, then the rest."""
    count = len(scaled) - 1
    place = 0
    for i in range(count + 1):
        factor = scaled[i]
        for j in range(min(i + 1, count)):
            sums[place + j] += factor * scaled[j]
        place += min(i + 1, count)


@kernel
def _solve(online: Online, g: int) -> None:
    """The weights of a group from its sums, by an LDL' decomposition; none where it has none."""
    gram, right, column = online.gram, online.right, online.column
    sums = online.smooth[g]
    count = len(online.at)
    place, trace = 0, 0.0
    for i in range(count):
        for j in range(i + 1):
            gram[i, j] = sums[place + j]
        place += i + 1
        trace += gram[i, i]
    for i in range(count):
        right[i] = sums[place + i]
        gram[i, i] += trace / count * _RIDGE + _LEAST_RIDGE
    for j in range(count):
        pivot = gram[j, j]
        if not pivot > 1.0:  # rounding has made it singular, or it is no number
            online.weights[g * count : (g + 1) * count] = 0
            return
        for i in range(j + 1, count):
            column[i] = gram[i, j]
        for i in range(j + 1, count):
            factor = column[i] / pivot
            for k in range(j + 1, i + 1):
                gram[i, k] -= factor * column[k]
            right[i] -= factor * right[j]
            gram[i, j] = factor
    for i in range(count):
        right[i] /= gram[i, i]
    for i in range(count - 1, -1, -1):
        value = right[i]
        for k in range(i):
            right[k] -= gram[i, k] * value
        if not abs(value) < _MOST_WEIGHT:
            value = 0.0
        online.weights[g * count + i] = np.int64(np.floor(value * (1 << _WEIGHT_BITS) + 0.5))
