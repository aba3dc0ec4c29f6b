"""A binary range coder in whole numbers, compiled: 40-bit window, carries go into what is written.

A coder is three numbers. Loops that must be fast keep them in hand (`shift`, `carry`); others keep
them in an int64 array, so that model and coder compile into one loop:

    LOW, RANGE        encoder: the interval; decoder: LOW is the code's distance from its start
    AT                bytes written or read so far; may run past the buffer's end

An encoder that runs past its buffer writes nothing there and is told by AT. A decoder reads zeros
there: trailing zeros are not stored. After Martin, "Range encoding" (1979).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.codecs.causal.kernels import inlined, kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.int64]
    Octets = NDArray[np.uint8]

LOW, RANGE, AT = 0, 1, 2
STATE_WORDS = 3
WINDOW = 1 << 40
SMALLEST = 1 << 32
"""A range below it is shifted by a byte."""


@kernel
def start(state: Words, octets: Octets, decoding: bool) -> None:
    """Before the first symbol."""
    state[LOW] = 0
    state[RANGE] = WINDOW
    state[AT] = 0
    if decoding:
        for at in range(5):
            state[LOW] = state[LOW] << 8 | (octets[at] if at < octets.size else 0)
        state[AT] = 5


@kernel
def code_bit(state: Words, octets: Octets, decoding: bool, bit: int, p: int) -> int:
    """Codes a bit that is 1 with probability ``p`` / 65536, 0 < p < 65536; returns it."""
    bound = (state[RANGE] >> 16) * p
    if decoding:
        bit = 1 if state[LOW] < bound else 0
    if bit:
        state[RANGE] = bound
    else:
        state[RANGE] -= bound
        # A decoder's code moves down by what an encoder's interval moves up.
        state[LOW] += -bound if decoding else bound
    _narrow(state, octets, decoding)
    return bit


@kernel
def code_even(state: Words, octets: Octets, decoding: bool, value: int, count: int) -> int:
    """Codes one of ``count`` equally likely values, 1 <= count <= 65536; returns it."""
    share = state[RANGE] // count
    if decoding:
        value = min(state[LOW] // share, count - 1)
        state[LOW] -= share * value
    else:
        state[LOW] += share * value
    if value == count - 1:  # it gets what the division left over
        state[RANGE] -= share * value
    else:
        state[RANGE] = share
    _narrow(state, octets, decoding)
    return value


@kernel
def finish(state: Words, octets: Octets) -> int:
    """After an encoder's last symbol: how many bytes there are, trailing zeros left off."""
    low, top = state[LOW], state[LOW] + state[RANGE] - 1
    mask = 0
    while (top & ~(2 * mask + 1)) >= low and mask < WINDOW:
        mask = 2 * mask + 1
    low, length = carry(top & ~mask, state[AT], octets), state[AT]
    for _ in range(5):
        low, length = shift(low, length, octets, False)
    if length <= octets.size:
        while length > 0 and octets[length - 1] == 0:
            length -= 1
    return length


@inlined
def shift(low: int, at: int, octets: Octets, decoding: bool) -> tuple[int, int]:
    """LOW and AT a byte further; the range is the caller's to shift."""
    if decoding:
        low = low << 8 | (octets[at] if at < octets.size else 0)
    else:
        if at < octets.size:
            octets[at] = low >> 32
        low = (low & (SMALLEST - 1)) << 8
    return low, at + 1


@inlined
def carry(low: int, at: int, octets: Octets) -> int:
    """An encoder's LOW within the window; what ran over it is added to what is written."""
    if low >= WINDOW:
        at = min(at, octets.size) - 1
        while at >= 0 and octets[at] == 0xFF:
            octets[at] = 0
            at -= 1
        if at >= 0:
            octets[at] += 1
        low -= WINDOW
    return low


@inlined
def _narrow(state: Words, octets: Octets, decoding: bool) -> None:
    """After a symbol."""
    if not decoding:
        state[LOW] = carry(state[LOW], state[AT], octets)
    while state[RANGE] < SMALLEST:
        state[RANGE] <<= 8
        state[LOW], state[AT] = shift(state[LOW], state[AT], octets, decoding)
