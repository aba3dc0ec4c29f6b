"""Both connections together, over a line with a rate and a delay, on a clock moved by hand."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from protocol import limits
from protocol import messages as m
from protocol.events import EncodingArrived
from protocol.frames import FrameKind, decode_frame, encode_frame
from protocol.inbox import Inbox
from protocol.outbox import Outbox
from protocol.payloads import pack_message
from protocol.receiving import ReceivingConnection
from protocol.sending import SendingConnection
from protocol.stages import UNFOCUSED, Priority
from protocol.states import State
from shared.errors import LocalProtocolError, RemoteProtocolError
from shared.geometry import Box
from shared.layer import LayerKey, Quality, Region, RegionKind
from tests.protocol import examples
from tests.protocol.line import Line

SHAPE = (64, 128, 128)
HEADER = replace(examples.HEADER, shape=SHAPE, frames=None)
ENTRY = replace(examples.ENTRY, header=HEADER)
MANIFEST = m.Manifest(hashlib.sha256(ENTRY.digest).digest(), (ENTRY,))
BACKGROUND = Region("background", RegionKind.BACKGROUND, Box.whole(SHAPE))
PLAN = m.Plan(0, 1, (BACKGROUND,), b"")
SESSION = bytes(range(16))


def layer(number: int, size: int, *, block: int | None = None) -> tuple[m.LayerOffer, bytes]:
    """An encoding of this many random bytes; of which voxels does not matter here."""
    encoding = random.Random(number).randbytes(size)
    box = BACKGROUND.box
    offer = examples.offer(number, encoding, box=box, owned=box.voxels, region="background")
    key = LayerKey(0, "background", Quality.EXACT, number if block is None else block)
    return replace(offer, key=key), encoding


def priority(place: int) -> Priority:
    return Priority(UNFOCUSED, 0, 0, 0, 0, place)


def line(rate_bps: float = 1e6, rtt_s: float = 0.1) -> Line:
    """Both ends past their greeting, the study accepted, the plan sent."""
    sender, receiver = SendingConnection(software="test"), ReceivingConnection(software="test")
    outbox, inbox = Outbox(), Inbox(SESSION)
    made = Line(sender, receiver, rate_bps, rtt_s, outbox, inbox)

    def on_sender(event: object) -> None:
        if isinstance(event, m.Hello):
            sender.offer(MANIFEST, outbox)
            sender.plan(PLAN)

    def on_receiver(event: object) -> None:
        match event:
            case m.Hello():
                receiver.greet()
            case m.Attach():
                receiver.join(inbox, event)
            case m.Manifest():
                inbox.held = ()
                receiver.accept(())
            case EncodingArrived(offer=offer):
                judge(made, offer.number, m.Verdict.VERIFIED)
            case m.End():
                receiver.finish(exact=True)

    made.on_sender, made.on_receiver = on_sender, on_receiver
    sender.greet()
    sender.attach(SESSION, 1, accepted=False)
    made.run(3 * rtt_s)
    assert sender.state is State.STREAMING
    return made


def judge(made: Line, number: int, verdict: m.Verdict) -> None:
    """What a receiver does with an encoding."""
    made.inbox.settle(number)
    made.receiver.say(m.LayerVerdict(number, verdict))


def arrivals(made: Line) -> dict[int, float]:
    return {
        event.offer.number: time_s
        for time_s, event in made.arrived
        if isinstance(event, EncodingArrived)
    }


def test_encodings_arrive_whole_in_the_order_of_their_priority() -> None:
    made = line()
    for number in range(6):
        offer, encoding = layer(number, 20_000)
        made.outbox.put(offer, encoding, priority(-number))
    made.run(10)
    came = [event for _, event in made.arrived if isinstance(event, EncodingArrived)]
    assert [event.offer.number for event in came] == [5, 4, 3, 2, 1, 0]
    for event in came:
        assert event.payload == layer(event.offer.number, 20_000)[1]
    assert not made.outbox.unsettled
    made.sender.end(MANIFEST.study)
    made.run(11)
    assert made.sender.state is State.DONE
    assert made.receiver.state is State.DONE


def payload_share(rate_bps: float, rtt_s: float) -> float:
    """Payload over what the line could have carried, start-up included."""
    made = line(rate_bps, rtt_s)
    start_s = made.now_s
    seconds = 20.0 if rate_bps < 5e7 else 5.0
    for number in range(60):
        offer, encoding = layer(number, int(rate_bps / 8 * seconds / 40))
        made.outbox.put(offer, encoding, priority(number))
    made.run(start_s + seconds)
    payload = sum(len(frame) - 24 for _, frame in made.frames if frame[1] == FrameKind.FRAGMENT)
    return payload * 8 / rate_bps / seconds


@pytest.mark.parametrize(
    ("rate_bps", "rtt_s", "least"),
    [
        (64e3, 0.6, 0.88),
        (384e3, 0.715, 0.88),
        (1e6, 0.1, 0.96),
        (5e6, 0.1, 0.96),
        (20e6, 0.05, 0.95),
        (100e6, 0.02, 0.90),
    ],
)
def test_the_window_fills_the_link(rate_bps: float, rtt_s: float, least: float) -> None:
    assert payload_share(rate_bps, rtt_s) > least


def focus_delays(phases: int) -> list[float]:
    """At 1 Mbit/s and 100 ms with 3 MB waiting: from the reader's request, its way included, to the
    first byte of the asked-for layer, asked at different moments."""
    delays = []
    wanted = 29
    for phase in range(phases):
        made = line()
        for number in range(wanted + 1):
            offer, encoding = layer(number, 100_000)
            made.outbox.put(offer, encoding, priority(number))

        def on_sender(event: object, made: Line = made) -> None:
            if isinstance(event, m.Focus):
                made.outbox.reprioritise(wanted, priority(wanted)._replace(focus=event.rank))

        made.on_sender = on_sender
        asked_s = 6.0 + phase * 0.0371
        made.at(asked_s, lambda made=made: made.receiver.say(m.Focus(0, BACKGROUND.box, 0)))  # type: ignore[misc]
        made.run(asked_s + 1)
        offered = [t for t, e in made.arrived if isinstance(e, m.LayerOffer) and e.number == wanted]
        delays.append(offered[0] - asked_s)
    return delays


def test_a_focus_moves_its_layer_to_the_front_within_one_window() -> None:
    assert max(focus_delays(phases=40)) < 0.150


def test_a_layer_that_is_held_already_is_sent_no_further() -> None:
    made = line()
    heavy, light = layer(0, 500_000), layer(1, 1000)
    made.outbox.put(*heavy, priority(0))
    made.outbox.put(*light, priority(1))
    made.at(1.0, lambda: judge(made, 0, m.Verdict.HELD))
    made.run(2.0)
    assert list(arrivals(made)) == [1]
    assert made.sender.sent_bytes < 150_000


def test_a_withdrawn_layer_is_forgotten_at_both_ends() -> None:
    made = line()
    made.outbox.put(*layer(0, 500_000), priority(0))
    made.run(1.0)
    made.sender.withdraw(0)
    made.outbox.put(*layer(1, 1000), priority(1))
    made.run(2.0)
    assert list(arrivals(made)) == [1]
    made.sender.end(MANIFEST.study)
    made.run(3.0)
    assert made.sender.state is State.DONE


def test_a_pause_holds_fragments_and_a_resume_lets_them_go() -> None:
    made = line()
    made.outbox.put(*layer(0, 100_000), priority(0))
    made.at(0.5, lambda: made.receiver.say(m.Pause()))
    made.run(1.0)
    held = made.receiver.received_bytes
    made.run(5.0)
    assert made.receiver.received_bytes == held
    made.at(5.0, lambda: made.receiver.say(m.Resume()))
    made.run(7.0)
    assert list(arrivals(made)) == [0]


def test_a_chunk_whose_hash_is_wrong_is_sent_again() -> None:
    """A fault in our own memory between hashing and sending; the frame's CRC cannot see it."""
    made = line()
    offer, encoding = layer(0, 3 * limits.CHUNK_BYTES)
    broken = bytearray(encoding)
    broken[limits.CHUNK_BYTES + 9] ^= 4
    made.outbox.put(offer, bytes(broken), priority(0))
    made.run(1.5)
    made.outbox._layers[0].encoding = encoding
    made.run(6.0)
    assert list(arrivals(made)) == [0]


def test_chunks_that_never_prove_right_end_the_session() -> None:
    made = line()
    offer, encoding = layer(0, 1000)
    made.outbox.put(offer, bytes(len(encoding)), priority(0))
    with pytest.raises(RemoteProtocolError, match="hashes"):
        made.run(60.0)


def test_more_acknowledged_than_sent_is_refused() -> None:
    made = line()
    lie = encode_frame(FrameKind.CONTROL, 0, pack_message(m.Ack(10**9, 0, 0)))
    with pytest.raises(RemoteProtocolError, match="acknowledged"):
        made.sender.receive_frame(lie, 1.0)


@pytest.mark.parametrize(
    "message", [m.Want(7), m.Again(7, 0, 512), m.LayerVerdict(7, m.Verdict.SHOWN)]
)
def test_words_about_an_encoding_that_was_never_offered_are_refused(message: m.Message) -> None:
    made = line()
    with pytest.raises(RemoteProtocolError, match="never offered"):
        made.sender.receive_frame(encode_frame(FrameKind.CONTROL, 0, pack_message(message)), 1.0)


@pytest.mark.parametrize("name", [n for n in examples.MESSAGES if n != "hello"])
def test_a_receiver_takes_nothing_before_the_hello(name: str) -> None:
    receiver = ReceivingConnection(software="test")
    frame = encode_frame(FrameKind.CONTROL, 0, pack_message(examples.MESSAGES[name]))
    if name == "farewell":
        receiver.receive_frame(frame, 0.0)
        return
    with pytest.raises(RemoteProtocolError, match="while new"):
        receiver.receive_frame(frame, 0.0)


def test_another_version_is_refused_in_one_sentence() -> None:
    receiver = ReceivingConnection(software="test")
    hello = pack_message(m.Hello(9, m.Role.SENDER, "medroi 9"))
    with pytest.raises(RemoteProtocolError, match="version 9"):
        receiver.receive_frame(encode_frame(FrameKind.CONTROL, 0, hello), 0.0)


def test_a_receiver_is_no_sender() -> None:
    receiver = ReceivingConnection(software="test")
    hello = pack_message(m.Hello(limits.PROTOCOL_VERSION, m.Role.RECEIVER, "medroi"))
    with pytest.raises(RemoteProtocolError, match="a sender"):
        receiver.receive_frame(encode_frame(FrameKind.CONTROL, 0, hello), 0.0)


def test_our_own_calls_out_of_turn_are_local_errors() -> None:
    sender = SendingConnection(software="test")
    with pytest.raises(LocalProtocolError):
        sender.offer(MANIFEST, Outbox())
    with pytest.raises(LocalProtocolError):
        sender.go_on(Inbox(SESSION).standing(), Outbox())
    made = line()
    made.outbox.put(*layer(0, 10), priority(0))
    with pytest.raises(LocalProtocolError, match="not settled"):
        made.sender.end(MANIFEST.study)


def test_a_farewell_ends_both_ends() -> None:
    made = line()
    made.sender.leave(m.Why.STOPPED, "enough")
    made.run(1.0)
    assert made.receiver.state is State.CLOSED
    assert made.arrived[-1][1] == m.Farewell(m.Why.STOPPED, "enough")
    assert made.receiver.receive_frame(b"whatever comes late", 1.0) == []


def test_an_acknowledgement_waits_for_company_but_not_for_long() -> None:
    made = line()
    before = made.sender.window.in_flight_bytes
    made.outbox.put(*layer(0, 100), priority(0))
    made.run(made.now_s + 0.05 + 0.004 + 0.020 + 0.05 + 0.005)
    assert before == made.sender.window.in_flight_bytes == 0


def test_many_open_layers_never_pass_the_receivers_limit() -> None:
    """Each layer pre-empts the one before it, over and over."""
    made = line(rate_bps=1e8, rtt_s=0.002)
    for number in range(limits.MAX_OPEN_LAYERS + 40):
        offer, encoding = layer(number, 40_000)
        made.outbox.put(offer, encoding, priority(-number))
        made.run(made.now_s + 0.0005)
    made.run(made.now_s + 5)
    assert len(arrivals(made)) == limits.MAX_OPEN_LAYERS + 40
    assert decode_frame(made.frames[0][1]).kind is FrameKind.CONTROL
