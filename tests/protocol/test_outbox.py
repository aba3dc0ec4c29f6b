from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import limits
from protocol import messages as m
from protocol.outbox import Outbox
from protocol.stages import UNFOCUSED, Priority
from shared.errors import LocalProtocolError, RemoteProtocolError
from tests.protocol import examples

if TYPE_CHECKING:
    from protocol.frames import Fragment

SIZE = 2 * limits.CHUNK_BYTES + 500
STANDING = m.Standing(True, False, 1, 0, (1,), (), (), ())


def priority(place: int) -> Priority:
    return Priority(UNFOCUSED, 0, 0, 0, 0, place)


def outbox(*places: int, size: int = SIZE) -> Outbox:
    """One encoding a place in the order, numbered as they are given."""
    made = Outbox()
    for number, place in enumerate(places):
        encoding = bytes([number]) * size
        made.put(examples.offer(number, encoding), encoding, priority(place))
    return made


def drained(made: Outbox, size: int = limits.MAX_FRAGMENT_BYTES) -> list[Fragment]:
    """All that is still to be sent, in the order in which it would leave."""
    found = []
    while (out := made.most_urgent()) is not None:
        out.announced = True
        found.append(made.cut(out, size))
    return found


def test_the_foremost_leaves_first_in_pieces_that_lie_in_one_chunk() -> None:
    pieces = drained(outbox(2, 1))
    assert [piece.number for piece in pieces] == sorted((p.number for p in pieces), reverse=True)
    for piece in pieces:
        last = piece.offset + len(piece.content) - 1
        assert piece.offset // limits.CHUNK_BYTES == last // limits.CHUNK_BYTES
    assert sum(len(piece.content) for piece in pieces) == 2 * SIZE


def test_a_number_is_used_once() -> None:
    made = outbox(1)
    assert made.reserve() == 1
    with pytest.raises(LocalProtocolError, match="encoding 0"):
        made.put(examples.offer(0), examples.ENCODING, priority(1))
    with pytest.raises(LocalProtocolError, match="encoding 5"):
        made.put(examples.offer(5), b"short", priority(1))


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=5), st.booleans())
def test_behind_a_rewind_exactly_what_the_receiver_lacks_is_sent(
    spans: list[tuple[int, int]], sent_before: bool
) -> None:
    held = tuple((min(span), max(span)) for span in spans if span[0] != span[1])
    made = outbox(1)
    if sent_before:
        drained(made)
    made.rewind(replace(STANDING, next_number=1, under_way=(m.Received(0, held),)))
    there = bytearray(SIZE)
    for start, stop in held:
        there[start:stop] = b"\1" * (stop - start)
    for piece in drained(made):
        place = slice(piece.offset, piece.offset + len(piece.content))
        assert not any(there[place])
        there[place] = b"\1" * len(piece.content)
    assert all(there)


def test_a_rewind_tells_of_verdicts_and_wants_that_were_missed_and_of_what_is_strange() -> None:
    made = outbox(1, 2, 3)
    standing = replace(
        STANDING,
        next_number=9,
        settled=((0, 1),),
        wanted=(1,),
        under_way=(m.Received(8, ()),),
    )
    heard, strange = made.rewind(standing)
    assert heard == [m.LayerVerdict(0, m.Verdict.VERIFIED), m.Want(1)]
    assert strange == [m.Withdraw(8)]
    assert list(made.unsettled) == [2]
    assert made.reserve() == 9


def test_a_receiver_that_has_more_than_there_is_is_refused() -> None:
    standing = replace(STANDING, under_way=(m.Received(0, ((0, SIZE + 1),)),))
    with pytest.raises(RemoteProtocolError, match="of encoding 0"):
        outbox(1).rewind(standing)


def test_a_receiver_that_has_forgotten_is_sent_everything_and_its_offer() -> None:
    made = outbox(1)
    drained(made)
    assert made.most_urgent() is None
    made.from_the_start()
    out = made.most_urgent()
    assert out is not None
    assert not out.announced
    assert made.unsettled == {0: SIZE}


def test_a_wrong_chunk_goes_once_more_and_nothing_but_a_chunk_can_be_asked_for() -> None:
    made = outbox(1)
    drained(made)
    made.repeat(m.Again(0, 2 * limits.CHUNK_BYTES, 500))
    assert made.unsettled == {0: 500}
    for offset, size in ((1, 500), (0, 500), (4 * limits.CHUNK_BYTES, 500)):
        with pytest.raises(RemoteProtocolError, match="not a chunk"):
            made.repeat(m.Again(0, offset, size))
    with pytest.raises(RemoteProtocolError, match="never offered"):
        made.repeat(m.Again(1, 0, 500))


def test_a_receiver_that_keeps_asking_is_refused() -> None:
    made = outbox(1)
    for _ in range(64):
        made.repeat(m.Again(0, 0, limits.CHUNK_BYTES))
    with pytest.raises(RemoteProtocolError, match="again"):
        made.repeat(m.Again(0, 0, limits.CHUNK_BYTES))


def test_another_focus_moves_what_is_unsent() -> None:
    made = outbox(1, 2)
    for _ in range(3000):  # to and fro
        made.reprioritise(1, priority(0))
        made.reprioritise(1, priority(3))
    made.reprioritise(1, priority(0))
    assert drained(made)[0].number == 1
    assert made.drop(1) is not None
    assert made.drop(1) is None
