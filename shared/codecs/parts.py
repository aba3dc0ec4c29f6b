"""Several bitstreams in one payload: their lengths, then their bytes.

    prefix length (1 byte) | prefix | one record per part | the bodies, in order
    record: length of the body, above 0            a stream: prefix + body
            0, then a value                        a flat part: nothing but this value

Numbers are LEB128 varints in their shortest form. How many parts there are is not said: both ends
know it from the shape. The streams of one codec open with the same header, so their common start is
kept once: it is 70-110 bytes of every JPEG-LS and JPEG 2000 slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_PREFIX_BYTES = 255
"""One byte says it; and every part is copied with its prefix, so it bounds what a lie can cost."""
_MAX_VARINT_BYTES = 5
"""35 bits, above any length or sample."""


def pack_parts(parts: Sequence[bytes | int]) -> bytes:
    """The payload of streams (``bytes``, never empty) and flat parts (their value)."""
    streams = [part for part in parts if isinstance(part, bytes)]
    prefix = _common_prefix(streams)
    table = bytearray([len(prefix)]) + prefix
    for part in parts:
        if isinstance(part, bytes):
            table += _varint(len(part) - len(prefix))
        else:
            table += b"\0" + _varint(part)
    return b"".join([bytes(table), *(stream[len(prefix) :] for stream in streams)])


def split_parts(payload: bytes, count: int) -> list[bytes | int]:
    """The parts of a payload that must hold exactly ``count`` of them.

    Raises:
        CodecError: it does not: the table is cut off, or lengths and bytes do not agree.
    """
    # Every record takes a byte: what follows costs no more than the payload is long.
    if len(payload) < 1 + count:
        raise CodecError(f"{len(payload)} bytes cannot hold {count} parts")
    at = 1 + payload[0]
    prefix = payload[1:at]
    records: list[tuple[int, int]] = []
    for _ in range(count):
        length, at = _read_varint(payload, at)
        value = 0
        if length == 0:
            value, at = _read_varint(payload, at)
        records.append((length, value))
    said = sum(length for length, _ in records)
    if said != len(payload) - at:
        raise CodecError(f"parts of {said} bytes in all, but {len(payload) - at} came")
    parts: list[bytes | int] = []
    for length, value in records:
        if length:
            parts.append(prefix + payload[at : at + length])
            at += length
        else:
            parts.append(value)
    return parts


def _common_prefix(streams: list[bytes]) -> bytes:
    if not streams:
        return b""
    # What the smallest and the largest share, all that lie between them share too.
    first, last = min(streams), max(streams)
    longest = min(_MAX_PREFIX_BYTES, min(map(len, streams)) - 1)
    same = 0
    while same < longest and first[same] == last[same]:
        same += 1
    return first[:same]


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(payload):
            raise CodecError("the table of parts is cut off")
        byte = payload[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if byte == 0 and index:
                break
            return value, at + index + 1
    raise CodecError("a number in the table of parts is not in its shortest form")
