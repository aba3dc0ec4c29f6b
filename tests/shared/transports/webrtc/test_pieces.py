"""Frames cut into messages and joined again, and what may wait unread."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from shared.errors import RemoteProtocolError
from shared.transports.webrtc.pieces import (
    MESSAGE_BYTES,
    PACKET_BYTES,
    WINDOW_BYTES,
    Cutter,
    Joiner,
    Kind,
    charge,
    pack_read,
    parse,
    unpack_read,
)

LIMIT = 1 << 20


def cut_all(cutter: Cutter, most_bytes: int = MESSAGE_BYTES) -> list[bytes]:
    messages = []
    while size_bytes := cutter.next_size(all_of_it=True, most_bytes=most_bytes):
        messages.append(cutter.cut(size_bytes))
    return messages


@pytest.mark.parametrize("most_bytes", [0, PACKET_BYTES, 5000, MESSAGE_BYTES, 1 << 20])
def test_frames_come_out_as_they_went_in(most_bytes: int) -> None:
    chance = random.Random(most_bytes)
    frames = [chance.randbytes(chance.choice((0, 1, 700, 1160, 40_000))) for _ in range(50)]
    cutter, joiner = Cutter(), Joiner(max_frame_bytes=LIMIT)
    for frame in frames:
        cutter.push(frame)
    for message in cut_all(cutter, most_bytes):
        kind, content = parse(message)
        assert kind is Kind.DATA
        joiner.add(content)
    came = []
    while joiner:
        came.append(joiner.take())
    assert came == frames


def test_messages_are_whole_packets_but_for_the_last() -> None:
    cutter = Cutter()
    cutter.push(bytes(50_000))
    sizes = [len(message) for message in cut_all(cutter)]
    assert all(size % PACKET_BYTES == 0 for size in sizes[:-1])
    assert max(sizes) <= MESSAGE_BYTES


@pytest.mark.parametrize(("most_bytes", "packets"), [(0, 1), (1200, 1), (2500, 2), (1 << 20, 14)])
def test_a_message_is_as_long_as_is_asked_for_and_a_packet_at_least(
    most_bytes: int, packets: int
) -> None:
    cutter = Cutter()
    cutter.push(bytes(50_000))
    size_bytes = cutter.next_size(all_of_it=False, most_bytes=most_bytes)
    assert len(cutter.cut(size_bytes)) == packets * PACKET_BYTES


def test_what_does_not_fill_a_packet_waits_unless_all_of_it_is_wanted() -> None:
    cutter = Cutter()
    cutter.push(bytes(100))
    assert cutter.next_size(all_of_it=False) == 0
    assert cutter.next_size(all_of_it=True) == 104


@pytest.mark.parametrize(
    "message", [b"", b"\0", b"\x05x", b"\x02", b"\x01short", pack_read(1) + b"!"]
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="expected"):
        parse(message)


def test_a_frame_over_the_limit_is_refused_by_its_length() -> None:
    with pytest.raises(RemoteProtocolError, match="over the size limit"):
        Joiner(max_frame_bytes=10).add(b"\0\0\0\x0b")


def test_what_has_been_read_is_said_an_eighth_of_the_window_at_a_time() -> None:
    joiner, content = Joiner(max_frame_bytes=LIMIT), b"\0\0\x27\x10" + bytes(10_000)
    said: list[int] = []
    for _ in range(400):
        joiner.add(content)
        joiner.take()
        if (charged := joiner.to_say()) is not None:
            said.append(unpack_read(pack_read(charged)[1:]))
    steps = [later - earlier for earlier, later in pairwise([0, *said])]
    assert len(steps) > 10
    assert all(
        WINDOW_BYTES // 8 <= step < WINDOW_BYTES // 8 + charge(len(content)) for step in steps
    )


def test_more_than_the_window_unread_is_an_offence() -> None:
    joiner = Joiner(max_frame_bytes=LIMIT)
    for _ in range(WINDOW_BYTES // charge(4)):
        joiner.add(b"\0\0\0\0")
    with pytest.raises(RemoteProtocolError, match="more than it was allowed"):
        joiner.add(b"\0\0\0\0")
