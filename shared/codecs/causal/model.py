"""The model of a brick and its coding, compiled: one loop for both directions.

    neighbours --4 experts--> prediction, expected error
                                 |
    voxel <--answers-- questions "is it at least t?" <--mixer-- log-odds of every expert, a counter

A voxel is found by questions: first on which side of the prediction it lies, then in steps that
grow with the expected error, until it stands between two thresholds; what is left is halved, and
coded evenly once it is narrow. Each expert answers by a logistic curve around its own prediction,
given what was asked before; an online logistic mixer weighs them (Mattern 2013; Mahoney's PAQ).

Whole numbers only; every index is clamped where it is made, so that no stream can leave an array.
docs/exact_codec.md describes it for those who write another decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from shared.codecs.causal.layout import EXPERTS, INPUTS, MOST_TAPS, PAD, SCALES, STEPS
from shared.codecs.causal.range_coder import code_bit, code_even, finish, start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.causal.tables import Tables

    Ints = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Octets = NDArray[np.uint8]

_BLEND = EXPERTS - 1
_CORRECTED = EXPERTS - 2
_NODES = 2 * STEPS
_MOST_ERROR = 1 << 18
"""Sixteenths of a sample."""
_EVEN_BELOW = 1024
"""A gap this narrow, in 1/4096 of log-odds, is coded evenly."""
_MIX_RATE = 393
_MOST_COUNTS = 250
_NO_BACKGROUND = -1
_SAID_BITS = 10


@njit(nogil=True, cache=True)
def code_background(
    background: Octets,
    depth: int,
    rows: int,
    columns: int,
    octets: Octets,
    state: Longs,
    decoding: bool,
    tables: Tables,
) -> None:
    """Codes which voxels are background (1), of (depth, rows, columns)."""
    squash, stretch, rate = tables[3], tables[4], tables[7]
    wide = np.full(1 << 14, 32768, np.int64)
    wide_said = np.zeros(1 << 14, np.int64)
    near = np.full(1 << 7, 32768, np.int64)
    near_said = np.zeros(1 << 7, np.int64)
    whole = np.full(16, 32768, np.int64)
    weights = np.full(2 * 128, 32768, np.int64)
    width, height = columns + 2 * PAD, rows + PAD
    # One plane before the first is background, and so is all that is not known yet.
    padded = np.ones((depth + 2) * (height + PAD) * width, np.uint8)
    area = (height + PAD) * width
    kinds = np.ones((depth + 1) * (rows + 1), np.int64)  # of rows: 1 background, 0 none, 2 mixed
    for z in range(depth):
        for y in range(rows):
            at = (z * rows + y) * columns
            row = (z + 2) * area + (y + PAD) * width + PAD
            above = kinds[(z + 1) * (rows + 1) + y]
            behind = kinds[z * (rows + 1) + y + 1]
            kind = 0
            if not decoding:
                owned = 0
                for x in range(columns):
                    owned += background[at + x]
                kind = 1 if owned == columns else 2
            context = min(above, 2) * 3 + min(behind, 2)
            p = min(65000, max(536, whole[context]))
            flat = code_bit(state, octets, decoding, 1 if kind == 1 else 0, p)
            whole[context] += ((flat << 16) - whole[context]) >> 4
            if flat:
                kind = 1
                for x in range(columns):
                    background[at + x] = 1
            else:
                kind = 2
                for x in range(columns):
                    here = row + x
                    padded[here] = 1
                    b = padded
                    c7 = (
                        b[here - 1]
                        | b[here - width] << 1
                        | b[here - width + 1] << 2
                        | b[here - width - 1] << 3
                        | b[here - area] << 4
                        | b[here - area + 1] << 5
                        | b[here - area + width] << 6
                    )
                    c14 = (
                        c7
                        | b[here - 2] << 7
                        | b[here - 2 * width] << 8
                        | b[here - area - width] << 9
                        | b[here - area - 1] << 10
                        | b[here - area + width + 1] << 11
                        | b[here - width + 2] << 12
                        | b[here - 2 * area] << 13
                    )
                    s1, s2 = stretch[wide[c14] >> 4], stretch[near[c7] >> 4]
                    dot = (weights[2 * c7] * s1 + weights[2 * c7 + 1] * s2) >> 16
                    p = squash[min(3072, max(-3072, dot)) + 3072]
                    bit = code_bit(state, octets, decoding, int(background[at + x]), p)
                    background[at + x] = bit
                    padded[here] = bit
                    error = (bit << 16) - p
                    weights[2 * c7] += (error * s1 * 5) >> 16
                    weights[2 * c7 + 1] += (error * s2 * 5) >> 16
                    wide[c14] += (((bit << 16) - wide[c14]) * rate[wide_said[c14]]) >> 16
                    wide[c14] = min(65535, max(0, wide[c14]))
                    near[c7] += (((bit << 16) - near[c7]) * rate[near_said[c7]]) >> 16
                    near[c7] = min(65535, max(0, near[c7]))
                    wide_said[c14] = min(250, wide_said[c14] + 1)
                    near_said[c7] = min(250, near_said[c7] + 1)
            if kind == 1:
                for x in range(columns):
                    padded[row + x] = 1
            kinds[(z + 1) * (rows + 1) + y + 1] = kind


@njit(nogil=True, cache=True)
def _quarter(value: int, quarters: Ints) -> int:
    """Quarter octaves of a whole number below 2**28."""
    if value < 1 << 12:
        return quarters[value]
    if value < 1 << 20:
        return quarters[value >> 8] + 32
    return quarters[min(value >> 16, 4095)] + 64


@njit(nogil=True, cache=True)
def _scale(energy: int, quarters: Ints) -> int:
    """The scale of an expected error, in 1/512 of a sample."""
    return min(SCALES - 1, max(0, _quarter(energy + 64, quarters) - 24))


@njit(nogil=True, cache=True)
def _beyond(distance: int, near: Ints, far: Ints) -> int:
    """log(exp(d) - 1), d >= 0."""
    if distance < 1024:
        return near[distance]
    if distance < 81920:
        return far[distance >> 6]
    return distance


@njit(nogil=True, cache=True)
def _bend(x: int, softplus: Ints) -> int:
    """log(1 + exp(x)), |x| clamped to 20."""
    if x > 81920:
        return x
    return softplus[(max(x, -81920) + 81920 + 32) >> 6]


@njit(nogil=True, cache=True)
def _odds(
    mean: int, slope: int, threshold: int, low: int, high: int, most: int, tables: Tables
) -> int:
    """Log-odds in 1/256 that a voxel in low..high-1 is at least ``threshold``, by one expert."""
    softplus, near, far = tables[0], tables[1], tables[2]
    b = (((threshold << 4) - 8 - mean) * slope) >> 12
    b = min(1 << 24, max(-(1 << 24), b))
    value = -b
    if high <= most:
        h = (((high << 4) - 8 - mean) * slope) >> 12
        h = min(1 << 24, max(b, h))
        value = _beyond(h - b, near, far) - _bend(h, softplus)
        if low > 0:
            lo = (((low << 4) - 8 - mean) * slope) >> 12
            lo = min(b, max(-(1 << 24), lo))
            value = b + value - (lo + _beyond(b - lo, near, far) - _bend(lo, softplus))
    elif low > 0:
        lo = (((low << 4) - 8 - mean) * slope) >> 12
        lo = min(b, max(-(1 << 24), lo))
        value = _bend(-lo, softplus) - _beyond(b - lo, near, far)
    return min(3072, max(-3072, value >> 4))


@njit(nogil=True, cache=True)
def _ask(
    state: Longs,
    octets: Octets,
    decoding: bool,
    answer: int,
    threshold: int,
    low: int,
    high: int,
    most: int,
    node: int,
    place: int,
    mixer: int,
    mean: Longs,
    slope: Longs,
    inputs: Longs,
    weights: Longs,
    counters: Ints,
    tables: Tables,
) -> int:
    """One mixed question: whether the voxel is at least ``threshold``."""
    dot = 0
    for k in range(EXPERTS):
        inputs[k] = _odds(mean[k], slope[k], threshold, low, high, most, tables)
        dot += weights[mixer + k] * inputs[k]
    cell = place + node
    counter = counters[cell]
    if counter == 0:
        counter = tables[3][inputs[_BLEND] + 3072] << _SAID_BITS
    p_counter = counter >> _SAID_BITS
    inputs[EXPERTS] = tables[4][p_counter >> 4]
    dot += weights[mixer + EXPERTS] * inputs[EXPERTS] + weights[mixer + EXPERTS + 1] * 77
    p = tables[3][min(3072, max(-3072, dot >> 16)) + 3072]
    bit = code_bit(state, octets, decoding, answer, p)
    error = ((bit << 16) - p) * _MIX_RATE
    inputs[EXPERTS + 1] = 77
    for k in range(INPUTS):
        moved = weights[mixer + k] + ((error * inputs[k] + (1 << 23)) >> 24)
        weights[mixer + k] = min(1 << 20, max(-(1 << 20), moved))
    said = counter & 1023
    p_counter += (((bit << 16) - p_counter) * tables[7][said]) >> 16
    p_counter = min(65530, max(6, p_counter))
    counters[cell] = p_counter << _SAID_BITS | min(said + 1, _MOST_COUNTS)
    return bit


@njit(nogil=True, cache=True)
def code_brick(
    voxels: Ints,
    background: Octets,
    filler: int,
    most: int,
    depth: int,
    rows: int,
    columns: int,
    space: Ints,
    space_weights: Longs,
    flat: Ints,
    flat_weights: Longs,
    octets: Octets,
    decoding: bool,
    tables: Tables,
) -> int:
    """Codes a brick, (depth, rows, columns), flat; returns the bytes written or read.

    Args:
        voxels: samples 0..most; read by an encoder, written by a decoder.
        background: 1 where a voxel is ``filler``; read or written; unused where there is none.
        filler: the background's value, or -1.
        space, flat: (taps, 3) offsets (z, y, x) of the two linear experts.
        space_weights, flat_weights: one per tap and the constant behind them, 1/4096.
    """
    state = np.zeros(5, np.int64)
    start(state, octets, decoding)
    if filler >= 0:
        code_background(background, depth, rows, columns, octets, state, decoding, tables)
    quarters, inverse_square, steps = tables[5], tables[6], tables[8]
    width, area = columns + 2 * PAD, (rows + 2 * PAD) * (columns + 2 * PAD)
    known = np.zeros((depth + 2) * area + 2 * PAD, np.int32)
    # Errors need one plane before this one only: planes take turns.
    errors = np.zeros((2, area + 2 * PAD, EXPERTS), np.int32)
    taps = space.shape[0]
    flat_count = flat.shape[0]
    space_at = np.zeros(MOST_TAPS, np.int64)
    flat_at = np.zeros(MOST_TAPS, np.int64)
    for k in range(taps):
        space_at[k] = space[k, 0] * area + space[k, 1] * width + space[k, 2]
    for k in range(flat_count):
        flat_at[k] = flat[k, 1] * width + flat[k, 2]
    seen = np.zeros(MOST_TAPS, np.int64)
    online = np.zeros(MOST_TAPS, np.int64)
    sums = np.zeros(EXPERTS * SCALES, np.int64)
    counts = np.full(EXPERTS * SCALES, 8, np.int64)
    slopes = np.zeros(EXPERTS * SCALES, np.int64)
    for k in range(EXPERTS):
        for i in range(SCALES):
            # The mean error of a scale, in sixteenths, to begin with: 16 * 2 ** (i / 4 - 3).
            mean_error = (2 << (i >> 2)) + ((2 << (i >> 2)) * (i & 3) >> 2)
            sums[k * SCALES + i] = 8 * mean_error
            slopes[k * SCALES + i] = (23253156 * 8) // (8 * mean_error + 10)
    mixers = np.zeros((STEPS + 1) * (SCALES // 4) * INPUTS, np.int64)
    for i in range(mixers.size):
        kind = i % INPUTS
        mixers[i] = 16384 if kind < EXPERTS else (9830 if kind == EXPERTS else 0)
    counters = np.zeros(128 * (SCALES // 2) * _NODES, np.int32)
    mean = np.zeros(EXPERTS, np.int64)
    slope = np.zeros(EXPERTS, np.int64)
    scale = np.zeros(EXPERTS, np.int64)
    energy = np.zeros(EXPERTS, np.int64)
    inputs = np.zeros(INPUTS, np.int64)
    for z in range(depth):
        plane = (z + 2) * area
        if z > 0:
            for i in range(PAD * width):
                known[plane + i] = known[plane - area + PAD * width + i % width]
        now, before = errors[z & 1], errors[(z + 1) & 1]
        if z > 0:
            for i in range(PAD * width):
                for k in range(EXPERTS):
                    now[i, k] = before[PAD * width + i % width, k]
        for y in range(rows):
            line = plane + (y + PAD) * width + PAD
            e_line = line - plane
            left = line - width if y > 0 else line - area
            e_left = e_line - width if y > 0 else e_line
            for i in range(1, PAD + 1):
                known[line - i] = known[left]
                for k in range(EXPERTS):
                    now[e_line - i, k] = now[e_left, k]
                    if y > 0:
                        now[e_line - width + columns - 1 + i, k] = now[
                            e_line - width + columns - 1, k
                        ]
                if y > 0:
                    known[line - width + columns - 1 + i] = known[line - width + columns - 1]
            for x in range(columns):
                index = (z * rows + y) * columns + x
                at, e = line + x, e_line + x
                west, north, past = known[at - 1], known[at - width], known[at - area]
                if filler >= 0 and background[index]:
                    voxels[index] = filler
                    known[at] = (west + north + 2 * past) >> 2 if z > 0 else (west + north) >> 1
                    for k in range(EXPERTS):
                        now[e, k] = (now[e - 1, k] + now[e - width, k]) >> 1
                    continue
                # The linear experts.
                linear = flat_weights[flat_count]
                for k in range(flat_count):
                    linear += flat_weights[k] * known[at + flat_at[k]]
                mean[1] = linear >> 8
                if z == 0 and depth > 1:
                    mean[0] = mean[1]
                else:
                    linear = space_weights[taps]
                    for k in range(taps):
                        linear += space_weights[k] * known[at + space_at[k]]
                    mean[0] = linear >> 8
                mean[0] = min(most << 4, max(0, mean[0]))
                mean[1] = min(most << 4, max(0, mean[1]))
                # The corrected one: what is left of the space's, learned while coding.
                correction, power = 0, 256
                centre = mean[0]
                for k in range(taps):
                    d = (known[at + space_at[k]] << 4) - centre
                    seen[k] = d
                    correction += online[k] * d
                    power += d * d
                mean[2] = min(most << 4, max(0, centre + (correction >> 16)))
                # What each may be wrong by, from its errors around here.
                for k in range(EXPERTS):
                    total = (
                        5 * (now[e - 1, k] + now[e - width, k])
                        + 2 * now[e - width - 1, k]
                        + 3 * now[e - width + 1, k]
                        + 2 * (now[e - 2, k] + now[e - 2 * width, k])
                    )
                    if z > 0:
                        total += 5 * before[e, k] + 2 * (
                            before[e - 1, k]
                            + before[e + 1, k]
                            + before[e - width, k]
                            + before[e + width, k]
                        )
                    else:
                        total = total * 27 >> 4
                    energy[k] = total
                numerator, denominator = 0, 0
                for k in range(_BLEND):
                    scale[k] = _scale(energy[k], quarters)
                    weight = inverse_square[scale[k]]
                    numerator += weight * (mean[k] - centre)
                    denominator += weight
                mean[_BLEND] = min(most << 4, max(0, centre + numerator // denominator))
                edge = abs(west - north)
                if z > 0:
                    edge += abs(past - west)
                level = _scale(energy[_BLEND] + 15 * edge, quarters)
                scale[_BLEND] = level
                for k in range(EXPERTS):
                    slope[k] = slopes[k * SCALES + scale[k]]
                # The voxel, by questions.
                target = voxels[index]
                low, high = 0, most + 1
                first = min(most, max(1, (mean[_BLEND] + 16) >> 4))
                border = (first << 4) - 8
                relation = (
                    (mean[0] > border)
                    | (mean[_CORRECTED] > border) << 1
                    | ((west << 4) > border) << 2
                    | ((north << 4) > border) << 3
                    | ((past << 4) > border) << 4
                    | ((known[at - width + 1] << 4) > border) << 5
                    | (mean[1] > border) << 6
                )
                place = (relation * (SCALES // 2) + (level >> 1)) * _NODES
                mixer = (level >> 2) * (STEPS + 1) * INPUTS
                up = _ask(
                    state,
                    octets,
                    decoding,
                    1 if target >= first else 0,
                    first,
                    low,
                    high,
                    most,
                    0,
                    place,
                    mixer,
                    mean,
                    slope,
                    inputs,
                    mixers,
                    counters,
                    tables,
                )
                step, reach = 0, 0
                if up:
                    low = first
                else:
                    high = first
                while high - low > 1:
                    if step < STEPS - 1:
                        reach = steps[level * STEPS + step]
                        step += 1
                    else:
                        reach = 2 * reach
                    threshold = first + reach if up else first - reach
                    if threshold > most or threshold < 1:
                        break
                    bit = _ask(
                        state,
                        octets,
                        decoding,
                        1 if target >= threshold else 0,
                        threshold,
                        low,
                        high,
                        most,
                        step + (0 if up else STEPS),
                        place,
                        mixer + step * INPUTS,
                        mean,
                        slope,
                        inputs,
                        mixers,
                        counters,
                        tables,
                    )
                    if bit:
                        low = threshold
                    else:
                        high = threshold
                    if bit != up:
                        break
                while high - low > 1:
                    if ((high - low) * slope[_BLEND]) >> 8 < _EVEN_BELOW:
                        low += code_even(state, octets, decoding, target - low, high - low)
                        break
                    threshold = (low + high) >> 1
                    odds = _odds(mean[_BLEND], slope[_BLEND], threshold, low, high, most, tables)
                    bit = code_bit(
                        state,
                        octets,
                        decoding,
                        1 if target >= threshold else 0,
                        tables[3][odds + 3072],
                    )
                    if bit:
                        low = threshold
                    else:
                        high = threshold
                target = low
                # What was learned.
                voxels[index] = target
                known[at] = target
                expected = sums[_BLEND * SCALES + level] // counts[_BLEND * SCALES + level]
                for k in range(EXPERTS):
                    error = min(_MOST_ERROR, abs((target << 4) - mean[k]))
                    now[e, k] = error
                    cell = k * SCALES + scale[k]
                    sums[cell] += error
                    counts[cell] += 1
                    slopes[cell] = (23253156 * counts[cell]) // (sums[cell] + counts[cell])
                    if counts[cell] > 400:
                        sums[cell] >>= 1
                        counts[cell] >>= 1
                missed = (target << 4) - mean[_CORRECTED]
                missed = min(3 * expected, max(-3 * expected, missed))
                gain = (missed * 402653) // (power + taps * expected * expected + 1)
                for k in range(taps):
                    online[k] += (gain * seen[k] + 128) >> 8
        line = plane + (rows - 1 + PAD) * width + PAD
        e_line = line - plane
        for i in range(1, PAD + 1):
            known[line + columns - 1 + i] = known[line + columns - 1]
            for k in range(EXPERTS):
                now[e_line + columns - 1 + i, k] = now[e_line + columns - 1, k]
        for row in range(1, PAD + 1):
            for i in range(width):
                known[line - PAD + row * width + i] = known[line - PAD + i]
                for k in range(EXPERTS):
                    now[e_line - PAD + row * width + i, k] = now[e_line - PAD + i, k]
    if decoding:
        return state[4]
    return finish(state, octets)
