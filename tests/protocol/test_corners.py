"""What connections meet seldom: wrong fields, lines that come back, words that crossed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from protocol import fields, limits
from protocol import messages as m
from protocol.frames import Fragment, FrameKind, encode_frame
from protocol.inbox import Inbox
from protocol.outbox import Outbox
from protocol.pace import Pace
from protocol.parting import error_of
from protocol.payloads import pack_message, unpack_message
from protocol.rate import Window
from protocol.receiving import ReceivingConnection
from protocol.sending import SendingConnection
from protocol.stages import UNFOCUSED, Priority
from protocol.states import State
from shared.errors import IntegrityError, PeerRefused, RemoteProtocolError, TransportClosed
from shared.geometry import Box
from tests.protocol import examples

if TYPE_CHECKING:
    from protocol.fields import Field

HELLO = m.Hello(limits.PROTOCOL_VERSION, m.Role.SENDER, "x")
ATTACH = m.Attach(bytes(16), 1, False)
OFFER = examples.offer()
SIZE = len(examples.ENCODING)

WRONG: list[tuple[Field[Any], object]] = [
    (fields.whole(), True),
    (fields.whole(), "1"),
    (fields.whole(8), 1 << 9),
    (fields.flag(), 1),
    (fields.real(), 1),
    (fields.token(), bytes(15)),
    (fields.spans(10, 2), [1]),
    (fields.spans(10, 2), [1, 2, 2, 3]),
    (fields.word(m.Role), "nobody"),
    (fields.listing(fields.flag(), 2), [True] * 3),
    (fields.several(fields.flag(), 2), [True]),
    (fields.floats(2), bytes(15)),
    (fields.float_groups(2, 2), bytes(17)),
    (fields.settings(1), ["x"]),
    (fields.record(Box, start=fields.flag(), stop=fields.flag()), [True]),
]


@pytest.mark.parametrize(("field", "item"), WRONG)
def test_a_field_of_another_kind_is_refused(field: Field[Any], item: object) -> None:
    with pytest.raises(RemoteProtocolError):
        field.unpack(item)


def test_a_record_that_nothing_can_be_built_of_is_refused() -> None:
    def build(start: bool) -> Box:
        raise ValueError(f"no box of {start}")

    with pytest.raises(RemoteProtocolError, match="no box of True"):
        fields.record(build, start=fields.flag()).unpack([True])


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        (m.Why.STOPPED, TransportClosed),
        (m.Why.FAULT, PeerRefused),
        (m.Why.INTEGRITY, IntegrityError),
    ],
)
def test_a_farewell_becomes_the_error_of_its_reason(why: m.Why, kind: type[Exception]) -> None:
    assert isinstance(error_of(m.Farewell(why, "so"), m.Role.SENDER), kind)


def test_a_pace_without_a_rate_holds_nothing_back() -> None:
    pace = Pace()
    assert pace.fragment_bytes == limits.MAX_FRAGMENT_BYTES
    pace.on_sent(1000, 0.0)
    assert pace.has_room(0.0)
    pace.rate_bps = 8000.0
    assert pace.fragment_bytes < limits.MAX_FRAGMENT_BYTES
    pace.on_sent(1000, 0.0)
    assert not pace.has_room(0.5)
    assert pace.opens_s() == 1.0


def test_a_window_takes_no_news_of_what_it_knows_and_opens_anew_after_a_silence() -> None:
    window = Window(max_fragment_bytes=1 << 16)
    window.on_sent(1000, 0.0)
    window.on_ack(1000, 0.1, 0.1)
    window.on_ack(1000, 0.1, 0.2)
    for turn in range(300):
        now_s = 0.3 + turn * 0.1
        window.on_sent(20_000, now_s)
        window.on_ack(1000 + 20_000 * (turn + 1), 0.1, now_s + 0.1)
    window.on_sent(500, 40.0)
    before = window.size_bytes(40.0)
    window.on_ack(1000 + 20_000 * 300 + 200, 0.1, 100.0)  # the middle of a frame
    window.on_ack(1000 + 20_000 * 300 + 500, 0.1, 200.0)
    assert window.size_bytes(200.0) > 0
    assert before > 0


# -- an inbox and an outbox -----------------------------------------------------------------------


def inbox() -> Inbox:
    made = Inbox(bytes(16))
    made.on_manifest(examples.MANIFEST)
    made.on_plan(examples.PLAN)
    made.on_offer(OFFER)
    return made


def test_what_is_said_again_is_no_news_and_changes_nothing() -> None:
    made = inbox()
    assert not made.on_plan(examples.PLAN)
    assert not made.on_offer(OFFER)
    made.on_fragment(Fragment(0, 0, examples.ENCODING[:100]))
    assert made.on_fragment(Fragment(0, 0, examples.ENCODING[:100])) == ([], None)
    made.on_withdraw(0)
    made.on_withdraw(0)
    assert made.is_settled(0)
    assert made.on_fragment(Fragment(0, 0, b"x")) == ([], None)


def test_a_series_that_there_is_not_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="series 9 of 1"):
        inbox().on_plan(replace(examples.PLAN, series=9))
    with pytest.raises(RemoteProtocolError, match="series 0 of 0"):
        Inbox(bytes(16)).on_plan(examples.PLAN)


def test_an_attachment_of_generation_zero_or_older_than_another_is_none() -> None:
    made = inbox()
    with pytest.raises(RemoteProtocolError, match="generation 0"):
        made.on_attach(replace(ATTACH, generation=0))
    assert made.on_attach(replace(ATTACH, generation=2))
    assert not made.on_attach(ATTACH)


def test_all_that_a_sender_may_have_missed_is_said_once_more() -> None:
    made = inbox()
    made.reach(0, m.Mark.ROI_PREVIEW)
    focus = m.Focus(0, examples.ROI, 1)
    made.focus(focus)
    made.paused = True
    assert made.to_repeat(accepted=False) == [
        m.Accept(()),
        m.StageReached(0, m.Mark.ROI_PREVIEW),
        focus,
        m.Pause(),
    ]
    made.paused = False
    assert m.Accept(()) not in made.to_repeat(accepted=True)
    assert made.standing().under_way == (m.Received(0, ()),)
    made.on_fragment(Fragment(0, 0, examples.ENCODING))
    assert made.standing().under_way == (m.Received(0, ((0, SIZE),)),)


def test_a_settled_encoding_that_is_wanted_again_is_settled_no_more() -> None:
    made = inbox()
    made.settle(0)
    made.want(0)
    assert not made.is_settled(0)
    assert made.standing().wanted == (0,)
    with pytest.raises(RemoteProtocolError, match="once more, in the same form"):
        made.on_offer(OFFER)
    made.finish()
    assert made.is_settled(0)


def outbox(count: int = 1) -> Outbox:
    made = Outbox()
    for number in range(count):
        priority = Priority(UNFOCUSED, 0, 0, 0, 0, -number)
        made.put(replace(OFFER, number=number), examples.ENCODING, priority)
    return made


def test_no_more_encodings_are_opened_than_may_be_open() -> None:
    """The most urgent one of those that are open goes on instead."""
    made = outbox(limits.MAX_OPEN_LAYERS)
    while (out := made.most_urgent()) is not None and not out.announced:
        out.announced = True
        made.cut(out, 10)
        made.reprioritise(out.number, Priority(UNFOCUSED, 0, 0, 0, 9, out.number))
    urgent = Priority(UNFOCUSED, 0, 0, 0, -1, 0)
    made.put(replace(OFFER, number=limits.MAX_OPEN_LAYERS), examples.ENCODING, urgent)
    chosen = made.most_urgent()
    assert chosen is not None
    assert chosen.announced


def test_a_chunk_of_what_is_settled_is_not_sent_again() -> None:
    made = outbox()
    made.drop(0)
    made.repeat(m.Again(0, 0, SIZE))
    assert made.most_urgent() is None


# -- connections ----------------------------------------------------------------------------------


def control(message: m.Message) -> bytes:
    return encode_frame(FrameKind.CONTROL, 0, pack_message(message))


def said(connection: SendingConnection | ReceivingConnection) -> list[m.Message]:
    frames = iter(lambda: connection.next_frame(9.0), None)
    return [unpack_message(frame[16:]) for frame in frames if frame[1] == FrameKind.CONTROL]


def receiver(session: Inbox | None = None, attach: m.Attach = ATTACH) -> ReceivingConnection:
    made = ReceivingConnection(software="test")
    made.receive_frame(control(HELLO), 0.0)
    made.greet()
    made.receive_frame(control(attach), 0.0)
    if session is not None:
        made.join(session, attach)
    return made


def sender(box: Outbox | None = None) -> SendingConnection:
    made = SendingConnection(software="test")
    made.greet()
    made.receive_frame(control(replace(HELLO, role=m.Role.RECEIVER)), 0.0)
    made.attach(bytes(16), 1, accepted=False)
    if box is not None:
        made.offer(examples.MANIFEST, box)
        made.plan(examples.PLAN)
    return made


def test_a_receiver_goes_on_with_a_session_that_it_knows() -> None:
    session = inbox()
    session.held = ()
    made = receiver(session)
    assert [type(each) for each in said(made)] == [m.Hello, m.Standing, m.Accept, m.Ack]
    older = receiver(None)
    assert not older.join(session, ATTACH)  # no newer than the one before
    session.settle(0)
    assert made.receive_frame(control(OFFER), 0.0) == []
    assert m.LayerVerdict(0, m.Verdict.HELD) in said(made)


def test_a_message_without_a_session_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        receiver().receive_frame(control(examples.MANIFEST), 0.0)


def test_a_connection_that_has_been_retired_says_and_hears_nothing() -> None:
    listening, asking = receiver(inbox()), sender(outbox())
    for made in (listening, asking):
        made.retire()
        assert made.state is State.CLOSED
        assert said(made) == []
    assert listening.receive_frame(b"anything", 0.0) == []
    assert asking.receive_frame(b"anything", 0.0) == []
    listening.leave(m.Why.STOPPED, "")
    asking.leave(m.Why.STOPPED, "")
    assert said(asking) == []


def test_a_receiver_that_is_done_says_nothing_more() -> None:
    session = inbox()
    session.held = ()
    made = receiver(session)
    session.settle(0)
    made.receive_frame(control(m.End(examples.MANIFEST.study)), 0.0)
    made.finish(exact=True)
    said(made)
    made.say(m.Pause())
    made.leave(m.Why.STOPPED, "")
    assert said(made) == []


def test_a_sender_goes_on_where_the_receiver_stands() -> None:
    box = outbox(3)
    made = sender()
    example = examples.MESSAGES["standing"]
    assert isinstance(example, m.Standing)
    standing = replace(
        example,
        next_number=5,
        settled=((0, 1),),
        wanted=(1,),
        under_way=(m.Received(2, ((0, 100),)), m.Received(4, ())),
    )
    made.receive_frame(control(standing), 0.0)
    heard = made.go_on(standing, box)
    assert heard == [m.LayerVerdict(0, m.Verdict.VERIFIED), m.Want(1)]
    assert m.Withdraw(4) in said(made)
    assert box.unsettled == {2: 0}


def test_a_sender_withdraws_what_it_has_announced_and_tells_of_a_channel() -> None:
    box = outbox(2)
    made = sender(box)
    made.receive_frame(control(m.Accept(())), 0.0)
    said(made)
    made.withdraw(1)
    made.withdraw(1)
    assert said(made) == [m.Withdraw(1)]
    offer = m.ChannelOffer(1, bytes(32), b"v=0\r\n")
    made.signal(offer)
    assert said(made) == [offer]


def test_a_sender_pauses_goes_on_and_refuses_a_fragment() -> None:
    made = sender(outbox())
    made.receive_frame(control(m.Accept(())), 0.0)
    made.receive_frame(control(m.Pause()), 0.0)
    assert all(not isinstance(each, m.LayerOffer) for each in said(made))
    made.receive_frame(control(m.Resume()), 0.0)
    assert any(isinstance(each, m.LayerOffer) for each in said(made))
    made.receive_frame(control(m.Ack(1, 0, 1 << 31)), 0.0)  # held longer than it took
    with pytest.raises(RemoteProtocolError, match="sent a fragment"):
        made.receive_frame(encode_frame(FrameKind.FRAGMENT, 0, bytes(9)), 0.0)


def test_a_sender_whose_pace_is_spent_waits() -> None:
    pace = Pace()
    made = SendingConnection(software="test", pace=pace)
    made.greet()
    made.receive_frame(control(replace(HELLO, role=m.Role.RECEIVER)), 0.0)
    made.attach(bytes(16), 1, accepted=False)
    made.offer(examples.MANIFEST, outbox())
    made.plan(examples.PLAN)
    made.receive_frame(control(m.Accept(())), 0.0)
    pace.rate_bps = 1.0
    while made.next_frame(0.0) is not None:
        pass
    assert made.next_timer_s() is not None
