"""The model of `fast`: one prediction, its error's scale, and adaptive bits; nothing is mixed.

The same questions as `questions` asks, each answered by one adaptive chance: of the expected
error's scale, of how the neighbours lie to the prediction, and of the question.

What a voxel takes from earlier rows and planes is summed up for a whole row at once, many voxels to
an instruction; only its own row and the answers are left to go voxel by voxel, with the range
coder's numbers in hand. Sums of whole numbers are the same in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.codecs.causal.background import BACKGROUND, OTHER, code_background
from shared.codecs.causal.experts import scale_of
from shared.codecs.causal.kernels import inlined, kernel
from shared.codecs.causal.layout import PAD, QUARTERS, RATE, SCALES, STEP_TABLE, STEPS
from shared.codecs.causal.planes import begin_plane, begin_row, end_plane, stand_in
from shared.codecs.causal.range_coder import (
    AT,
    LOW,
    RANGE,
    SMALLEST,
    STATE_WORDS,
    carry,
    code_even,
    finish,
    shift,
    start,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.causal.model import Brick
    from shared.codecs.causal.tables import Table

    Ints = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Octets = NDArray[np.uint8]

_PLACES = 16
_NODES = 64
_HALF = 2 * STEPS
"""Behind the nodes of questions: those that halve what is left."""
_FIRST_CHANCE = 32768 << 10
_MOST_COUNTS = 250
_MOST_ERROR = 1 << 18


@kernel
def code_quick_brick(octets: Octets, decoding: bool, brick: Brick, table: Table) -> int:
    """Codes a brick; returns the bytes written or read."""
    depth, rows, columns = brick.shape
    state = np.zeros(STATE_WORDS, np.int64)
    start(state, octets, decoding)
    if brick.filler >= 0:
        background = (brick.voxels == brick.filler).astype(np.uint8)
        code_background(state, octets, decoding, brick.marks, background, brick.shape, table)
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    known = np.zeros((depth + 2) * area, np.int32)
    errors = np.zeros((2, area, 1), np.int32)
    counters = np.full(_PLACES * SCALES * _NODES, _FIRST_CHANCE, np.int32)
    sums, around = np.zeros(columns, np.int64), np.zeros(columns, np.int32)
    west = np.zeros(PAD, np.int64)
    for z in range(depth):
        plane = (z + 2) * area
        now, before = errors[z & 1], errors[(z + 1) & 1]
        here = known[plane : plane + area].reshape((area, 1))
        if z > 0:
            begin_plane(here, known[plane - area : plane].reshape((area, 1)), width)
            begin_plane(now, before, width)
        for y in range(rows):
            line = (y + PAD) * width + PAD
            begin_row(here, line, columns, y == 0)
            begin_row(now, line, columns, y == 0)
            first = (z * rows + y) * columns
            if (brick.marks[first : first + columns] == OTHER).any():
                _sum_taps(sums, west, brick, known, plane + line, z > 0)
                _sum_errors(around, now, before, line, width, z > 0)
            _code_row(
                state, octets, decoding, brick, table, counters, known, now[:, 0], sums, west,
                around, first, plane, line, z > 0,
            )  # fmt: skip
        end_plane(here, rows, columns)
        end_plane(now, rows, columns)
    return state[AT] if decoding else finish(state, octets)


@kernel
def _sum_taps(sums: Longs, west: Longs, brick: Brick, known: Ints, at: int, behind: bool) -> None:
    """What the side and earlier rows add to each prediction of a row that begins ``at``.

    Args:
        west: left at the weights of the row's own voxels, the nearest first.
        behind: there is a plane before this one.
    """
    depth, rows, columns = brick.shape
    in_space = behind or depth == 1
    taps = brick.space_taps if in_space else brick.flat_taps
    weights = brick.space_weights if in_space else brick.flat_weights
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    sides, count = len(brick.side_taps), len(taps)
    sums[:] = weights[sides + count]
    for k in range(sides):
        z, y, x = brick.side_taps[k]
        _add(sums, brick.side, at + z * area + y * width + x, weights[k])
    west[:] = 0
    for k in range(count):
        z, y, x = taps[k]
        if z == 0 and y == 0:
            west[-1 - x] = weights[sides + k]
        else:
            _add(sums, known, at + z * area + y * width + x, weights[sides + k])


@kernel
def _add(sums: Longs, values: Ints, at: int, weight: int) -> None:
    part = values[at : at + len(sums)]
    for x in range(len(sums)):
        sums[x] += weight * part[x]


@kernel
def _sum_errors(around: Ints, now: Ints, before: Ints, line: int, width: int, behind: bool) -> None:
    """What earlier rows add to each expected error of a row that begins at ``line``."""
    north = now[line - width - 1 :, 0]
    past = before[line:, 0]
    for x in range(len(around)):
        around[x] = 8 * north[x + 1] + 4 * (north[x + 2] + north[x])
        if behind:
            around[x] += 8 * past[x]


@kernel
def _code_row(
    state: Longs,
    octets: Octets,
    decoding: bool,
    brick: Brick,
    table: Table,
    counters: Ints,
    known: Ints,
    now: Ints,
    sums: Longs,
    west: Longs,
    around: Ints,
    start_index: int,
    plane: int,
    line: int,
    behind: bool,
) -> None:
    """A row's voxels, by what was summed up for them."""
    _, rows, columns = brick.shape
    voxels, marks, most, step = brick.voxels, brick.marks, brick.most, brick.step
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    is_bounded = len(brick.low) > 0
    quarters = table[QUARTERS + step]
    for x in range(columns):
        index, e, at = start_index + x, line + x, plane + line + x
        if marks[index] != OTHER:
            if marks[index] == BACKGROUND:
                voxels[index] = brick.filler
            stand_in(known, at, width, area, behind)
            now[e] = (now[e - 1] + now[e - width]) >> 1
            continue
        total = sums[x]
        for k in range(PAD):
            total += west[k] * known[at - 1 - k]
        mean = min(most << 4, max(0, total >> 8))
        energy = around[x] + 8 * now[e - 1]
        if not behind:
            energy += energy // 3
        left_of, north = known[at - 1], known[at - width]
        past = known[at - area] if behind else known[at - width + 1]
        level = scale_of(energy + 15 * abs(left_of - north), table)
        low, high = 0, most + 1
        if is_bounded:
            low = brick.low[index]
            high = max(low + 1, min(brick.high[index], most + 1))
        if step == 1:  # what the other branch comes to, without its divisions
            left, right, first, target = low, high, (mean + 16) >> 4, voxels[index]
        else:
            left, right = low // step, (high - 1) // step + 1
            first, target = (mean + 8 + 8 * step) // (16 * step), voxels[index] // step
        first = max(left + 1, min(right - 1, first))
        border = (first * step << 4) - 8
        place = (mean > border) | ((north << 4) > border) << 1
        place |= ((left_of << 4) > border) << 2 | ((past << 4) > border) << 3
        if is_bounded:
            place = min(3, first - left - 1) | min(3, max(0, right - first - 1)) << 2
        cells = (place * SCALES + level) * _NODES
        coarse = max(0, level - quarters) * STEPS
        number = _code_number(
            state, octets, decoding, counters, cells, coarse, target, left, right, first, table,
        )  # fmt: skip
        low, high = max(low, number * step), min(high, (number + 1) * step)
        value = (low + high - 1) >> 1
        voxels[index] = value
        known[at] = value
        now[e] = min(_MOST_ERROR, abs((value << 4) - mean))


@inlined
def _code_number(
    state: Longs,
    octets: Octets,
    decoding: bool,
    counters: Ints,
    cells: int,
    coarse: int,
    target: int,
    left: int,
    right: int,
    first: int,
    table: Table,
) -> int:
    """Codes the number of a piece, left..right-1."""
    low, span, at = state[LOW], state[RANGE], state[AT]
    up, asked, number, node = 0, 0, first, 0
    while right - left > 1:
        if asked:
            if asked >= STEPS:
                break
            reach = table[STEP_TABLE + coarse + asked - 1]
            number = first + reach if up else first - reach
            if number <= left or number >= right:
                break
            node = asked + (0 if up else STEPS)
        bit, low, span, at = _answer(
            low, span, at, octets, decoding, counters, cells + node, target >= number, table
        )
        if bit:
            left = number
        else:
            right = number
        if asked and bit != up:
            break
        up = up if asked else bit
        asked += 1
    if right - left > 2:
        number = (left + right) >> 1
        bit, low, span, at = _answer(
            low, span, at, octets, decoding, counters, cells + _HALF + node, target >= number, table
        )
        if bit:
            left = number
        else:
            right = number
    state[LOW], state[RANGE], state[AT] = low, span, at
    if right - left > 1:
        value = min(right - left - 1, max(0, target - left))
        left += code_even(state, octets, decoding, value, right - left)
    return left


@inlined
def _answer(
    low: int,
    span: int,
    at: int,
    octets: Octets,
    decoding: bool,
    counters: Ints,
    cell: int,
    answer: bool,
    table: Table,
) -> tuple[int, int, int, int]:
    """One question, by one adaptive chance; `range_coder.code_bit` with the coder in hand."""
    counter = counters[cell]
    chance, said = counter >> 10, counter & 1023
    bound = (span >> 16) * chance
    bit = 1 if answer else 0
    if decoding:
        bit = 1 if low < bound else 0
    if bit:
        span = bound
    else:
        span -= bound
        low += -bound if decoding else bound
    if not decoding:
        low = carry(low, at, octets)
    while span < SMALLEST:
        span <<= 8
        low, at = shift(low, at, octets, decoding)
    chance += (((bit << 16) - chance) * table[RATE + said]) >> 16
    chance = min(65450, max(86, chance))
    counters[cell] = chance << 10 | min(said + 1, _MOST_COUNTS)
    return bit, low, span, at
