"""A data channel as a `Transport`. `connect` makes them.

    send -> a stream, as fast as the peer reads it -> one message at a time -> SCTP
    frames <- joined, until they are asked for <- messages

aiortc's buffers know no bound and its close drops what is under way, so both are done here: at most
one message waits in the channel, what the peer has not read is bounded (`pieces`), and an end is
agreed upon before the connection goes. ``bufferedAmount == 0`` says only that SCTP has it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from shared.errors import LocalProtocolError, MedroiError, RemoteProtocolError, TransportClosed
from shared.transports.base import TransportStats
from shared.transports.webrtc import pieces
from shared.transports.webrtc.pieces import PACKET_BYTES, Cutter, Joiner, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.transports.webrtc.binding import ChannelProof
    from shared.trust.proof import Proven

CLOSE_TIMEOUT_S = 10.0
"""For the peer to agree to an end; then the connection is dropped."""
LINGER_S = 5.0
"""For a peer that wanted the end to leave first; it may still have to hear our agreement."""
TAIL_S = 0.001
"""For the next frame to fill up a packet before it leaves as it is."""


class Pipe(Protocol):
    """An open data channel and the connection under it, as the transport sees them."""

    congestion: str
    """Name of the congestion control in use."""
    holds_back: bool
    """Whether that one keeps the path's queue short."""

    @property
    def losses(self) -> int | None:
        """Packets that had to be sent again so far; None where that is not known."""
        ...

    @property
    def message_bytes(self) -> int:
        """How long a message should be at most: it is of no use before its last packet is there."""
        ...

    on_message: Callable[[bytes | str], None]
    """Called with each message; a text is one that is not binary."""
    on_room: Callable[[], None]
    """Called when no message waits any more."""
    on_gone: Callable[[MedroiError], None]
    """Called once, with the reason, when the connection is no more."""

    @property
    def waits(self) -> bool:
        """Whether a message waits to be taken by SCTP."""
        ...

    def send(self, message: bytes) -> None:
        """Hand over a message."""
        ...

    async def drop(self) -> None:
        """End the connection without a word; safe to call twice."""
        ...


class WebRtcTransport:
    """An open data channel; `opened` must follow, and `close` in the end."""

    def __init__(self, pipe: Pipe, proof: ChannelProof, *, max_frame_bytes: int) -> None:
        """Takes over an open channel and proves the key on it."""
        if max_frame_bytes > pieces.WINDOW_BYTES // 2:
            raise ValueError(
                f"expected frames of up to {pieces.WINDOW_BYTES // 2} bytes, got {max_frame_bytes}"
            )
        self.proven: Proven | None = None
        """What was proven on the connection over which this channel was agreed on."""
        self._pipe = pipe
        self._proof = proof
        self._max_frame_bytes = max_frame_bytes
        self._is_proven = False
        self._leaving = Cutter()
        self._is_tail_due = False
        self._tail_timer: asyncio.TimerHandle | None = None
        self._sent_charge = self._read_charge = 0
        self._arrived = Joiner(max_frame_bytes=max_frame_bytes)
        self._closing = self._has_sent_end = self._has_got_end = self._is_agreed = False
        self._fault: MedroiError | None = None
        self._dropping: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._frames_sent = self._bytes_sent = 0
        self._frames_received = self._bytes_received = 0
        pipe.on_message, pipe.on_room, pipe.on_gone = self._on_message, self._drain, self._on_gone
        self._say(bytes((Kind.PROOF,)) + proof.own)

    async def opened(self) -> None:
        """Wait for the peer's proof; until it is good nothing else is sent or accepted.

        Whatever is raised, the transport is closed.

        Raises:
            AuthenticationError: the peer does not know the key.
            RemoteProtocolError: it sent something else first.
            TransportClosed: it is gone.
        """
        await self._until(lambda: self._is_proven)
        if self._fault:
            raise self._fault

    async def send(self, frame: bytes) -> None:
        """Hand over one frame; returns when the channel is ready for the next.

        Raises:
            TransportClosed: the connection is gone, or closed by either end.
            LocalProtocolError: the frame is over the size limit.
        """
        if len(frame) > self._max_frame_bytes:
            raise LocalProtocolError(
                f"expected a frame of up to {self._max_frame_bytes} bytes, got {len(frame)}"
            )
        await self._ready()
        # From here on it is sent whole, whatever becomes of the caller.
        self._leaving.push(frame)
        self._frames_sent += 1
        self._bytes_sent += len(frame)
        self._drain()
        await self._ready()

    async def frames(self) -> AsyncIterator[bytes]:
        """Frames as they arrive; ends when either end has closed in order.

        Raises:
            TransportClosed: the connection broke.
            RemoteProtocolError: the peer sent what it must not, or a frame over the size limit.
        """
        while True:
            await self._until(lambda: bool(self._arrived) or self._has_got_end or self._closing)
            if self._closing:
                return
            if not self._arrived:
                break
            frame = self._arrived.take()
            if (charged := self._arrived.to_say()) is not None:
                self._say(pieces.pack_read(charged))
            self._frames_received += 1
            self._bytes_received += len(frame)
            yield frame
        if self._fault and not self._has_got_end and not self._closing:
            raise self._fault

    async def close(self) -> None:
        """Close in order: what was sent arrives first, what still comes in is dropped.

        Waits until the peer agrees, or the time for that is over; safe to call twice.
        """
        self._closing = True
        self._arrived.drop()
        self._wake()
        try:
            async with asyncio.timeout(LINGER_S if self._has_got_end else CLOSE_TIMEOUT_S):
                self._flush_tail()
                await self._until(lambda: not self._leaving.size_bytes)
                if not self._has_sent_end:
                    self._say_end()
                await self._until(lambda: self._is_agreed)
        except TimeoutError:
            pass  # the peer will see a broken connection instead
        finally:
            self.abort()
        assert self._dropping is not None
        await asyncio.shield(self._dropping)

    def abort(self) -> None:
        """Drop the connection at once; both ends see a broken one. Safe to call twice."""
        self._on_gone(TransportClosed("the connection was dropped by this end"))

    @property
    def is_open(self) -> bool:
        """Whether frames can still go either way, as far as is known here."""
        return not (self._fault or self._closing or self._has_got_end)

    def losses(self) -> int | None:
        """Packets that had to be sent again so far; None with aiortc's own congestion control."""
        return self._pipe.losses

    def stats(self) -> TransportStats:
        """Counts so far."""
        return TransportStats(
            name="webrtc",
            congestion=self._pipe.congestion,
            frames_sent=self._frames_sent,
            bytes_sent=self._bytes_sent,
            frames_received=self._frames_received,
            bytes_received=self._bytes_received,
            holds_back=self._pipe.holds_back,
        )

    # -- what goes out ----------------------------------------------------------------------------

    async def _ready(self) -> None:
        def is_ready() -> bool:
            has_room = self._leaving.size_bytes < PACKET_BYTES and not self._pipe.waits
            return (self._is_proven and has_room) or self._has_got_end or self._closing

        await self._until(is_ready)
        if self._fault:
            raise TransportClosed(f"the connection is gone: {self._fault}") from self._fault
        if self._has_got_end or self._closing:
            raise TransportClosed("the connection was closed")

    def _drain(self) -> None:
        """Hand over what the channel and the peer take; the last packet waits to be filled."""
        while self._is_proven and not self._pipe.waits and not self._fault:
            size_bytes = self._leaving.next_size(
                all_of_it=self._is_tail_due, most_bytes=self._pipe.message_bytes
            )
            if not size_bytes:
                break
            cost = pieces.charge(size_bytes)
            if self._sent_charge + cost - self._read_charge > pieces.WINDOW_BYTES:
                break
            self._sent_charge += cost
            self._pipe.send(self._leaving.cut(size_bytes))
        if not self._leaving.size_bytes:
            self._is_tail_due = False
        if self._pipe.waits or not self._leaving.size_bytes:
            self._stop_tail_timer()  # while the channel is busy there is time to fill it up
        elif not self._is_tail_due and self._tail_timer is None:
            self._tail_timer = asyncio.get_running_loop().call_later(TAIL_S, self._flush_tail)
        self._wake()

    def _stop_tail_timer(self) -> None:
        if self._tail_timer is not None:
            self._tail_timer.cancel()
            self._tail_timer = None

    def _flush_tail(self) -> None:
        self._stop_tail_timer()
        self._is_tail_due = self._leaving.size_bytes > 0
        self._drain()

    def _say(self, message: bytes) -> None:
        if not self._fault:
            self._pipe.send(message)

    def _say_end(self) -> None:
        if self._is_proven:
            self._has_sent_end = True
            self._say(bytes((Kind.END, self._has_got_end)))

    # -- what comes in ----------------------------------------------------------------------------

    def _on_message(self, message: bytes | str) -> None:
        if self._fault:
            return
        try:
            if isinstance(message, str):
                raise RemoteProtocolError("the peer sent text, expected binary messages")
            self._take(*pieces.parse(message))
        except MedroiError as fault:
            self._on_gone(fault)

    def _take(self, kind: Kind, content: bytes) -> None:
        if (kind is Kind.PROOF) is self._is_proven:
            raise RemoteProtocolError(f"the peer sent {kind.name} out of turn")
        match kind:
            case Kind.PROOF:
                self._proof.check(content)
                self._is_proven = True
                self._drain()
            case Kind.DATA:
                if self._has_got_end:
                    raise RemoteProtocolError("the peer sent a frame behind its end")
                if not self._closing:
                    self._arrived.add(content)
            case Kind.READ:
                self._on_read(pieces.unpack_read(content))
            case Kind.END:
                self._on_end(has_seen_ours=content != b"\0")
        self._wake()

    def _on_read(self, charged: int) -> None:
        if not self._read_charge <= charged <= self._sent_charge:
            raise RemoteProtocolError(
                f"the peer has read {charged} of {self._sent_charge} bytes, "
                f"after {self._read_charge}"
            )
        self._read_charge = charged
        self._drain()

    def _on_end(self, *, has_seen_ours: bool) -> None:
        """The peer sends no more, and wants no more."""
        self._has_got_end = True
        self._leaving.drop()
        if not has_seen_ours:
            self._say_end()
        elif self._has_sent_end:
            self._is_agreed = True
        else:
            raise RemoteProtocolError("the peer agreed to an end that nobody asked for")

    def _on_gone(self, why: MedroiError) -> None:
        if self._dropping is None:
            self._fault = why
            if self._has_got_end:
                self._is_agreed = True
            self._leaving.drop()
            self._dropping = asyncio.ensure_future(self._pipe.drop())
            self._wake()

    # -- waiting ----------------------------------------------------------------------------------

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds or the connection is gone."""
        while not holds() and not self._fault:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
