"""A voxel found by questions, each answered by every expert and mixed.

    "at least t?"   log-odds of each expert, an adaptive bit -> mixer -> probability -> coded bit

First on which side of the prediction it lies, then in steps that grow with the expected error,
until it stands between two thresholds; what is left is halved, and coded evenly once it is narrow.
Each expert answers by a logistic curve around its own prediction, given what was asked before; an
online logistic mixer weighs them (Mattern 2013; Mahoney's PAQ).

Thresholds are multiples of a step: 1 for an exact voxel, more for a rung of bounded error. A rung
below begins with the interval that the one above it has found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.codecs.causal.kernels import inlined
from shared.codecs.causal.layout import (
    BIAS,
    EXPERTS,
    FAR,
    NEAR,
    QUARTERS,
    RATE,
    SCALES,
    SOFTPLUS,
    SQUASH,
    STEP_TABLE,
    STEPS,
    STRETCH,
)
from shared.codecs.causal.memory import (
    ASKED,
    HIGH_END,
    INPUTS,
    LOW_END,
    MEAN,
    MIXERS,
    MOST_INPUTS,
    SECONDS,
    SLOPE,
)
from shared.codecs.causal.range_coder import code_bit, code_even

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared.codecs.causal.tables import Table

    Ints = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Octets = NDArray[np.uint8]

NODES = 2 * STEPS
_EVEN_BELOW = 1024
"""A gap this narrow, in 1/4096 of log-odds, is coded evenly."""
_MIX_RATE = 393
_MOST_COUNTS = 250
_SAID_BITS = 10
_FARTHEST = 1 << 24
"""On a curve, in 1/4096."""


@inlined
def code_value(
    state: Longs,
    octets: Octets,
    decoding: bool,
    memory: Longs,
    counters: Ints,
    target: int,
    low: int,
    high: int,
    step: int,
    most: int,
    place: int,
    level: int,
    first: int,
    table: Table,
    experts: tuple[int, ...],
) -> tuple[int, int]:
    """Codes a voxel of the interval low..high-1; returns the interval that it is known to be in.

    Args:
        target: the voxel; any number for a decoder.
        step: thresholds are its multiples.
        place: the context, below `PLACES`.
        level: the scale of the expected error.
        first: the number of the first threshold.
    """
    blend = len(experts) - 1
    left, right = low // step, (high - 1) // step + 1
    is_open = low <= 0 and high > most
    if not is_open:
        for k in range(len(experts)):
            memory[LOW_END + k] = _on_curve(low, memory[MEAN + k], memory[SLOPE + k])
            memory[HIGH_END + k] = _on_curve(high, memory[MEAN + k], memory[SLOPE + k])
    cells = (place * (SCALES // 2) + (level >> 1)) * NODES
    sets = (level >> 2) * STEPS
    second = place << 1
    coarse = max(0, level - table[QUARTERS + step]) * STEPS
    number, reach, node, up = first, 0, 0, -1
    asked = 0
    while right - left > 1:
        if asked:
            reach = table[STEP_TABLE + coarse + asked - 1] if asked < STEPS else 2 * reach
            number = first + reach if up else first - reach
            if number <= left or number >= right:
                break
            node = min(asked, STEPS - 1) + (0 if up else STEPS)
        bit = _ask(
            state, octets, decoding, memory, counters, target, number * step, low, high, most,
            cells + node, sets + min(asked, STEPS - 1), second + (asked > 0), table, experts,
        )  # fmt: skip
        if bit:
            left, low = number, number * step
            for k in range(len(experts)):
                memory[LOW_END + k] = memory[ASKED + k]
        else:
            right, high = number, number * step
            for k in range(len(experts)):
                memory[HIGH_END + k] = memory[ASKED + k]
        if asked and bit != up:
            break
        up = bit if asked == 0 else up
        asked += 1
    while right - left > 1:
        if ((high - low) * memory[SLOPE + blend]) >> 8 < _EVEN_BELOW:
            left += code_even(
                state,
                octets,
                decoding,
                min(right - left - 1, max(0, target // step - left)),
                right - left,
            )
            low, high = max(low, left * step), min(high, (left + 1) * step)
            break
        number = (left + right) >> 1
        threshold = number * step
        middle = _on_curve(threshold, memory[MEAN + blend], memory[SLOPE + blend])
        odds = _odds(
            middle, memory[LOW_END + blend], memory[HIGH_END + blend], low > 0, high <= most, table
        )
        if code_bit(
            state, octets, decoding, 1 if target >= threshold else 0, table[SQUASH + odds + 3072]
        ):
            left, low = number, threshold
            memory[LOW_END + blend] = middle
        else:
            right, high = number, threshold
            memory[HIGH_END + blend] = middle
    return low, high


@inlined
def _ask(
    state: Longs,
    octets: Octets,
    decoding: bool,
    memory: Longs,
    counters: Ints,
    target: int,
    threshold: int,
    low: int,
    high: int,
    most: int,
    cell: int,
    row: int,
    second: int,
    table: Table,
    experts: tuple[int, ...],
) -> int:
    """One mixed question: whether the voxel is at least ``threshold``."""
    count = len(experts)
    at = MIXERS + row * MOST_INPUTS
    other = SECONDS + second * MOST_INPUTS
    dot, dot2 = 0, 0
    for k in range(count):
        here = _on_curve(threshold, memory[MEAN + k], memory[SLOPE + k])
        memory[ASKED + k] = here
        memory[INPUTS + k] = _odds(
            here, memory[LOW_END + k], memory[HIGH_END + k], low > 0, high <= most, table
        )
        dot += memory[at + k] * memory[INPUTS + k]
    counter = counters[cell]
    if counter == 0:
        counter = table[SQUASH + memory[INPUTS + count - 1] + 3072] << _SAID_BITS
    chance = counter >> _SAID_BITS
    memory[INPUTS + count] = table[STRETCH + (chance >> 4)]
    memory[INPUTS + count + 1] = BIAS
    dot += memory[at + count] * memory[INPUTS + count] + memory[at + count + 1] * BIAS
    odds = min(3072, max(-3072, dot >> 16))
    p = table[SQUASH + odds + 3072]
    if count > EXPERTS:
        for k in range(count + 2):
            dot2 += memory[other + k] * memory[INPUTS + k]
        odds2 = min(3072, max(-3072, dot2 >> 16))
        both = table[SQUASH + ((odds + odds2) >> 1) + 3072]
        bit = code_bit(state, octets, decoding, 1 if target >= threshold else 0, both)
        error = ((bit << 16) - table[SQUASH + odds2 + 3072]) * _MIX_RATE
        _learn(memory, other, error, count)
    else:
        bit = code_bit(state, octets, decoding, 1 if target >= threshold else 0, p)
    _learn(memory, at, ((bit << 16) - p) * _MIX_RATE, count)
    said = counter & 1023
    chance += (((bit << 16) - chance) * table[RATE + said]) >> 16
    chance = min(65530, max(6, chance))
    counters[cell] = chance << _SAID_BITS | min(said + 1, _MOST_COUNTS)
    return bit


@inlined
def _learn(memory: Longs, at: int, error: int, count: int) -> None:
    for k in range(count + 2):
        moved = memory[at + k] + ((error * memory[INPUTS + k] + (1 << 23)) >> 24)
        memory[at + k] = min(1 << 20, max(-(1 << 20), moved))


@inlined
def _on_curve(threshold: int, mean: int, slope: int) -> int:
    """Where a threshold lies on an expert's curve, in 1/4096 of log-odds."""
    return min(_FARTHEST, max(-_FARTHEST, (((threshold << 4) - 8 - mean) * slope) >> 12))


@inlined
def _odds(here: int, low: int, high: int, has_low: bool, has_high: bool, table: Table) -> int:
    """Log-odds in 1/256 that a voxel between ``low`` and ``high`` is at least ``here``."""
    value = -here
    if has_high:
        value = _beyond(max(0, high - here), table) - _bend(high, table)
        if has_low:
            below = low + _beyond(max(0, here - low), table) - _bend(low, table)
            value = here + value - below
    elif has_low:
        value = _bend(-low, table) - _beyond(max(0, here - low), table)
    return min(3072, max(-3072, value >> 4))


@inlined
def _beyond(distance: int, table: Table) -> int:
    """log(exp(d) - 1), d >= 0."""
    if distance < 1024:
        return int(table[NEAR + distance])
    if distance < 81920:
        return int(table[FAR + (distance >> 6)])
    return distance


@inlined
def _bend(x: int, table: Table) -> int:
    """log(1 + exp(x)), |x| clamped to 20."""
    if x > 81920:
        return x
    return int(table[SOFTPLUS + ((max(x, -81920) + 81920 + 32) >> 6)])
