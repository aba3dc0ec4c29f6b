"""What a receiver has of a session: fed by hand, by one connection or by several."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol import inbox as inbox_module
from protocol import limits
from protocol import messages as m
from protocol.events import EncodingArrived, FragmentArrived
from protocol.frames import Fragment
from protocol.inbox import Inbox
from shared.errors import RemoteProtocolError
from tests.protocol import examples
from tests.protocol.examples import ENCODING, HEADERS, MANIFEST, PLAN, offer

TWO_CHUNKS = bytes(limits.CHUNK_BYTES) + b"and some"


def begun(*offers: m.LayerOffer) -> Inbox:
    """A session whose study is accepted."""
    inbox = Inbox(bytes(16))
    inbox.on_attach(m.Attach(bytes(16), 1, False))
    inbox.on_manifest(MANIFEST)
    inbox.held = ()
    inbox.on_plan(PLAN)
    for each in offers:
        assert inbox.on_offer(each)
    return inbox


def piece(start: int, stop: int, number: int = 0, encoding: bytes = ENCODING) -> Fragment:
    return Fragment(number, start, encoding[start:stop])


def test_an_encoding_arrives_once_whatever_the_order_and_however_often_its_pieces_come() -> None:
    inbox = begun(offer())
    assert inbox.on_fragment(piece(200, 512)) == ([FragmentArrived(piece(200, 512))], None)
    assert inbox.on_fragment(piece(200, 512)) == ([], None)
    events, again = inbox.on_fragment(piece(0, 300))
    assert events == [FragmentArrived(piece(0, 300)), EncodingArrived(offer(), ENCODING)]
    assert again is None
    assert inbox.on_fragment(piece(0, 300)) == ([], None)


def test_what_was_said_once_may_be_said_again_over_another_connection() -> None:
    inbox = begun(offer())
    inbox.on_manifest(MANIFEST)
    assert not inbox.on_plan(PLAN)
    assert not inbox.on_offer(offer())
    with pytest.raises(RemoteProtocolError, match="another manifest"):
        inbox.on_manifest(replace(MANIFEST, study=bytes(32)))
    with pytest.raises(RemoteProtocolError, match="offered as two different ones"):
        inbox.on_offer(offer(encoding=ENCODING + b"x"))


def test_a_chunk_that_is_wrong_is_asked_for_again_and_its_bytes_are_forgotten() -> None:
    inbox = begun(offer(encoding=TWO_CHUNKS))
    first = Fragment(0, 0, bytes([1]) * limits.CHUNK_BYTES)
    events, again = inbox.on_fragment(first)
    assert again == m.Again(0, 0, limits.CHUNK_BYTES)
    assert not any(isinstance(event, FragmentArrived | EncodingArrived) for event in events)
    assert inbox.standing().under_way == (m.Received(0, ()),)
    inbox.on_fragment(Fragment(0, limits.CHUNK_BYTES, TWO_CHUNKS[limits.CHUNK_BYTES :]))
    events, again = inbox.on_fragment(piece(0, limits.CHUNK_BYTES, encoding=TWO_CHUNKS))
    assert again is None
    assert events[-1] == EncodingArrived(offer(encoding=TWO_CHUNKS), TWO_CHUNKS)


def test_a_peer_whose_chunks_keep_failing_is_dropped() -> None:
    inbox = begun(offer())
    wrong = Fragment(0, 0, bytes(len(ENCODING)))
    for _ in range(inbox_module._MAX_BAD_CHUNKS):
        assert inbox.on_fragment(wrong)[1] is not None
    with pytest.raises(RemoteProtocolError, match="keep failing their hashes"):
        inbox.on_fragment(wrong)


def test_of_a_settled_or_withdrawn_encoding_pieces_may_still_cross_our_word() -> None:
    inbox = begun(offer(0), offer(1, region="tissue", box=examples.TISSUE, owned=12))
    inbox.settle(0)
    inbox.on_withdraw(1)
    inbox.on_withdraw(1)
    for number in (0, 1):
        assert inbox.is_settled(number)
        assert inbox.on_fragment(piece(0, 512, number)) == ([], None)
    assert inbox.standing().settled == ((0, 2),)
    assert inbox.standing().under_way == ()


def test_one_that_is_whole_is_not_taken_back_by_a_withdrawal() -> None:
    inbox = begun(offer())
    inbox.on_fragment(piece(0, 512))
    inbox.on_withdraw(0)
    assert not inbox.is_settled(0)
    assert inbox.standing().under_way == (m.Received(0, ((0, 512),)),)


def test_what_nobody_has_offered_is_refused() -> None:
    inbox = begun(offer(3))
    for number in (4, 99):
        with pytest.raises(RemoteProtocolError, match="never offered"):
            inbox.on_fragment(piece(0, 1, number))
        with pytest.raises(RemoteProtocolError, match="never offered"):
            inbox.on_withdraw(number)


def test_a_layer_that_did_not_prove_right_may_not_come_again_in_the_same_form() -> None:
    inbox = begun(offer())
    inbox.on_fragment(piece(0, 512))
    inbox.want(0)
    assert inbox.standing().wanted == (0,)
    with pytest.raises(RemoteProtocolError, match="once more, in the same form"):
        inbox.on_offer(offer())
    assert inbox.on_offer(replace(offer(1), codec="zstd", settings=()))


def test_no_more_is_under_way_than_is_set_aside_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = begun(offer(0))
    monkeypatch.setattr(limits, "MAX_OPEN_LAYERS", 1)
    with pytest.raises(RemoteProtocolError, match="too many encodings under way"):
        inbox.on_offer(offer(1))
    monkeypatch.setattr(limits, "MAX_OPEN_LAYERS", 2)
    monkeypatch.setattr(limits, "MAX_OPEN_BYTES", 2 * len(ENCODING) - 1)
    with pytest.raises(RemoteProtocolError, match="too many bytes under way"):
        inbox.on_offer(offer(1))
    inbox.settle(0)
    assert inbox.on_offer(offer(1))


def test_headers_of_a_series_have_a_limit_over_all_their_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_ATTACHMENT_BYTES", 2 * HEADERS.decoded_bytes - 1)
    inbox = begun(HEADERS)
    second = replace(HEADERS, number=10, key=replace(HEADERS.key, block=1))
    with pytest.raises(RemoteProtocolError, match="a headers layer of"):
        inbox.on_offer(second)


def test_only_a_generation_that_is_larger_than_all_before_is_the_current_one() -> None:
    inbox = begun()
    assert not inbox.on_attach(m.Attach(bytes(16), 1, True))
    assert inbox.on_attach(m.Attach(bytes(16), 7, True))
    assert not inbox.on_attach(m.Attach(bytes(16), 3, True))
    assert inbox.standing().generation == 7
    with pytest.raises(RemoteProtocolError, match="generation 0"):
        inbox.on_attach(m.Attach(bytes(16), 0, True))


def test_where_the_session_stands_is_all_that_has_come_and_what_became_of_it() -> None:
    inbox = begun(offer(0), offer(1, region="tissue", box=examples.TISSUE, owned=12))
    inbox.on_fragment(piece(0, 100))
    inbox.on_fragment(piece(300, 400))
    inbox.settle(1)
    assert inbox.standing() == m.Standing(
        known=True,
        finished=False,
        generation=1,
        next_number=2,
        plans=(1,),
        settled=((1, 2),),
        wanted=(),
        under_way=(m.Received(0, ((0, 100), (300, 400))),),
    )


def test_a_new_session_knows_nothing_and_takes_nothing_of_a_series_that_it_has_not() -> None:
    inbox = Inbox(bytes(16))
    standing = inbox.standing()
    assert (standing.known, standing.next_number, standing.plans) == (False, 0, ())
    with pytest.raises(RemoteProtocolError, match="series 0 of 0"):
        inbox.on_plan(PLAN)
    with pytest.raises(RemoteProtocolError, match="an end that is not the manifest's"):
        inbox.on_end(MANIFEST.study)


def test_an_end_with_something_under_way_or_of_another_study_is_none() -> None:
    inbox = begun(offer())
    with pytest.raises(RemoteProtocolError, match="encodings under way"):
        inbox.on_end(MANIFEST.study)
    inbox.on_fragment(piece(0, 512))
    with pytest.raises(RemoteProtocolError, match="not the manifest's"):
        inbox.on_end(bytes(32))
    inbox.on_end(MANIFEST.study)


def test_a_finished_study_needs_nothing_more() -> None:
    inbox = begun(offer())
    inbox.finish()
    assert inbox.standing().finished
    assert inbox.is_settled(0)
    assert inbox.on_fragment(piece(0, 512)) == ([], None)


def test_a_sender_that_comes_back_hears_marks_the_newest_focus_of_a_rank_and_a_pause() -> None:
    inbox = begun()
    inbox.held = (b"h" * 32,)
    inbox.reach(0, m.Mark.ROI_EXACT)
    inbox.reach(0, m.Mark.ROI_EXACT)
    old, new, other = (m.Focus(0, box, rank) for box, rank in _FOCI)
    for focus in (old, other, new):
        inbox.focus(focus)
    inbox.paused = True
    said = inbox.to_repeat(accepted=True)
    assert said == [m.StageReached(0, m.Mark.ROI_EXACT), new, other, m.Pause()]
    assert inbox.to_repeat(accepted=False) == [m.Accept((b"h" * 32,)), *said]


_FOCI = ((examples.ROI, 1), (examples.TISSUE, 1), (examples.WHOLE, 2))
