"""What goes over a WebSocket to the rendezvous: which mailboxes, once, and then lines.

    join    | 'mdrv' | version u8 | 1 to 64 mailboxes' names, 32 bytes each    end --> rendezvous
    line    | which u8 | a line of `sealed`, up to 4000 characters             both ways

One binary message each. ``which`` counts the names that this end has joined by, from 0. All that
this module sees of a line is that it may be one: it is sealed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.errors import RemoteProtocolError
from shared.rendezvous.names import NAME_BYTES
from shared.transports.webrtc.sealed import MAX_LINE_CHARS, PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
MAX_NAMES = 64
"""Of one connection: a clinic's with 32 sites, at midnight."""
MAX_FRAME_BYTES = 1 + MAX_LINE_CHARS
PING_S = 20.0
"""Between signs of life, both ways: routers forget a connection that is silent for minutes, and an
end that waits for days must notice when the rendezvous is gone."""

_HEAD = b"mdrv" + bytes([VERSION])
_LINE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]+".encode())


def pack_join(names: Sequence[bytes]) -> bytes:
    """The first message of an end."""
    return _HEAD + b"".join(names)


def read_join(frame: bytes) -> tuple[bytes, ...]:
    """The names in a first message.

    Raises:
        RemoteProtocolError: it is none, of another version, or names no mailbox, too many, or one
            twice.
    """
    if frame[:4] != _HEAD[:4] or len(frame) < len(_HEAD):
        raise RemoteProtocolError("the peer did not begin as an end of medroi does")
    if frame[4] != VERSION:
        raise RemoteProtocolError(f"the peer speaks version {frame[4]}, expected {VERSION}")
    count, rest = divmod(len(frame) - len(_HEAD), NAME_BYTES)
    if rest or not 0 < count <= MAX_NAMES:
        raise RemoteProtocolError(f"expected 1 to {MAX_NAMES} names of {NAME_BYTES} bytes")
    starts = range(len(_HEAD), len(frame), NAME_BYTES)
    names = tuple(frame[start : start + NAME_BYTES] for start in starts)
    if len(set(names)) < count:
        raise RemoteProtocolError("the peer names a mailbox twice")
    return names


def pack_line(which: int, line: str) -> bytes:
    """A line, for or from a mailbox."""
    return bytes([which]) + line.encode("ascii")


def read_line(frame: bytes, names: int) -> tuple[int, str]:
    """Which mailbox of ``names`` many, and the line.

    Raises:
        RemoteProtocolError: another mailbox, or what is no line.
    """
    if not frame or frame[0] >= names:
        raise RemoteProtocolError("the peer names a mailbox that was not joined")
    if len(frame) > MAX_FRAME_BYTES or not _LINE.fullmatch(frame, 1):
        raise RemoteProtocolError("the peer sent what is no sealed line")
    return frame[0], frame[1:].decode("ascii")
