"""The model of `fast`: one prediction, its error's scale, and adaptive bits; nothing is mixed.

The same questions as `questions` asks, each answered by one adaptive chance: of the expected
error's scale, of how the neighbours lie to the prediction, and of the question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from shared.codecs.causal.background import BACKGROUND, OTHER, code_background
from shared.codecs.causal.experts import scale_of
from shared.codecs.causal.layout import (
    MOST_TAPS,
    PAD,
    QUARTERS,
    RATE,
    SCALES,
    STEP_TABLE,
    STEPS,
)
from shared.codecs.causal.planes import begin_plane, begin_row, end_plane, stand_in
from shared.codecs.causal.range_coder import AT, STATE_WORDS, code_bit, code_even, finish, start

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


@njit(nogil=True, cache=True, error_model="numpy")
def code_quick_brick(octets: Octets, decoding: bool, brick: Brick, table: Table) -> int:
    """Codes a brick; returns the bytes written or read."""
    depth, rows, columns = brick.shape
    voxels, marks, most, step = brick.voxels, brick.marks, brick.most, brick.step
    lows, highs, side, filler = brick.low, brick.high, brick.side, brick.filler
    state = np.zeros(STATE_WORDS, np.int64)
    start(state, octets, decoding)
    if filler >= 0:
        background = (voxels == filler).astype(np.uint8)
        code_background(state, octets, decoding, marks, background, brick.shape, table)
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    known = np.zeros((depth + 2) * area, np.int32)
    errors = np.zeros((2, area, 1), np.int32)
    is_bounded = len(lows) > 0
    counters = np.full(_PLACES * SCALES * _NODES, _FIRST_CHANCE, np.int32)
    sides = len(brick.side_taps)
    flat_at, space_at = np.zeros(MOST_TAPS, np.int64), np.zeros(MOST_TAPS, np.int64)
    for k in range(len(brick.flat_taps)):
        flat_at[k] = brick.flat_taps[k, 1] * width + brick.flat_taps[k, 2]
    for k in range(len(brick.space_taps)):
        z, y, x = brick.space_taps[k]
        space_at[k] = z * area + y * width + x
    side_at = np.zeros(MOST_TAPS, np.int64)
    for k in range(sides):
        z, y, x = brick.side_taps[k]
        side_at[k] = z * area + y * width + x
    for z in range(depth):
        plane = (z + 2) * area
        now, before = errors[z & 1], errors[(z + 1) & 1]
        here = known[plane : plane + area].reshape((area, 1))
        if z > 0:
            begin_plane(here, known[plane - area : plane].reshape((area, 1)), width)
            begin_plane(now, before, width)
        in_space = z > 0 or depth == 1
        taps_at = space_at if in_space else flat_at
        weights = brick.space_weights if in_space else brick.flat_weights
        count = len(brick.space_taps) if in_space else len(brick.flat_taps)
        for y in range(rows):
            e_line = (y + PAD) * width + PAD
            begin_row(here, e_line, columns, y == 0)
            begin_row(now, e_line, columns, y == 0)
            for x in range(columns):
                index = (z * rows + y) * columns + x
                e, at = e_line + x, plane + e_line + x
                if marks[index] != OTHER:
                    if marks[index] == BACKGROUND:
                        voxels[index] = filler
                    stand_in(known, at, width, area, z > 0)
                    now[e, 0] = (now[e - 1, 0] + now[e - width, 0]) >> 1
                    continue
                total = weights[sides + count]
                for k in range(sides):
                    total += weights[k] * side[at + side_at[k]]
                for k in range(count):
                    total += weights[sides + k] * known[at + taps_at[k]]
                mean = min(most << 4, max(0, total >> 8))
                energy = 8 * (now[e - 1, 0] + now[e - width, 0])
                energy += 4 * (now[e - width + 1, 0] + now[e - width - 1, 0])
                energy += 8 * before[e, 0] if z > 0 else energy // 3
                west, north = known[at - 1], known[at - width]
                past = known[at - area] if z > 0 else known[at - width + 1]
                level = scale_of(energy + 15 * abs(west - north), table)
                low, high = 0, most + 1
                if is_bounded:
                    low = lows[index]
                    high = max(low + 1, min(highs[index], most + 1))
                left, right = low // step, (high - 1) // step + 1
                first = (mean + 8 + 8 * step) // (16 * step)
                first = max(left + 1, min(right - 1, first))
                border = (first * step << 4) - 8
                place = (mean > border) | ((north << 4) > border) << 1
                place |= ((west << 4) > border) << 2 | ((past << 4) > border) << 3
                if is_bounded:
                    place = min(3, first - left - 1) | min(3, max(0, right - first - 1)) << 2
                cells = (place * SCALES + level) * _NODES
                coarse = max(0, level - table[QUARTERS + step]) * STEPS
                number = _code_number(
                    state, octets, decoding, counters, cells, coarse,
                    voxels[index] // step, left, right, first, table,
                )  # fmt: skip
                low, high = max(low, number * step), min(high, (number + 1) * step)
                target = (low + high - 1) >> 1
                voxels[index] = target
                known[at] = target
                now[e, 0] = min(_MOST_ERROR, abs((target << 4) - mean))
        end_plane(here, rows, columns)
        end_plane(now, rows, columns)
    return state[AT] if decoding else finish(state, octets)


@njit(nogil=True, cache=True, error_model="numpy", forceinline=True)
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
        bit = _answer(state, octets, decoding, counters, cells + node, target >= number, table)
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
        half = cells + _HALF + node
        if _answer(state, octets, decoding, counters, half, target >= number, table):
            left = number
        else:
            right = number
    if right - left > 1:
        value = min(right - left - 1, max(0, target - left))
        left += code_even(state, octets, decoding, value, right - left)
    return left


@njit(nogil=True, cache=True, error_model="numpy", forceinline=True)
def _answer(
    state: Longs,
    octets: Octets,
    decoding: bool,
    counters: Ints,
    cell: int,
    answer: bool,
    table: Table,
) -> int:
    """One question, by one adaptive chance."""
    counter = counters[cell]
    chance, said = counter >> 10, counter & 1023
    bit = code_bit(state, octets, decoding, 1 if answer else 0, chance)
    chance += (((bit << 16) - chance) * table[RATE + said]) >> 16
    chance = min(65450, max(86, chance))
    counters[cell] = chance << 10 | min(said + 1, _MOST_COUNTS)
    return bit
