"""Which packets have come, and how an acknowledgement names them."""

from __future__ import annotations

import random

import pytest

from shared.transports.webrtc.received import MAX_GAP, MAX_GAPS, Received

LAST = 0xFFFF_FFFE
"""So that numbers wrap in every test."""


def tsn(place: int) -> int:
    return (LAST + place) % (1 << 32)


def having(*places: int) -> Received:
    received = Received(LAST)
    for place in places:
        assert received.add(tsn(place))
    return received


def test_what_comes_in_order_leaves_no_gap() -> None:
    received = having(1, 2, 3)
    assert received.last_tsn == tsn(3)
    assert received.gaps() == []
    assert len(received) == 0


def test_gaps_are_counted_from_the_last_number_without_one() -> None:
    received = having(1, 3, 4, 7)
    assert received.last_tsn == tsn(1)
    assert received.gaps() == [(2, 3), (6, 6)]


def test_a_number_that_fills_a_gap_moves_everything_behind_it() -> None:
    received = having(1, 3, 4, 7)
    assert received.add(tsn(2))
    assert received.last_tsn == tsn(4)
    assert received.gaps() == [(3, 3)]
    assert list(received.passed_since(tsn(1))) == [tsn(2), tsn(3), tsn(4)]


@pytest.mark.parametrize("place", [1, 0, -5, 3, 4])
def test_what_has_come_is_not_new(place: int) -> None:
    received = having(1, 3, 4)
    assert not received.add(tsn(place))
    assert received.gaps() == [(2, 3)]


def test_no_more_gaps_are_named_than_fit_and_none_that_has_no_number() -> None:
    received = having(*range(2, 2 * MAX_GAPS + 22, 2))
    assert len(received.gaps()) == MAX_GAPS
    assert having(5, MAX_GAP + 1).gaps() == [(5, 5)]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_and_any_doubles_end_in_the_same_place(seed: int) -> None:
    chance = random.Random(seed)
    places = [place for place in range(1, 200) for _ in range(chance.choice((1, 1, 2)))]
    chance.shuffle(places)
    received, come = Received(LAST), set[int]()
    for place in places:
        assert received.add(tsn(place)) is (place not in come)
        come.add(place)
        whole = next(n for n in range(201) if n + 1 not in come)
        assert received.last_tsn == tsn(whole)
        named = {n for first, last in received.gaps() for n in range(first, last + 1)}
        assert named == {n - whole for n in come if n > whole}
    assert received.last_tsn == tsn(199)
