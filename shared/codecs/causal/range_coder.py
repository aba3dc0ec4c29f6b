"""A binary range coder in whole numbers, compiled: 40-bit window, carries resolved on the way.

The state is an int64 array, so that model and coder compile into one loop:

    LOW, RANGE        encoder: the interval; decoder: LOW is the code's distance from its start
    HELD, PENDING     encoder: the last byte that a carry may still reach (-1: none yet), and how
                      many 0xFF bytes wait behind it
    AT                bytes written or read so far; may run past the buffer's end

An encoder that runs past its buffer writes nothing there and is told by AT. A decoder reads zeros
there: trailing zeros are not stored. After Martin, "Range encoding" (1979), with the carry
handling of LZMA's coder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba import njit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.int64]
    Octets = NDArray[np.uint8]

LOW, RANGE, HELD, PENDING, AT = 0, 1, 2, 3, 4
STATE_WORDS = 5
_WINDOW = 1 << 40
_SMALLEST = 1 << 32


@njit(nogil=True, cache=True)
def start(state: Words, octets: Octets, decoding: bool) -> None:
    """Before the first symbol."""
    state[LOW] = 0
    state[RANGE] = _WINDOW
    state[HELD] = -1
    state[PENDING] = 0
    state[AT] = 0
    if decoding:
        for _ in range(5):
            state[LOW] = state[LOW] << 8 | _next(state, octets)


@njit(nogil=True, cache=True)
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
    while state[RANGE] < _SMALLEST:
        _shift(state, octets, decoding)
    return bit


@njit(nogil=True, cache=True)
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
    while state[RANGE] < _SMALLEST:
        _shift(state, octets, decoding)
    return value


@njit(nogil=True, cache=True)
def finish(state: Words, octets: Octets) -> int:
    """After an encoder's last symbol: how many bytes there are, trailing zeros left off."""
    low, top = state[LOW], state[LOW] + state[RANGE] - 1
    mask = 0
    while (top & ~(2 * mask + 1)) >= low and mask < _WINDOW:
        mask = 2 * mask + 1
    state[LOW] = top & ~mask
    for _ in range(6):
        _shift(state, octets, False)
    length = state[AT]
    if length <= octets.size:
        while length > 0 and octets[length - 1] == 0:
            length -= 1
    return length


@njit(nogil=True, cache=True)
def _shift(state: Words, octets: Octets, decoding: bool) -> None:
    state[RANGE] <<= 8
    if decoding:
        state[LOW] = state[LOW] << 8 | _next(state, octets)
        return
    low = state[LOW]
    if low < 0xFF << 32 or low >= _WINDOW:
        carry = low >> 40
        if state[HELD] >= 0:
            _put(state, octets, state[HELD] + carry)
        for _ in range(state[PENDING]):
            _put(state, octets, 0xFF + carry & 0xFF)
        state[PENDING] = 0
        state[HELD] = low >> 32 & 0xFF
    else:
        state[PENDING] += 1
    state[LOW] = (low & 0xFFFFFFFF) << 8


@njit(nogil=True, cache=True)
def _put(state: Words, octets: Octets, octet: int) -> None:
    if state[AT] < octets.size:
        octets[state[AT]] = octet
    state[AT] += 1


@njit(nogil=True, cache=True)
def _next(state: Words, octets: Octets) -> int:
    octet = 0
    if state[AT] < octets.size:
        octet = octets[state[AT]]
    state[AT] += 1
    return octet
