"""The range coder: what goes in comes out, in as many bits as its probabilities say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codecs.causal.range_coder import STATE_WORDS, code_bit, code_even, finish, start
from tests.contracts.codec import quickly


@dataclass(frozen=True)
class Choice:
    """A symbol: a bit with its probability in 1/65536, or one value of ``count``."""

    value: int
    p: int = 0
    count: int = 0


bits = st.builds(
    Choice,
    st.integers(0, 1),
    p=st.one_of(st.integers(1, 65535), st.sampled_from([1, 2, 32768, 65534, 65535])),
)
evens = st.integers(1, 65536).flatmap(
    lambda count: st.builds(Choice, st.integers(0, count - 1), count=st.just(count))
)


def encode(choices: list[Choice], room: int) -> bytes:
    state, octets = np.zeros(STATE_WORDS, np.int64), np.zeros(room, np.uint8)
    start(state, octets, False)
    for choice in choices:
        if choice.count:
            code_even(state, octets, False, choice.value, choice.count)
        else:
            code_bit(state, octets, False, choice.value, choice.p)
    length = finish(state, octets)
    assert length <= room
    return octets[:length].tobytes()


def decode(stream: bytes, choices: list[Choice]) -> list[int]:
    """What the stream holds; of the choices only their probabilities are looked at."""
    state, octets = np.zeros(STATE_WORDS, np.int64), np.frombuffer(stream, np.uint8).copy()
    start(state, octets, True)
    return [
        code_even(state, octets, True, 0, choice.count)
        if choice.count
        else code_bit(state, octets, True, 0, choice.p)
        for choice in choices
    ]


@given(choices=st.lists(st.one_of(bits, evens), max_size=300))
@quickly
def test_what_was_coded_comes_back(choices: list[Choice]) -> None:
    assert decode(encode(choices, 2000), choices) == [choice.value for choice in choices]


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("p", [1, 200, 32768, 65535])
def test_carries_run_through_long_chains(value: int, p: int) -> None:
    choices = [Choice(value, p)] * 400 + [Choice(1 - value, p)] + [Choice(value, p)] * 400
    assert decode(encode(choices, 4000), choices) == [choice.value for choice in choices]


def test_it_takes_as_many_bits_as_the_probabilities_say() -> None:
    rng = np.random.default_rng(3)
    choices, ideal = [], 0.0
    for p in rng.integers(300, 65236, 20_000):
        value = int(rng.integers(65536) < p)
        choices.append(Choice(value, p=int(p)))
        ideal -= math.log2(p / 65536 if value else 1 - p / 65536)
    assert len(encode(choices, 20_000)) * 8 < 1.001 * ideal + 16


def test_it_writes_nothing_behind_its_buffer_and_says_how_much_it_missed() -> None:
    state, octets = np.zeros(STATE_WORDS, np.int64), np.zeros(10, np.uint8)
    start(state, octets, False)
    for value in range(100):
        code_even(state, octets, False, value, 65536)
    assert finish(state, octets) > 10


def test_a_decoder_ends_on_any_bytes() -> None:
    choices = [Choice(0, count=65536), Choice(0, p=1), Choice(0, p=65535)] * 200
    for stream in (b"", b"\xff" * 9, b"\x00", b"\x80" * 500):
        for choice, value in zip(choices, decode(stream, choices), strict=True):
            assert 0 <= value < (choice.count or 2)
