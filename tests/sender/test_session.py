"""The sending session against a receiver that does as each test says, in virtual time.

Transfers to a real receiver are in tests/endtoend/test_virtual_transfers.py.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import pytest

from protocol import limits
from protocol import messages as m
from protocol.events import EncodingArrived, FragmentArrived
from protocol.frames import FrameKind, encode_frame
from protocol.inbox import Inbox
from protocol.payloads import pack_message
from protocol.receiving import ReceivingConnection
from protocol.sending import SendingConnection
from sender.session import SendingSession
from sender.settings import SendSettings
from shared.clock import LoopClock
from shared.errors import (
    InputError,
    IntegrityError,
    MedroiError,
    PeerRefused,
    RemoteProtocolError,
    TransportClosed,
)
from shared.geometry import Box
from shared.layer import Quality
from shared.link import parse_link
from shared.timeline import Timeline
from shared.transports.pump import Pump
from shared.transports.simulated import simulated_pair
from shared.workers import InlineWorkers
from tests.sender.segment.volumes import volume_of
from tests.sender.studies import brain, prepared, study_of
from tests.virtual import START_S, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.events import Event
    from sender.call import Call
    from sender.prepare import Study
    from shared.geometry import Triple
    from shared.transports.simulated import SimulatedTransport

ROI = Box((1, 4, 4), (3, 9, 9))


def study_with(shape: Triple = (4, 16, 16)) -> Study:
    """A study that a receiver takes, with an ROI, tissue around it, and headers."""
    volume = volume_of(brain(shape))
    header = replace(volume.header, file_header=bytes(348))
    sendable = replace(volume, header=header, attachment=lambda: b"what stands beside")
    return study_of(prepared(sendable, [ROI], Box((0, 2, 2), (shape[0], 14, 14))))


class Scripted(ReceivingConnection):
    """A receiver that says what it is told to, and is in order otherwise."""

    def __init__(self) -> None:
        super().__init__(software="scripted")
        self.inbox = Inbox(bytes(16))

    def judge(self, number: int, verdict: m.Verdict) -> None:
        self.inbox.settle(number)
        self.say(m.LayerVerdict(number, verdict))

    def want(self, number: int) -> None:
        self.inbox.want(number)
        self.say(m.Want(number))


def obliging(connection: Scripted, event: Event) -> None:
    """What a receiver does that takes everything for right."""
    match event:
        case m.Hello():
            connection.greet()
        case m.Attach():
            connection.join(connection.inbox, event)
        case m.Manifest():
            connection.inbox.held = ()
            connection.accept(())
        case EncodingArrived(offer=offer):
            exact = bool(offer.voxel_digest)
            connection.judge(offer.number, m.Verdict.VERIFIED if exact else m.Verdict.SHOWN)
        case m.End():
            connection.finish(exact=True)


@dataclass
class Told:
    """A session that has ended, and what its receiver was told."""

    session: SendingSession
    marks: list[m.Mark]
    troubles: list[MedroiError | None] = field(default_factory=list)
    error: MedroiError | None = None
    connected_s: float | None = None
    heard: list[Event] = field(default_factory=list)

    def offers(self) -> list[m.LayerOffer]:
        return [event for event in self.heard if isinstance(event, m.LayerOffer)]

    def farewell(self) -> m.Farewell:
        (said,) = [event for event in self.heard if isinstance(event, m.Farewell)]
        return said


def run(
    act: Callable[[Scripted, Event], None] = obliging,
    study: Study | None = None,
    *,
    raw: Callable[[SimulatedTransport, Event], list[bytes]] = lambda *_: [],
    failing: MedroiError | None = None,
    closing: type[object] | None = None,
) -> Told:
    """Run a session to its end.

    Args:
        act: what the receiver does at each event; the session's checks of its own words hold.
        raw: frames that no sound receiver would send, at each event.
        failing: how preparing the study ends.
        closing: the kind of event at which the receiver closes without a word.
    """

    async def preparing() -> Study:
        await asyncio.sleep(0.5)
        if failing is not None:
            raise failing
        return study or study_with()

    async def main() -> Told:
        near, far = simulated_pair(parse_link("rate=1M,rtt=100ms"), 0)
        marks: list[m.Mark] = []
        troubles: list[MedroiError | None] = []
        clock, timeline = LoopClock(), Timeline(asyncio.get_running_loop().time)
        lines = [near]

        async def dial() -> SimulatedTransport:
            if not lines:
                raise TransportClosed("there is no other line")
            return lines.pop()

        session = SendingSession(
            dial,
            InlineWorkers(),
            clock,
            SendSettings(),
            timeline,
            random.Random(1),
            on_mark=marks.append,
            on_trouble=troubles.append,
            give_up_s=2.0,
        )
        told = Told(session, marks, troubles)
        connection = Scripted()

        async def on_event(event: Event) -> None:
            if not isinstance(event, FragmentArrived):
                told.heard.append(event)
            act(connection, event)
            for frame in raw(far, event):
                await far.send(frame)
            if closing is not None and isinstance(event, closing):
                await far.close()

        async def receive() -> None:
            with suppress(TransportClosed):
                await Pump(connection, far, clock, on_event).run()

        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(receive())
            try:
                await session.run(preparing())
            except MedroiError as error:
                told.error = error
            told.connected_s = timeline[m.Mark.CONNECTED.value]
            await asyncio.sleep(1.0)
            receiving.cancel()
        return told

    return run_virtual(main(), limit_s=600)


def frame_of(message: m.Message) -> bytes:
    return encode_frame(FrameKind.CONTROL, 0, pack_message(message))


def when(kind: type[object], *messages: m.Message) -> Callable[..., list[bytes]]:
    """Raw frames for the first event of a kind."""
    left = [list(messages)]

    def frames(_far: SimulatedTransport, event: Event) -> list[bytes]:
        return [frame_of(each) for each in left.pop()] if isinstance(event, kind) and left else []

    return frames


def test_everything_is_offered_once_and_the_receipt_ends_it() -> None:
    told = run()
    assert told.error is None
    assert told.session.exact is True
    keys = [offer.key for offer in told.offers()]
    assert len(set(keys)) == len(keys)
    asked = {job.key for job in study_with().series[0].jobs if job.stage.skip_s is None}
    assert asked <= set(keys)
    # The ROI's preview is skipped once the link's rate is known, which it may not be in time.
    assert {key.region for key in set(keys) - asked} - {"roi0"} == {m.HEADERS_REGION}
    kinds = [type(event).__name__ for event in told.heard]
    assert kinds[:4] == ["Hello", "Attach", "Manifest", "Plan"]
    assert kinds[-1] == "End"


def test_the_link_is_opened_while_the_study_is_still_being_read() -> None:
    told = run()
    assert told.marks == [m.Mark.CONNECTED]
    assert told.connected_s is not None
    assert told.connected_s < START_S + 0.5


def test_a_study_that_cannot_be_prepared_is_not_told_to_the_peer() -> None:
    """Its error may name files or patients."""
    told = run(failing=InputError("/home/jane_doe/scan.nii", "is torn"))
    assert isinstance(told.error, InputError)
    assert told.farewell() == m.Farewell(m.Why.STOPPED, "the sender was stopped")


def test_a_refusal_is_passed_on() -> None:
    def refuse(connection: Scripted, event: Event) -> None:
        if isinstance(event, m.Manifest):
            connection.refuse("no room")
        else:
            obliging(connection, event)

    told = run(refuse)
    assert isinstance(told.error, PeerRefused)
    assert str(told.error) == "the receiver refuses the study: no room"


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        (m.Why.STOPPED, TransportClosed),
        (m.Why.FAULT, PeerRefused),
        (m.Why.INTEGRITY, IntegrityError),
    ],
)
@pytest.mark.parametrize("at", [m.Hello, m.Manifest, EncodingArrived])
def test_a_farewell_says_how_it_ended(
    why: m.Why, kind: type[MedroiError], at: type[object]
) -> None:
    """A receiver that was stopped may come back: it is tried again, here in vain."""

    def leave(connection: Scripted, event: Event) -> None:
        if isinstance(event, at):
            connection.leave(why, "because")
        else:
            obliging(connection, event)

    told = run(leave)
    assert type(told.error) is kind
    assert "because" in str(told.troubles[0] if why is m.Why.STOPPED else told.error)


def test_a_receiver_of_another_version_is_a_fault_of_the_peer() -> None:
    hello = m.Hello(limits.PROTOCOL_VERSION + 1, m.Role.RECEIVER, "later")
    told = run(lambda *_: None, raw=when(m.Hello, hello))
    assert isinstance(told.error, RemoteProtocolError)
    assert "protocol version" in str(told.error)


@pytest.mark.parametrize("at", [m.Hello, m.Manifest, EncodingArrived, m.End])
def test_a_receiver_that_closes_before_its_receipt_has_broken_off(at: type[object]) -> None:
    def oblige(connection: Scripted, event: Event) -> None:
        if not isinstance(event, m.End):
            obliging(connection, event)

    told = run(oblige, closing=at)
    assert isinstance(told.error, TransportClosed)


def test_a_mark_of_a_series_that_was_never_sent_is_a_fault_of_the_peer() -> None:
    told = run(raw=when(EncodingArrived, m.StageReached(1, m.Mark.ROI_EXACT)))
    assert isinstance(told.error, RemoteProtocolError)
    assert str(told.error) == "series 1 of 1"
    assert told.farewell().why is m.Why.FAULT


def test_marks_are_told_once() -> None:
    reached = m.StageReached(0, m.Mark.ROI_EXACT)
    told = run(raw=when(EncodingArrived, reached, reached))
    assert told.error is None
    assert told.marks == [m.Mark.CONNECTED, m.Mark.ROI_EXACT]


@pytest.mark.parametrize("times", [1, 2])
def test_a_layer_that_is_asked_for_again_comes_by_another_codec_and_then_plainly(
    times: int,
) -> None:
    wanted: list[m.LayerOffer] = []

    def want(connection: Scripted, event: Event) -> None:
        offer = event.offer if isinstance(event, EncodingArrived) else None
        first = wanted[0].key if wanted else offer and offer.key
        due = len(wanted) < times and offer is not None and offer.key == first
        if due and offer is not None and offer.voxel_digest:
            wanted.append(offer)
            connection.want(offer.number)
        else:
            obliging(connection, event)

    told = run(want)
    assert told.error is None
    again = [offer for offer in told.offers() if offer.key == wanted[0].key]
    assert [offer.codec for offer in again] == ["jpegls", "jpegxl", "zstd"][: times + 1]
    assert len({offer.voxel_digest for offer in again}) == 1


@pytest.mark.parametrize("region", ["roi0", m.HEADERS_REGION])
def test_a_layer_that_never_proves_right_ends_the_session(region: str) -> None:
    def want(connection: Scripted, event: Event) -> None:
        offer = event.offer if isinstance(event, EncodingArrived) else None
        if offer is not None and offer.key.region == region and offer.voxel_digest:
            connection.want(offer.number)
        else:
            obliging(connection, event)

    told = run(want)
    assert isinstance(told.error, IntegrityError)
    assert told.farewell().why is m.Why.INTEGRITY
    exact = [offer for offer in told.offers() if offer.key.region == region and offer.voxel_digest]
    assert len(exact) == 3


@pytest.mark.parametrize("quality", [Quality.PREVIEW, Quality.EXACT])
def test_only_an_exact_layer_may_be_asked_for_again_once_it_is_settled(quality: Quality) -> None:
    offers: list[m.LayerOffer] = []

    def note(connection: Scripted, event: Event) -> None:
        obliging(connection, event)
        if isinstance(event, EncodingArrived):
            offers.append(event.offer)

    def want_settled(_far: SimulatedTransport, event: Event) -> list[bytes]:
        settled = isinstance(event, EncodingArrived) and len(offers) == 3
        first = next((each for each in offers if each.key.quality is quality), None)
        return [frame_of(m.Want(first.number))] * 2 if settled and first else []

    told = run(note, raw=want_settled)
    if quality is Quality.PREVIEW:
        assert isinstance(told.error, RemoteProtocolError)
        assert "settled" in str(told.error)
        return
    assert told.error is None
    first = next(each for each in offers if each.key.quality is quality)
    again = [offer for offer in told.offers() if offer.key == first.key]
    assert len(again) == 2  # said twice, as to a new connection, it is one wish
    assert again[1].codec != again[0].codec


def test_layers_that_the_receiver_holds_are_counted_and_not_sent() -> None:
    study = study_with((24, 64, 64))
    whole = run(study=study)
    (held,) = [offer for offer in whole.offers() if offer.key.region == "background"]

    def hold(connection: Scripted, event: Event) -> None:
        if isinstance(event, m.Manifest):
            connection.accept((held.voxel_digest, bytes(32)))
        else:
            obliging(connection, event)

    told = run(hold, study)
    assert told.error is None
    assert not any(
        isinstance(event, EncodingArrived) and event.offer.key == held.key for event in told.heard
    )
    assert told.session.offering is not None
    ledger = told.session.offering.ledger
    assert ledger.verified_voxels == ledger.kept_voxels
    assert ledger.bytes["background_exact"] < held.size_bytes


def test_a_line_does_not_begin_in_a_session_that_another_line_has_given_up_meanwhile() -> None:
    """The receiver would hear the new session's study in the old one, of which it knows nothing."""
    session = run().session

    class Late:
        async def attach(self, *_: object, **__: object) -> m.Standing:
            session._session = bytes(range(16))
            return Inbox(bytes(16)).standing()

    with pytest.raises(TransportClosed, match="another line was faster"):
        asyncio.run(session.take_over(cast("Call", Late())))


class Line:
    """A call to a receiver that knows no session, and answers after so many seconds each time."""

    def __init__(self, *answers_s: float) -> None:
        self.answers_s = list(answers_s)
        self.attached: list[bytes] = []
        self.connection = SendingConnection(software="lines")
        self.is_begun = False

    async def attach(self, session: bytes, generation: int, *, accepted: bool) -> m.Standing:
        if not self.attached:
            self.connection.greet()
            self.connection.attach(session, generation, accepted=accepted)
        self.attached.append(session)
        await asyncio.sleep(self.answers_s.pop(0))
        return Inbox(session).standing()

    def retire(self) -> None:
        self.is_begun = False


def lost_session(
    monkeypatch: pytest.MonkeyPatch, lines: list[tuple[float, Line]]
) -> tuple[SendingSession, list[bool]]:
    """A session that the receiver has lost, after lines have tried from their moments on; and for
    each line that began whether everything was on offer again by then."""
    session, renewed = run().session, [False]
    session._known = session._accepted = True
    fresh: list[bool] = []
    session._caller.lines = 1

    async def forget(_session: bytes) -> None:
        await asyncio.sleep(1.0)  # a slow disk
        assert session.offering is not None
        session.offering.start_over()
        renewed[0] = True

    def begin(call: Line) -> None:
        fresh.append(renewed[0])
        call.is_begun = True

    async def attempt(after_s: float, line: Line) -> None:
        await asyncio.sleep(after_s)
        if fresh:
            return  # no other is tried beside a line that is there
        with suppress(TransportClosed):
            await session.take_over(cast("Call", line))
            session._caller.lines += 1

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for after_s, line in lines:
                group.create_task(attempt(after_s, line))

    monkeypatch.setattr(session.offering, "forget", forget)
    monkeypatch.setattr(session, "_begin", begin)
    run_virtual(main(), limit_s=600)
    return session, fresh


@pytest.mark.parametrize("rtt_s", [0.02, 0.3, 0.715, 2.0])
@pytest.mark.parametrize("late_s", [0.0, 5.0])
def test_of_all_tries_in_a_session_that_is_lost_one_begins_and_in_the_new_one(
    monkeypatch: pytest.MonkeyPatch, rtt_s: float, late_s: float
) -> None:
    """On a long link several tries hear that the session is not known before one has begun."""
    lines = [(0.3 * each, Line(rtt_s, rtt_s + (0 if each else late_s))) for each in range(9)]
    before = run().session._session
    session, fresh = lost_session(monkeypatch, lines)
    begun = [line for _, line in lines if line.is_begun]
    assert len(begun) == 1
    assert fresh == [True]
    assert begun[0].attached[-1] == session._session != before
    assert {name for _, line in lines for name in line.attached} <= {before, session._session}


def test_a_receipt_for_what_is_not_settled_proves_nothing_and_ends_the_session() -> None:
    """Layers cannot be offered behind an end: one that is asked for there needs another session."""
    exact: list[int] = []

    def oblige(connection: Scripted, event: Event) -> None:
        if isinstance(event, m.End):
            connection.say(m.Want(exact[0]))
        elif isinstance(event, EncodingArrived) and event.offer.voxel_digest and event.offer.box:
            exact.append(event.offer.number)
        obliging(connection, event)

    told = run(oblige)
    assert isinstance(told.error, IntegrityError)
    assert told.session.exact is None
    assert told.session.offering is not None
    assert told.session.offering.outbox.count == 0


def test_a_focus_on_no_series_of_the_study_changes_nothing() -> None:
    told = run(raw=when(EncodingArrived, m.Focus(7, Box((0, 0, 0), (1, 1, 1)), 0)))
    assert told.error is None
