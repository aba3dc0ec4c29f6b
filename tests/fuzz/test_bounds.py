"""What a hostile end can make the other one keep or do: bounded, or a named error."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from protocol import limits
from protocol import messages as m
from protocol.chunks import Assembly
from protocol.events import EncodingArrived, FragmentArrived
from protocol.frames import Fragment, FrameKind, encode_frame, pack_fragment
from protocol.inbox import Inbox
from protocol.outbox import Outbox
from protocol.payloads import pack_message, unpack_message
from protocol.receiving import ReceivingConnection
from protocol.sending import SendingConnection
from protocol.stages import UNFOCUSED, Priority
from protocol.states import State
from shared.errors import LocalProtocolError, RemoteProtocolError
from shared.geometry import Box
from shared.intensity import PreviewWindow, SampleKind, SampleMap
from shared.layer import LayerKey, Quality, Region, RegionKind
from tests.protocol import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.events import Event

SHAPE = (512, 256, 256)
HEADER = replace(examples.HEADER, shape=SHAPE, frames=None)
ENTRY = replace(examples.ENTRY, header=HEADER)
MANIFEST = m.Manifest(hashlib.sha256(ENTRY.digest).digest(), (ENTRY,))
PLAN = m.Plan(0, 1, (Region("background", RegionKind.BACKGROUND, Box.whole(SHAPE)),), b"")
HELLO = m.Hello(limits.PROTOCOL_VERSION, m.Role.SENDER, "x")
ATTACH = m.Attach(bytes(16), 1, False)
LARGE = limits.MAX_ENCODING_BYTES
DIGESTS = bytes(32 * (LARGE // limits.CHUNK_BYTES))


def control(message: m.Message) -> bytes:
    return encode_frame(FrameKind.CONTROL, 0, pack_message(message))


def fragment(number: int, offset: int, content: bytes) -> bytes:
    return encode_frame(FrameKind.FRAGMENT, 0, pack_fragment(Fragment(number, offset, content)))


def receiver() -> ReceivingConnection:
    """Past the answer to the manifest, with a plan."""
    made = attached()
    made.receive_frame(control(MANIFEST), 0.0)
    made.accept(())
    made.receive_frame(control(PLAN), 0.0)
    return made


def attached() -> ReceivingConnection:
    """Past the greeting; of a new session."""
    made = ReceivingConnection(software="test")
    made.receive_frame(control(HELLO), 0.0)
    made.greet()
    made.receive_frame(control(ATTACH), 0.0)
    assert made.join(Inbox(ATTACH.session), ATTACH)
    return made


def sender(outbox: Outbox | None = None) -> SendingConnection:
    """Past the answer to the manifest, with a plan."""
    made = SendingConnection(software="test")
    made.greet()
    made.attach(ATTACH.session, 1, accepted=False)
    made.receive_frame(control(replace(HELLO, role=m.Role.RECEIVER)), 0.0)
    made.offer(MANIFEST, outbox or Outbox())
    made.plan(PLAN)
    made.receive_frame(control(m.Accept(())), 0.0)
    return made


def large_offer(number: int) -> m.LayerOffer:
    """64 MiB that encode 32 Mi voxels of 16 bits."""
    box = Box((0, 0, 0), SHAPE)
    return replace(
        examples.offer(number, region="background", box=box, owned=box.voxels),
        key=LayerKey(0, "background", Quality.EXACT, number),
        size_bytes=LARGE,
        chunk_digests=DIGESTS,
    )


def priority(place: int) -> Priority:
    return Priority(UNFOCUSED, 0, 0, 0, 0, place)


# -- the receiver ---------------------------------------------------------------------------------


def test_encodings_under_way_take_no_more_than_their_limit() -> None:
    made = receiver()
    for number in range(limits.MAX_OPEN_BYTES // LARGE):
        made.receive_frame(control(large_offer(number)), 0.0)
    with pytest.raises(RemoteProtocolError, match="too many bytes"):
        made.receive_frame(control(large_offer(99)), 0.0)


def test_what_was_offered_and_taken_back_is_not_kept() -> None:
    """65,536 offers of 64 MiB have 2 GiB of chunk digests."""
    made = receiver()
    tracemalloc.start()
    for number in range(600):
        made.receive_frame(control(large_offer(number)), 0.0)
        made.receive_frame(control(m.Withdraw(number)), 0.0)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1 << 20
    assert made.receive_frame(control(large_offer(5)), 0.0) == []


def test_an_encoding_in_crumbs_with_gaps_between_them_is_refused() -> None:
    assembly = Assembly(LARGE, DIGESTS)
    for offset in range(0, 2 * limits.MAX_PIECES, 2):
        assembly.add(offset, b"x")
    with pytest.raises(RemoteProtocolError, match="pieces"):
        assembly.add(2 * limits.MAX_PIECES, b"x")


@pytest.mark.parametrize("same_block", [True, False])
def test_a_headers_layer_is_no_larger_than_its_limit_in_all(same_block: bool) -> None:
    """Each piece is a kilobyte of zstd and becomes 32 MiB."""
    made = receiver()
    piece = limits.MAX_BLOCK_VOXELS
    most = limits.MAX_ATTACHMENT_BYTES // piece
    for number in range(most + 1):
        key = LayerKey(0, m.HEADERS_REGION, Quality.EXACT, 0 if same_block else number)
        offer = replace(examples.HEADERS, number=number, key=key, decoded_bytes=piece)
        if number < most:
            made.receive_frame(control(offer), 0.0)
            continue
        with pytest.raises(RemoteProtocolError, match="headers layer of"):
            made.receive_frame(control(offer), 0.0)


def test_numbers_have_an_end() -> None:
    made = receiver()
    last = replace(examples.HEADERS, number=limits.MAX_LAYERS)
    made.receive_frame(control(last), 0.0)
    lie = encode_frame(
        FrameKind.CONTROL, 0, pack_message(replace(last, number=limits.MAX_LAYERS + 1))
    )
    with pytest.raises(RemoteProtocolError, match="number from 0"):
        made.receive_frame(lie, 0.0)


def test_a_peer_that_has_left_need_not_be_told() -> None:
    """Its farewell is read while its hello, its manifest or its end are still being answered."""

    def finish(made: ReceivingConnection) -> None:
        made.finish(exact=True)

    def join(made: ReceivingConnection) -> None:
        made.join(Inbox(ATTACH.session), ATTACH)

    steps: list[tuple[m.Message, Callable[[ReceivingConnection], None]]] = [
        (HELLO, ReceivingConnection.greet),
        (ATTACH, join),
        (MANIFEST, lambda made: made.accept(())),
        (m.End(MANIFEST.study), finish),
    ]
    for last in range(4):
        made = ReceivingConnection(software="test")
        for message, answer in steps[:last]:
            made.receive_frame(control(message), 0.0)
            answer(made)
        made.receive_frame(control(steps[last][0]), 0.0)
        made.receive_frame(control(m.Farewell(m.Why.STOPPED, "enough")), 0.0)
        for _, answer in steps:
            answer(made)
        made.refuse("no")
        made.leave(m.Why.STOPPED, "")
        assert made.state is State.CLOSED
        said = []
        while (frame := made.next_frame(1.0)) is not None:
            said.append(type(unpack_message(frame[16:])))
        assert said == [m.Hello, m.Standing, m.Accept][:last]
    with pytest.raises(LocalProtocolError):
        ReceivingConnection(software="test").accept(())


@pytest.mark.parametrize(
    "samples",
    [
        SampleMap(SampleKind.STEP, 8, offset=(1 << 64) - 1, step=1.0),
        SampleMap(SampleKind.STEP, 8, offset=-(1 << 63), step=1.0),
        SampleMap(SampleKind.STEP, 8, offset=(1 << 53) + 1, step=1.0),
    ],
)
def test_steps_that_no_float_counts_are_refused(samples: SampleMap) -> None:
    made = attached()
    entry = replace(ENTRY, samples=samples)
    with pytest.raises(RemoteProtocolError, match="steps from"):
        made.receive_frame(control(replace(MANIFEST, series=(entry,))), 0.0)


def test_a_window_wider_than_any_number_is_refused() -> None:
    made = attached()
    entry = replace(ENTRY, window=PreviewWindow(-1.7e308, 1.7e308))
    with pytest.raises(RemoteProtocolError, match="window"):
        made.receive_frame(control(replace(MANIFEST, series=(entry,))), 0.0)


# -- the sender -----------------------------------------------------------------------------------


def test_a_receiver_cannot_ask_for_chunks_again_for_ever() -> None:
    outbox = Outbox()
    made = sender(outbox)
    offer = examples.offer(0, region="background", box=Box.whole((1, 4, 4)), owned=16)
    outbox.put(offer, examples.ENCODING, priority(0))
    again = control(m.Again(0, 0, len(examples.ENCODING)))
    for _ in range(64):
        made.receive_frame(again, 0.0)
    with pytest.raises(RemoteProtocolError, match="asked for again"):
        made.receive_frame(again, 0.0)


def test_a_focus_that_moves_to_and_fro_fills_no_memory() -> None:
    outbox = Outbox()
    made = sender(outbox)
    for number in range(40):
        offer = examples.offer(number, region="background", box=Box.whole((1, 4, 4)), owned=16)
        outbox.put(offer, examples.ENCODING, priority(number))
    for turn in range(5000):
        for number in range(40):
            outbox.reprioritise(number, priority(number)._replace(focus=turn % 2))
    assert len(outbox._heap) < 4000
    order: list[bytes] = []
    while (frame := made.next_frame(0.0)) is not None and len(order) < 10:
        if frame[1] == FrameKind.FRAGMENT:
            order.append(frame)
    assert order


def test_the_order_is_kept_when_the_heap_is_made_anew() -> None:
    outbox = Outbox()
    made = sender(outbox)
    for number in range(5):
        offer = examples.offer(number, region="background", box=Box.whole((1, 4, 4)), owned=16)
        outbox.put(offer, examples.ENCODING, priority(number))
    for turn in range(3000):
        outbox.reprioritise(turn % 5, priority(turn))
    offered = []
    while (frame := made.next_frame(0.0)) is not None:
        if frame[1] == FrameKind.CONTROL:
            message = unpack_message(frame[16:])
            if isinstance(message, m.LayerOffer):
                offered.append(message.number)
    assert offered == [0, 1, 2, 3, 4]


def test_a_receipt_for_another_study_is_none() -> None:
    made = sender()
    made.end(MANIFEST.study)
    with pytest.raises(RemoteProtocolError, match="another study"):
        made.receive_frame(control(m.Done(bytes(32), True)), 0.0)
    made = sender()
    made.end(MANIFEST.study)
    assert made.receive_frame(control(m.Done(MANIFEST.study, True)), 0.0)


# -- both -----------------------------------------------------------------------------------------

CONTROLS = ["\x1b[2J", "a\nb", "\x00", "\x7f", "\x9b2J", "\u2028", "\u202etxet", "\u2066x"]


@pytest.mark.parametrize("evil", CONTROLS, ids=ascii)
def test_no_text_of_a_peer_controls_a_terminal_or_a_log(evil: str) -> None:
    plain = pack_message(m.Farewell(m.Why.STOPPED, "~" * len(evil.encode())))
    lie = plain.replace(b"~" * len(evil.encode()), evil.encode())
    with pytest.raises(RemoteProtocolError, match="plain text"):
        unpack_message(lie)
    ours = unpack_message(pack_message(m.Farewell(m.Why.STOPPED, f"<{evil}>")))
    assert isinstance(ours, m.Farewell)
    assert ours.reason[0] + ours.reason[-1] == "<>"
    assert ours.reason.isprintable()


@pytest.mark.parametrize("name", ["Ангелика", "山田　太郎", "Ørsted-Ñandú", "عمر", "🩻"])
def test_names_of_people_are_plain_text(name: str) -> None:
    message = m.Refuse(name)
    assert unpack_message(pack_message(message)) == message


def test_an_encoding_is_complete_once() -> None:
    """Fragments that come again after it change nothing and cost nothing."""
    made = receiver()
    box = Box.whole((1, 4, 4))
    offer = examples.offer(0, region="background", box=box, owned=16)
    events: list[Event] = made.receive_frame(control(offer), 0.0)
    for _ in range(3):
        events += made.receive_frame(fragment(0, 0, examples.ENCODING), 0.0)
    kinds = [type(event) for event in events]
    assert kinds == [m.LayerOffer, FragmentArrived, EncodingArrived]
