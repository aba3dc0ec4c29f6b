"""One TCP connection carried over a modelled link: read from one socket, written to the other when
the link has brought it.

Each direction has a task that reads and a task that writes, with the bytes under way between them.
The end of a stream (FIN) and a reset travel like bytes, behind the bytes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from shared.line_stream import LineStream
from shared.link import SEGMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.clock import Clock
    from shared.line import Line

BATCH_S = 0.001
"""Bytes are timed in pieces of so much of the rate, since timers are no finer than that; a piece is
a whole number of packets."""
READ_BYTES = 256 << 10
"""Taken from a socket at most at once."""
HELD_RTTS = 4
"""Under way at most: the queue, and so many round trips of the rate. Half of one is the delay, the
rest waits behind a lost packet, or for a far end that does not read."""
_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)
"""SO_LINGER on, with 0 s: closing sends a reset (socket(7))."""


class RelayedConnection:
    """A connection that was taken in from the near peer, and becomes one to the far peer.

    near --read--> [up: LineStream] --write--> far
    near <--write-- [down: LineStream] <--read-- far
    """

    def __init__(self, near: socket.socket, up: Line, down: Line, clock: Clock) -> None:
        near.setblocking(False)
        self._clock = clock
        self._up, self._down = LineStream(up), LineStream(down)
        self._sockets = [near]
        self._broken: set[socket.socket] = set()
        self._ended = 0

    async def run(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        """Shake hands over the link, then carry until both directions end or one end resets.

        The near peer's kernel has its connection already, so that what a refusal far away looks
        like from near is a connection that is reset.
        """
        near, up, down = self._sockets[0], self._up, self._down
        # Each step counts from when the one before was due, so that late timers do not add up.
        syn_s = up.open(self._clock.now_s())
        await self._sleep_until(syn_s)
        answer_s = down.open(syn_s)
        try:
            far = await connect()
        except OSError:
            self._broken.add(near)
            await self._sleep_until(answer_s)
            return
        self._sockets.append(far)
        await self._sleep_until(answer_s)
        # A far peer that speaks first does so when it has the acknowledgement of its answer.
        accepted_s = up.deliver(answer_s, 0)
        away = _Direction(near, far, up, _UnderWay(up))
        back = _Direction(far, near, down, _UnderWay(down))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(away, answer_s))
                group.create_task(self._read(back, accepted_s))
                group.create_task(self._write(away, back))
                group.create_task(self._write(back, away))
        except* _Over:
            pass

    def reset(self) -> None:
        """Close with a reset instead of an end."""
        self._broken.update(self._sockets)

    def close(self) -> None:
        """Close both sockets, with a reset if one of them was; safe to call twice."""
        for sock in self._sockets:
            if self._broken:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
            sock.close()
        self._sockets.clear()

    async def _read(self, way: _Direction, start_s: float) -> None:
        """Hand the link what the source sends, as fast as the link's queue takes it."""
        loop, stream = asyncio.get_running_loop(), way.stream
        packets = round(stream.profile.rate_bps / 8 * BATCH_S / SEGMENT_BYTES)
        batch_bytes = max(1, packets) * SEGMENT_BYTES
        await self._sleep_until(start_s)
        while True:
            await way.under_way.room()
            await self._sleep_until(stream.ready_s(self._clock.now_s(), batch_bytes))
            backlog_bytes = stream.backlog_bytes(self._clock.now_s())
            room_bytes = max(batch_bytes, stream.profile.queue_limit_bytes - backlog_bytes)
            try:
                received = await loop.sock_recv(way.source, min(room_bytes, READ_BYTES))
            except OSError:
                self._broken.add(way.source)
                received = b""
            now_s = self._clock.now_s()
            if not received:
                end = _End.RESET if way.source in self._broken else _End.FIN
                way.under_way.put(stream.deliver(now_s, 0), end)
                return
            view = memoryview(received)
            for start in range(0, len(view), batch_bytes):
                piece = view[start : start + batch_bytes]
                way.under_way.put(stream.deliver(now_s, len(piece)), piece)

    async def _write(self, way: _Direction, opposite: _Direction) -> None:
        """Give the sink what has come over the link, when it has."""
        loop = asyncio.get_running_loop()
        while True:
            arrives_s, piece = await way.under_way.get()
            await self._sleep_until(arrives_s)
            if piece is _End.RESET:
                self.reset()
                raise _Over
            try:
                if way.sink in self._broken:
                    pass  # for as long as the reset takes to get to the source
                elif piece is _End.FIN:
                    way.sink.shutdown(socket.SHUT_WR)
                else:
                    await loop.sock_sendall(way.sink, piece)
            except OSError:
                self._broken.add(way.sink)
                opposite.under_way.put(opposite.stream.deliver(self._clock.now_s(), 0), _End.RESET)
            if piece is _End.FIN:
                self._ended += 1
                if self._ended == 2:  # both directions
                    raise _Over
            else:
                way.under_way.took(len(piece))

    async def _sleep_until(self, time_s: float) -> None:
        delay_s = time_s - self._clock.now_s()
        if delay_s > 0:
            await self._clock.sleep_s(delay_s)


class _End(Enum):
    """How a direction ends."""

    FIN = auto()
    RESET = auto()


class _Over(Exception):
    """A connection is over: in order, or by a reset."""


@dataclass(frozen=True, slots=True, eq=False)
class _Direction:
    """One way through a connection."""

    source: socket.socket
    sink: socket.socket
    stream: LineStream
    under_way: _UnderWay


class _UnderWay:
    """What the link has of one direction of one connection, in order, each with its arrival."""

    def __init__(self, stream: LineStream) -> None:
        profile = stream.profile
        held_bytes = HELD_RTTS * profile.rtt_s * profile.rate_bps / 8
        self._limit_bytes = profile.queue_limit_bytes + round(held_bytes)
        self._bytes = 0
        self._pieces: deque[tuple[float, memoryview | _End]] = deque()
        self._is_filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, arrives_s: float, piece: memoryview | _End) -> None:
        self._pieces.append((arrives_s, piece))
        self._is_filled.set()
        if not isinstance(piece, _End):
            self._bytes += len(piece)
            if self._bytes > self._limit_bytes:
                self._has_room.clear()

    async def get(self) -> tuple[float, memoryview | _End]:
        while not self._pieces:
            self._is_filled.clear()
            await self._is_filled.wait()
        return self._pieces.popleft()

    def took(self, size_bytes: int) -> None:
        """The sink has taken so much of what was got."""
        self._bytes -= size_bytes
        if self._bytes <= self._limit_bytes:
            self._has_room.set()

    async def room(self) -> None:
        """Wait while the sink does not take what has arrived."""
        await self._has_room.wait()
