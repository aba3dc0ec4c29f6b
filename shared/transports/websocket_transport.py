"""A WebSocket as a `Transport`: one frame is one binary message. `websocket` makes them.

With BBR a WebSocket was measured to fill 93 % of a link of 5 Mbit/s with 100 ms RTT and 1 % loss,
with CUBIC 19 %: so BBR is asked for, and the stats say which one it is. Buffers are small, since
what has been handed over cannot be overtaken: the library's by `WRITE_LIMIT_BYTES`, the kernel's
by `NOTSENT_BYTES`. What is in the network is up to the session's window.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING

from websockets.exceptions import ConcurrencyError, ConnectionClosed, ConnectionClosedOK
from websockets.frames import CloseCode

from shared.errors import LocalProtocolError, RemoteProtocolError, TransportClosed
from shared.transports.base import TransportStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.connection import Connection

    from shared.trust.proof import Proven

WRITE_LIMIT_BYTES = 4096
"""In the library before `send` waits."""
NOTSENT_BYTES = 16 << 10
"""In the kernel and not yet sent before it takes no more."""
CONGESTION = b"bbr"
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 6}
"""Seconds, seconds, tries: an idle peer that lost its power is given up after four minutes."""

_TCP_INFO_BYTES = 104
_TOTAL_RETRANS = slice(100, 104)
"""Of struct tcp_info (linux/tcp.h)."""

_PEER_BROKE: dict[int, str] = {
    CloseCode.PROTOCOL_ERROR: "broke the WebSocket protocol",
    CloseCode.INVALID_DATA: "sent text that is not UTF-8, expected binary frames",
    CloseCode.MESSAGE_TOO_BIG: "sent a frame over the size limit",
}
"""What the library has found when it closes with such a code."""


class WebSocketTransport:
    """An open WebSocket; `close` must follow."""

    def __init__(self, connection: Connection, *, max_frame_bytes: int) -> None:
        """``max_frame_bytes`` holds for sending; for receiving the connection has its own."""
        self._connection = connection
        self._max_frame_bytes = max_frame_bytes
        self._socket: socket.socket = connection.transport.get_extra_info("socket")
        self._congestion = _tune(self._socket)
        self._receiving = False
        self._closing = asyncio.Event()
        self._close_code = CloseCode.NORMAL_CLOSURE
        self._count_from_here()
        self._proven: Proven | None = None

    def begin_session(self, proven: Proven) -> None:
        """The key is proven: what comes now is a session's, and counted."""
        self._proven = proven
        self._count_from_here()

    @property
    def proven(self) -> Proven | None:
        """What the proof of the shared key gave; None where there was none to prove."""
        return self._proven

    @property
    def session_key(self) -> bytes:
        """32 bytes that both ends and nobody else have, for this connection; empty without a key.

        What another path needs, such as an SDP, is sealed with it.
        """
        return self._proven.session_key if self._proven else b""

    async def until_gone(self) -> None:
        """Wait until the connection is over, however it ended."""
        await self._connection.wait_closed()

    async def send(self, frame: bytes) -> None:
        """Hand over one frame; returns when the buffers have room for the next.

        Raises:
            TransportClosed: the connection is gone, or closed by either end.
            LocalProtocolError: the frame is over the size limit.
        """
        if len(frame) > self._max_frame_bytes:
            raise LocalProtocolError(
                f"expected a frame of up to {self._max_frame_bytes} bytes, got {len(frame)}"
            )
        if self._closing.is_set():
            raise TransportClosed("the connection was closed by this end")
        try:
            await self._connection.send(frame)
        except ConnectionClosed as closed:
            raise TransportClosed(f"the connection is gone: {_reason(closed)}") from closed
        self._frames_sent += 1
        self._bytes_sent += len(frame)

    async def frames(self) -> AsyncIterator[bytes]:
        """Frames as they arrive; ends when either end has closed in order.

        Raises:
            TransportClosed: the connection broke.
            RemoteProtocolError: text, a frame over the size limit, or no WebSocket frame at all.
        """
        while not self._closing.is_set():
            try:
                message = await self._receive()
            except ConnectionClosedOK:
                return
            except ConnectionClosed as closed:
                if self._closing.is_set():
                    return
                if closed.sent and not closed.rcvd_then_sent and closed.sent.code in _PEER_BROKE:
                    raise RemoteProtocolError(
                        f"the peer {_PEER_BROKE[closed.sent.code]}"
                    ) from closed
                raise TransportClosed(f"the connection broke: {_reason(closed)}") from closed
            if isinstance(message, str):
                self._close_code = CloseCode.UNSUPPORTED_DATA
                raise RemoteProtocolError("the peer sent text, expected binary frames")
            if not self._closing.is_set():
                self._frames_received += 1
                self._bytes_received += len(message)
                yield message
        await self._discard()
        await self._connection.wait_closed()

    async def close(self) -> None:
        """Close in order: what was sent arrives first, what still comes in is dropped.

        Waits until the peer agrees, or the time for that is over; safe to call twice.
        """
        self._closing.set()
        try:
            async with asyncio.TaskGroup() as group:
                # The peer's agreement comes behind its frames: it is not seen unless they are read.
                group.create_task(self._discard())
                await self._connection.close(self._close_code)
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop the connection at once; both ends see a broken one."""
        self._connection.transport.abort()

    def losses(self) -> int | None:
        """Segments that the kernel has sent again (tcp(7), TCP_INFO, tcpi_total_retrans)."""
        if not hasattr(socket, "TCP_INFO"):  # Linux has it
            return None
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
        return int.from_bytes(told[_TOTAL_RETRANS], sys.byteorder)

    def stats(self) -> TransportStats:
        """Counts so far."""
        return TransportStats(
            name="websocket",
            congestion=self._congestion,
            frames_sent=self._frames_sent,
            bytes_sent=self._bytes_sent,
            frames_received=self._frames_received,
            bytes_received=self._bytes_received,
        )

    def _count_from_here(self) -> None:
        self._frames_sent = self._bytes_sent = 0
        self._frames_received = self._bytes_received = 0

    async def _receive(self) -> str | bytes:
        self._receiving = True
        try:
            return await self._connection.recv()
        finally:
            self._receiving = False

    async def _discard(self) -> None:
        """Read to the end, unless somebody else is reading."""
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):
            while not self._receiving:
                await self._receive()


def _reason(closed: ConnectionClosed) -> str:
    """Why a connection is closed, for a sentence."""
    if closed.rcvd:
        reason = f" ({closed.rcvd.reason})" if closed.rcvd.reason else ""
        return f"the peer closed it with code {closed.rcvd.code}{reason}"
    if isinstance(closed.__cause__, TimeoutError):
        return "the peer did not agree to close it in time"
    return "the peer is gone without closing it"


def _tune(sock: socket.socket) -> str:
    """Set the options of a connected socket; which congestion control it has, empty if unknown.

    Options that a platform or its kernel does not offer are left as they are.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {**KEEPALIVE, "TCP_NOTSENT_LOWAT": NOTSENT_BYTES}.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if not hasattr(socket, "TCP_CONGESTION"):  # Linux has it
        return ""
    with contextlib.suppress(OSError):  # not built, or not allowed: the kernel's own choice stays
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
    name_bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)  # TCP_CA_NAME_MAX
    return name_bytes.partition(b"\0")[0].decode("ascii", "replace")
