"""The model of a brick and its coding, compiled: one loop for both directions.

    neighbours --experts--> predictions, expected errors --questions--> voxel
                   ^------------------- learning -----------------------'

Whole numbers only; every index is clamped where it is made, so that no stream can leave an array.
docs/exact_codec.md describes it for those who write another decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.codecs.causal.background import BACKGROUND, OTHER, code_background
from shared.codecs.causal.experts import (
    CORRECTED,
    ONLINE,
    PLANE,
    SPACE,
    blend,
    correct,
    expected,
    learn_errors,
    learn_filter,
    linear,
    new_memory,
    scale_of,
    set_curves,
)
from shared.codecs.causal.kernels import inlined, kernel
from shared.codecs.causal.layout import EXPERTS, MOST_TAPS, PAD, PLACES, SCALES
from shared.codecs.causal.memory import FLAT_VALUES, MEAN, VALUES
from shared.codecs.causal.online import (
    begin_online_row,
    learn_online,
    new_online,
    predict_online,
)
from shared.codecs.causal.planes import begin_plane, begin_row, end_plane, stand_in
from shared.codecs.causal.questions import NODES, code_value
from shared.codecs.causal.range_coder import AT, STATE_WORDS, finish, start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.causal.tables import Table

    Ints = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Octets = NDArray[np.uint8]


class Brick(NamedTuple):
    """What a brick is, and what is said of it ahead of its bits.

    Its name stands in caches of compiled code: under another one they could not be read any more.
    """

    voxels: Ints
    """Samples 0..most, flat; read by an encoder, left at what a decoder will have."""
    marks: Octets
    """`background`'s marks, flat."""
    shape: tuple[int, int, int]
    filler: int
    """The background's value, or -1."""
    most: int
    step: int
    """Of the rung: 1 for an exact one."""
    low: Ints
    high: Ints
    """The interval that a voxel is known to be in, flat; empty where nothing is."""
    side: Ints
    """What is known of all voxels, in planes as `planes` has them, one more behind; or empty."""
    side_taps: Ints
    space_taps: Ints
    flat_taps: Ints
    online_taps: Ints
    """(taps, 3) offsets (z, y, x)."""
    own_plane: int
    """How many of ``space_taps``, the first ones, lie in a voxel's own plane."""
    space_weights: Longs
    """One for each side tap, then for each of space's, then the constant, 1/4096."""
    flat_weights: Longs


@kernel
def code_brick(
    octets: Octets, decoding: bool, brick: Brick, table: Table, experts: tuple[int, ...]
) -> int:
    """Codes a brick; returns the bytes written or read.

    Args:
        experts: as many numbers as there are experts, the blend included: which they are does not
            matter, how many is compiled into the code.
    """
    depth, rows, columns = brick.shape
    voxels, marks, most, step = brick.voxels, brick.marks, brick.most, brick.step
    lows, highs, side = brick.low, brick.high, brick.side
    space_weights, flat_weights = brick.space_weights, brick.flat_weights
    state = np.zeros(STATE_WORDS, np.int64)
    start(state, octets, decoding)
    if brick.filler >= 0:
        background = (voxels == brick.filler).astype(np.uint8)
        code_background(state, octets, decoding, marks, background, brick.shape, table)
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    known = np.zeros((depth + 2) * area, np.int32)
    # Errors need one plane before this one only: planes take turns.
    errors = np.zeros((2, area, len(experts)), np.int32)
    space_at, flat_at, side_at = _offsets(brick, width, area)
    sides = len(brick.side_taps)
    is_bounded = len(brick.low) > 0
    memory = new_memory(experts)
    counters = np.zeros(PLACES * (SCALES // 2) * NODES, np.int32)
    online = new_online(brick.online_taps, brick.shape)
    flat_count, last = len(brick.flat_taps), len(experts) - 1
    for z in range(depth):
        plane = (z + 2) * area
        now, before = errors[z & 1], errors[(z + 1) & 1]
        here = known[plane : plane + area].reshape((area, 1))
        if z > 0:
            begin_plane(here, known[plane - area : plane].reshape((area, 1)), width)
            begin_plane(now, before, width)
        if z == 1:  # two planes before the second one there is none: the first again
            known[area : 2 * area] = known[2 * area : 3 * area]
        space_count = len(brick.space_taps) if z > 0 or depth == 1 else brick.own_plane
        for y in range(rows):
            e_line = (y + PAD) * width + PAD
            begin_row(here, e_line, columns, y == 0)
            begin_row(now, e_line, columns, y == 0)
            if len(experts) > EXPERTS:
                begin_online_row(online, known, z, y, brick.shape)
            for x in range(columns):
                index = (z * rows + y) * columns + x
                e, at = e_line + x, plane + e_line + x
                if marks[index] != OTHER:
                    if marks[index] == BACKGROUND:
                        voxels[index] = brick.filler
                    stand_in(known, at, width, area, z > 0)
                    for k in range(len(experts)):
                        now[e, k] = (now[e - 1, k] + now[e - width, k]) >> 1
                    continue
                for k in range(sides):
                    memory[VALUES + k] = memory[FLAT_VALUES + k] = side[at + side_at[k]]
                for k in range(flat_count):
                    memory[FLAT_VALUES + sides + k] = known[at + flat_at[k]]
                for k in range(space_count):
                    memory[VALUES + sides + k] = known[at + space_at[k]]
                flat = linear(memory, FLAT_VALUES, flat_weights, sides + flat_count, most)
                centre = flat
                if z > 0 or depth == 1:
                    centre = linear(memory, VALUES, space_weights, sides + space_count, most)
                memory[MEAN + SPACE], memory[MEAN + PLANE] = centre, flat
                memory[MEAN + CORRECTED] = correct(memory, sides + space_count, centre, most)
                if len(experts) > EXPERTS:
                    memory[MEAN + ONLINE] = predict_online(online, known, at, x, centre, most)
                blend(memory, now, before, e, width, z > 0, most, table, experts)
                west, north, past = known[at - 1], known[at - width], known[at - area]
                edge = abs(west - north) + (abs(past - west) if z > 0 else 0)
                energy = expected(now, before, e, last, width, z > 0) + 15 * edge
                level = scale_of(energy, table)
                set_curves(memory, level, experts)
                low, high = 0, most + 1
                if is_bounded:
                    low = lows[index]
                    high = max(low + 1, min(highs[index], most + 1))
                # The threshold next to the blend, and how others lie to it.
                left, right = low // step, (high - 1) // step + 1
                first = (memory[MEAN + last] + 8 + 8 * step) // (16 * step)
                first = max(left + 1, min(right - 1, first))
                border = (first * step << 4) - 8
                place = (centre > border) | (memory[MEAN + CORRECTED] > border) << 1
                place |= (flat > border) << 2
                if is_bounded:
                    place |= min(3, first - left - 1) << 3
                    place |= min(3, max(0, right - first - 1)) << 5
                else:
                    place |= ((west << 4) > border) << 3 | ((north << 4) > border) << 4
                    place |= ((past << 4) > border) << 5
                    place |= ((known[at - width + 1] << 4) > border) << 6
                low, high = code_value(
                    state, octets, decoding, memory, counters, voxels[index], low, high, step,
                    most, place, level, first, table, experts,
                )  # fmt: skip
                target = (low + high - 1) >> 1
                voxels[index] = target
                known[at] = target
                mean_error = learn_errors(memory, now, e, target << 4, experts)
                learn_filter(memory, target << 4, mean_error, sides + space_count)
                if len(experts) > EXPERTS:
                    learn_online(online, target << 4, centre, mean_error, index, x)
        end_plane(here, rows, columns)
        end_plane(now, rows, columns)
    return state[AT] if decoding else finish(state, octets)


@inlined
def _offsets(brick: Brick, width: int, area: int) -> tuple[Longs, Longs, Longs]:
    """Where the taps of space, of the plane and of the side lie, from a voxel's own place."""
    found = np.zeros((3, MOST_TAPS), np.int64)
    for k in range(len(brick.space_taps)):
        z, y, x = brick.space_taps[k]
        found[0, k] = z * area + y * width + x
    for k in range(len(brick.flat_taps)):
        z, y, x = brick.flat_taps[k]
        found[1, k] = y * width + x
    for k in range(len(brick.side_taps)):
        z, y, x = brick.side_taps[k]
        found[2, k] = z * area + y * width + x
    return found[0], found[1], found[2]
