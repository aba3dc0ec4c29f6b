"""What voxels before a voxel say of it, by several experts; and what is learned when it is known.

    space       least squares over three planes, weights sent with the brick
    plane       least squares in its own plane, the same way
    corrected   space, and a filter of its taps that learns while coding
    online      (`archive`) least squares over what was coded around here, `online`
    blend       their mean, each weighted by how well it did around here

Predictions and errors are in sixteenths of a sample. Whole numbers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.codecs.causal.kernels import inlined
from shared.codecs.causal.layout import INVERSE_SQUARE, PLACES, QUARTERS, SCALES, STEPS
from shared.codecs.causal.memory import (
    COUNTS,
    FILTER,
    MEAN,
    MIXERS,
    MOST_INPUTS,
    POWER,
    SCALE,
    SEEN,
    SLOPE,
    SLOPES,
    SUMS,
    VALUES,
    WORDS,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.causal.tables import Table

    Ints = NDArray[np.int32]
    Longs = NDArray[np.int64]

SPACE, PLANE, CORRECTED, ONLINE = 0, 1, 2, 3
"""Places of experts; the last one is the blend, wherever that is."""
_MOST_ERROR = 1 << 18
_MOST_COUNTS = 400
_COUNTER_WEIGHT = 9830
"""Of the adaptive bit, to begin with; the experts share 65536."""
_SLOPE = 23253156
"""1.386 in the units of a curve: a logistic curve's scale is its mean error over that."""


@inlined
def new_memory(experts: tuple[int, ...]) -> Longs:
    """What a brick begins with."""
    memory = np.zeros(WORDS, np.int64)
    count = len(experts)
    for k in range(count):
        for i in range(SCALES):
            # The mean error of a scale, in sixteenths: 16 * 2 ** (i / 4 - 3).
            mean_error = (2 << (i >> 2)) + ((2 << (i >> 2)) * (i & 3) >> 2)
            cell = k * SCALES + i
            memory[SUMS + cell] = 8 * mean_error
            memory[COUNTS + cell] = 8
            memory[SLOPES + cell] = (_SLOPE * 8) // (8 * mean_error + 10)
    for row in range(STEPS * (SCALES // 4) + 2 * PLACES):
        at = MIXERS + row * MOST_INPUTS
        for k in range(count):
            memory[at + k] = 65536 // count
        memory[at + count] = _COUNTER_WEIGHT
    return memory


@inlined
def linear(memory: Longs, values: int, weights: Longs, count: int, most: int) -> int:
    """A weighted sum of what stands at ``values``, its constant behind the weights, clamped."""
    total = int(weights[count])
    for k in range(count):
        total += weights[k] * memory[values + k]
    return min(most << 4, max(0, total >> 8))


@inlined
def correct(memory: Longs, count: int, centre: int, most: int) -> int:
    """The prediction ``centre``, corrected by what the filter has learned."""
    correction, power = 0, 256
    for k in range(count):
        d = (memory[VALUES + k] << 4) - centre
        memory[SEEN + k] = d
        correction += memory[FILTER + k] * d
        power += d * d
    memory[POWER] = power
    return min(most << 4, max(0, centre + (correction >> 16)))


@inlined
def expected(now: Ints, before: Ints, e: int, k: int, width: int, behind: bool) -> int:
    """How wrong an expert was around here, in 1/512 of a sample."""
    total = (
        5 * (now[e - 1, k] + now[e - width, k])
        + 2 * now[e - width - 1, k]
        + 3 * now[e - width + 1, k]
        + 2 * (now[e - 2, k] + now[e - 2 * width, k])
    )
    if not behind:
        return int(total * 27 >> 4)
    return int(total) + int(
        5 * before[e, k]
        + 2 * (before[e - 1, k] + before[e + 1, k] + before[e - width, k] + before[e + width, k])
    )


@inlined
def scale_of(energy: int, table: Table) -> int:
    """The scale of an expected error, in 1/512 of a sample."""
    return min(SCALES - 1, max(0, _quarter(energy + 64, table) - 24))


@inlined
def _quarter(value: int, table: Table) -> int:
    """Quarter octaves of a whole number below 2**28."""
    if value < 1 << 12:
        return int(table[QUARTERS + value])
    if value < 1 << 20:
        return int(table[QUARTERS + (value >> 8)]) + 32
    return int(table[QUARTERS + min(value >> 16, 4095)]) + 64


@inlined
def blend(
    memory: Longs,
    now: Ints,
    before: Ints,
    e: int,
    width: int,
    behind: bool,
    most: int,
    table: Table,
    experts: tuple[int, ...],
) -> None:
    """The mean of the experts, weighted by their expected errors."""
    last = len(experts) - 1
    centre = memory[MEAN + SPACE]
    numerator, denominator = 0, 0
    for k in range(last):
        scale = scale_of(expected(now, before, e, k, width, behind), table)
        memory[SCALE + k] = scale
        weight = table[INVERSE_SQUARE + scale]
        numerator += weight * (memory[MEAN + k] - centre)
        denominator += weight
    memory[MEAN + last] = min(most << 4, max(0, centre + numerator // denominator))


@inlined
def set_curves(memory: Longs, level: int, experts: tuple[int, ...]) -> None:
    """Every expert's curve; ``level`` is the scale of the blend's expected error."""
    memory[SCALE + len(experts) - 1] = level
    for k in range(len(experts)):
        memory[SLOPE + k] = memory[SLOPES + k * SCALES + memory[SCALE + k]]


@inlined
def learn_errors(memory: Longs, now: Ints, e: int, target: int, experts: tuple[int, ...]) -> int:
    """What each expert was wrong by; returns the blend's mean error at this scale till now."""
    mean_error = 0
    for k in range(len(experts)):
        error = min(_MOST_ERROR, abs(target - memory[MEAN + k]))
        now[e, k] = error
        cell = k * SCALES + memory[SCALE + k]
        total, count = memory[SUMS + cell], memory[COUNTS + cell]
        mean_error = total // count
        total += error
        count += 1
        memory[SLOPES + cell] = (_SLOPE * count) // (total + count)
        if count > _MOST_COUNTS:
            total >>= 1
            count >>= 1
        memory[SUMS + cell], memory[COUNTS + cell] = total, count
    return mean_error


@inlined
def learn_filter(memory: Longs, target: int, mean_error: int, count: int) -> None:
    """A normalised LMS step of the filter, by what the corrected expert was wrong by."""
    missed = target - memory[MEAN + CORRECTED]
    missed = min(3 * mean_error, max(-3 * mean_error, missed))
    gain = (missed * 402653) // (memory[POWER] + count * mean_error * mean_error + 1)
    for k in range(count):
        memory[FILTER + k] += (gain * memory[SEEN + k] + 128) >> 8
