"""Frames on a data channel: a stream of them, cut into messages, and how much may wait unread.

A message of the channel is one byte that says its kind, and a content:

    1  PROOF   32 bytes        the first message each way (`binding`)
    2  DATA    1..16383 bytes  of the stream: frames, each behind its length (u32)
    3  READ    8 bytes         how much of what was sent has been read, in all (u64)
    4  END     1 byte          no more frames; 1 if the other end's END has come, else 0

Messages are short, because a data channel sends one after the other, whole: behind a long one an
urgent frame waits. They are cut at multiples of what a packet holds, across frames, because aiortc
begins a packet with each message: a frame of 1.7 kB in a message of its own costs 11 % in headers,
in a stream 8 %. aiortc knows no flow control, so there is one here: what was sent and has not been
read is at most `WINDOW_BYTES`, counted by `charge`.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import IntEnum

from shared.errors import RemoteProtocolError

PACKET_BYTES = 1160
"""Of a message in one packet: aiortc's choice, which fits any path (its issue 42222640)."""
MESSAGE_BYTES = 16 << 10
"""Of one message, its kind included. 16 KiB was measured to be the fastest as well."""
WINDOW_BYTES = 2 << 20
"""Sent and not read: 20 Mbit/s for 0.8 s, which is more than a data channel is good for."""
LEAST_CHARGE_BYTES = 1 << 10
"""What the smallest message counts: it costs a packet, and memory, whatever is in it."""
_LENGTH = struct.Struct("!I")
_READ = struct.Struct("!Q")


class Kind(IntEnum):
    """The first byte of a message."""

    PROOF = 1
    DATA = 2
    READ = 3
    END = 4


_CONTENT_BYTES = {
    Kind.PROOF: (32, 32),
    Kind.DATA: (1, MESSAGE_BYTES - 1),
    Kind.READ: (_READ.size, _READ.size),
    Kind.END: (1, 1),
}


def parse(message: bytes) -> tuple[Kind, bytes]:
    """A message's kind and content.

    Raises:
        RemoteProtocolError: no such kind, or not a size that it may have.
    """
    try:
        kind = Kind(message[0])
    except (IndexError, ValueError):
        raise RemoteProtocolError(
            f"expected a message of a known kind, got {message[:1].hex() or 'an empty one'}"
        ) from None
    least, most = _CONTENT_BYTES[kind]
    if not least <= len(message) - 1 <= most:
        raise RemoteProtocolError(
            f"expected {kind.name} with {least} to {most} bytes, got {len(message) - 1}"
        )
    return kind, message[1:]


def pack_read(charged: int) -> bytes:
    """So much has been read here."""
    return bytes((Kind.READ,)) + _READ.pack(charged)


def unpack_read(content: bytes) -> int:
    """So much has been read there."""
    (charged,) = _READ.unpack(content)
    return int(charged)


def charge(content_bytes: int) -> int:
    """What so much of the stream in one message counts in the window."""
    return max(content_bytes, LEAST_CHARGE_BYTES)


class Cutter:
    """The stream on its way out."""

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self.size_bytes = 0
        """What waits to be cut."""

    def push(self, frame: bytes) -> None:
        """One more frame."""
        for part in (_LENGTH.pack(len(frame)), frame):
            if part:
                self._parts.append(memoryview(part))
                self.size_bytes += len(part)

    def next_size(self, *, all_of_it: bool, most_bytes: int = MESSAGE_BYTES) -> int:
        """How much the next message should take; 0 if more should be waited for.

        Whole packets, as many as a message of ``most_bytes`` has, but one at least; ``all_of_it``
        lets the last one be short.
        """
        most_bytes = max(PACKET_BYTES, min(most_bytes, MESSAGE_BYTES))
        packets = min(self.size_bytes + 1, most_bytes) // PACKET_BYTES
        if packets:
            return packets * PACKET_BYTES - 1
        return self.size_bytes if all_of_it else 0

    def cut(self, size_bytes: int) -> bytes:
        """A message with so much of the stream."""
        taken = [bytes((Kind.DATA,))]
        self.size_bytes -= size_bytes
        while size_bytes:
            part = self._parts.popleft()
            if len(part) > size_bytes:
                self._parts.appendleft(part[size_bytes:])
                part = part[:size_bytes]
            taken.append(bytes(part))
            size_bytes -= len(part)
        return b"".join(taken)

    def drop(self) -> None:
        """Forget what waits."""
        self._parts.clear()
        self.size_bytes = 0


class Joiner:
    """Makes frames of the stream, and holds them until they are asked for; bounded by the window.

    What counts is charged when it comes, and read when the last frame that it is part of is taken.
    """

    def __init__(self, *, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._stream = bytearray()
        self._frames: deque[tuple[bytes, int]] = deque()
        self._charged = self._read = self._said = 0

    def __bool__(self) -> bool:
        """Whether a frame is there."""
        return bool(self._frames)

    def add(self, content: bytes) -> None:
        """Take a piece of the stream.

        Raises:
            RemoteProtocolError: a frame is over the size limit, or the window is overrun.
        """
        self._charged += charge(len(content))
        if self._charged - self._said > WINDOW_BYTES:
            raise RemoteProtocolError("the peer sent more than it was allowed to")
        self._stream += content
        start = 0
        while len(self._stream) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._stream, start)
            if length > self._max_frame_bytes:
                raise RemoteProtocolError(
                    f"the peer sent a frame over the size limit of {self._max_frame_bytes} bytes"
                )
            end = start + _LENGTH.size + length
            if len(self._stream) < end:
                break
            self._frames.append((bytes(self._stream[start + _LENGTH.size : end]), self._charged))
            start = end
        del self._stream[:start]

    def take(self) -> bytes:
        """The next frame, which is read by that."""
        frame, self._read = self._frames.popleft()
        return frame

    def to_say(self) -> int | None:
        """What the peer should be told has been read; None while it can wait."""
        if self._read - self._said < WINDOW_BYTES // 8:
            return None
        self._said = self._read
        return self._read

    def drop(self) -> None:
        """Forget everything: nobody will ask for it."""
        self._stream.clear()
        self._frames.clear()
