"""Frames <-> bytes: the fixed header, the CRC, and the two kinds of frame.

     0      1      2        4            8            12           16
     +------+------+--------+------------+------------+------------+----------
     | 'm'  | kind | flags  | length     | sent_us    | crc        | payload
     +------+------+--------+------------+------------+------------+----------
       u8     u8     u16 =0   u32          u32          u32          length bytes

All in network byte order. ``length`` is the payload's. ``sent_us`` is the sending end's clock in
microseconds, modulo 2^32; an acknowledgement echoes it. ``crc`` is CRC-32C (RFC 3720, appendix B.4)
over the header without it and the payload: it finds accidents, digests find everything else.

A control frame's payload is a message (`payloads`). A fragment's is the number of its encoding
(u32), an offset in it (u32) and the bytes that stand there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

from protocol import limits
from shared.errors import DamagedFrame, RemoteProtocolError

_HEADER = struct.Struct("!BBHII")
_CRC = struct.Struct("!I")
_FRAGMENT = struct.Struct("!II")
_MAGIC = ord("m")

HEADER_BYTES = _HEADER.size + _CRC.size
FRAGMENT_OVERHEAD_BYTES = HEADER_BYTES + _FRAGMENT.size


class FrameKind(IntEnum):
    """What a frame's payload is."""

    CONTROL = 1
    FRAGMENT = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, taken apart."""

    kind: FrameKind
    sent_us: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of an encoding."""

    number: int
    offset: int
    content: bytes


def encode_frame(kind: FrameKind, sent_us: int, payload: bytes) -> bytes:
    """The bytes of a frame."""
    header = _HEADER.pack(_MAGIC, kind, 0, len(payload), sent_us)
    crc = google_crc32c.extend(google_crc32c.value(header), payload)
    return header + _CRC.pack(crc) + payload


def decode_frame(raw: bytes) -> Frame:
    """The frame in the bytes that a transport delivered as one.

    Raises:
        DamagedFrame: too short, too long, another magic or kind, a wrong length or CRC.
    """
    if not HEADER_BYTES <= len(raw) <= limits.MAX_FRAME_BYTES:
        raise DamagedFrame(f"a frame of {len(raw)} bytes")
    magic, kind, flags, length, sent_us = _HEADER.unpack_from(raw)
    if magic != _MAGIC or flags != 0 or kind not in tuple(FrameKind):
        raise DamagedFrame(f"not a medroi frame: it begins with {raw[:4].hex()}")
    payload = raw[HEADER_BYTES:]
    if length != len(payload):
        raise DamagedFrame(f"a frame that says {length} bytes and has {len(payload)}")
    (crc,) = _CRC.unpack_from(raw, _HEADER.size)
    header = raw[: _HEADER.size]
    if crc != google_crc32c.extend(google_crc32c.value(header), payload):
        raise DamagedFrame("a frame whose CRC-32C is wrong")
    return Frame(FrameKind(kind), sent_us, payload)


def pack_fragment(fragment: Fragment) -> bytes:
    """The payload of a fragment's frame."""
    return _FRAGMENT.pack(fragment.number, fragment.offset) + fragment.content


def unpack_fragment(payload: bytes) -> Fragment:
    """The fragment in a frame's payload.

    Raises:
        RemoteProtocolError: it is empty or over `limits.MAX_FRAGMENT_BYTES`.
    """
    size = len(payload) - _FRAGMENT.size
    if not 0 < size <= limits.MAX_FRAGMENT_BYTES:
        raise RemoteProtocolError(f"a fragment of {size} bytes")
    number, offset = _FRAGMENT.unpack_from(payload)
    return Fragment(number, offset, payload[_FRAGMENT.size :])
