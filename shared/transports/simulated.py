"""Transports inside one process, over a modelled link and on the event loop's clock.

On a loop whose time is virtual a whole transfer takes as long as its computing does, and is the
same every time under a seed. Beside the link this models what a WebSocket does to its users: a
small buffer on the way out, a bounded read-ahead at the other end, a close in order that both ends
agree to, and connections that break: when they are told to, or at the link's own resets. Not
modelled: a sender hears at once that the other end has read, and the opening of a connection that
`SimulatedLine.connect` makes takes no time; with `SimulatedLine.dial` it does.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import TYPE_CHECKING

from shared.errors import LocalProtocolError, TransportClosed
from shared.line import Line
from shared.line_stream import LineStream
from shared.transports.base import TransportStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.link import LinkProfile

MAX_FRAME_BYTES = 1 << 20
"""Of one frame, unless said otherwise."""
READ_AHEAD_BYTES = 256 << 10
"""Arrived and not asked for, before the sending end is held up; on top of what the line holds."""
CLOSE_TIMEOUT_S = 10.0
"""For the other end to agree to a close."""


class SimulatedLine:
    """A link that several connections share, side by side or one after the other."""

    def __init__(
        self, profile: LinkProfile, seed: int, *, max_frame_bytes: int = MAX_FRAME_BYTES
    ) -> None:
        """Made while the loop runs; the line comes up now."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        self._up = Line(profile, 2 * seed, start_s=start_s)
        self._down = Line(profile, 2 * seed + 1, start_s=start_s)
        self._max_frame_bytes = max_frame_bytes
        self._open: weakref.WeakSet[SimulatedTransport] = weakref.WeakSet()
        for reset_s in profile.resets_s:
            loop.call_at(start_s + reset_s, self._reset)

    @property
    def profile(self) -> LinkProfile:
        """What the line was asked to be."""
        return self._up.profile

    def connect(self) -> tuple[SimulatedTransport, SimulatedTransport]:
        """Both ends of a new connection, open at once."""
        return self._join(LineStream(self._up), LineStream(self._down))

    async def dial(self) -> tuple[SimulatedTransport, SimulatedTransport]:
        """Both ends of a new connection, once TCP and a WebSocket above it have shaken hands.

        That takes two round trips, and what an outage takes of it is asked for again after 1, 2,
        4 s and so on. There is no time-out here: a caller has its own.
        """
        loop = asyncio.get_running_loop()
        up, down = LineStream(self._up), LineStream(self._down)
        arrives_s = down.open(up.open(loop.time()))
        for stream in (up, down):
            arrives_s = stream.deliver(arrives_s, 0)
        await asyncio.sleep(arrives_s - loop.time())
        return self._join(up, down)

    def _join(
        self, up: LineStream, down: LineStream
    ) -> tuple[SimulatedTransport, SimulatedTransport]:
        near = SimulatedTransport(up, max_frame_bytes=self._max_frame_bytes)
        far = SimulatedTransport(down, max_frame_bytes=self._max_frame_bytes)
        near._other, far._other = far, near
        self._open.add(near)
        return near, far

    def _reset(self) -> None:
        for near in list(self._open):
            near.cut()


def simulated_pair(
    profile: LinkProfile, seed: int
) -> tuple[SimulatedTransport, SimulatedTransport]:
    """Both ends of a connection over a line of its own; made while the loop runs."""
    return SimulatedLine(profile, seed).connect()


class SimulatedTransport:
    """One end of a connection.

    send -> on the line (in order, each at its time) -> arrived, at the other end -> frames
    """

    _other: SimulatedTransport

    def __init__(self, out: LineStream, *, max_frame_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._out = out
        self._max_frame_bytes = max_frame_bytes
        self._on_line: deque[tuple[float, bytes | None]] = deque()  # None is the end
        self._timer: asyncio.TimerHandle | None = None
        self._arrived: deque[bytes] = deque()
        self._unread_bytes = 0  # sent here, not asked for there
        self._has_sent_end = self._has_got_end = False
        self._broken = ""  # why
        self._is_silent = False
        self._waiters: list[asyncio.Future[None]] = []  # woken in order
        self._frames_sent = self._bytes_sent = 0
        self._frames_received = self._bytes_received = 0

    async def send(self, frame: bytes) -> None:
        """Hand over one frame; returns when the modelled queue has room for more.

        Raises:
            TransportClosed: the connection is cut, or closed by either end.
            LocalProtocolError: the frame is over the size limit.
        """
        if len(frame) > self._max_frame_bytes:
            raise LocalProtocolError(
                f"expected a frame of up to {self._max_frame_bytes} bytes, got {len(frame)}"
            )
        if self._broken or self._has_sent_end:
            raise TransportClosed(self._broken or "the connection was closed")
        self._unread_bytes += len(frame)
        self._hand_over(frame)
        self._frames_sent += 1
        self._bytes_sent += len(frame)
        profile = self._out.profile
        line_bytes = profile.queue_limit_bytes + round(profile.rtt_s * profile.rate_bps / 8)
        most_bytes = READ_AHEAD_BYTES + line_bytes
        await self._until(lambda: self._unread_bytes <= most_bytes or self._has_sent_end)
        ready_s = self._out.line.ready_s(self._loop.time())
        if self._unread_bytes > line_bytes:  # so much a kernel holds while an outage lasts
            ready_s = max(ready_s, self._out.resumes_s)
        await self._until(lambda: self._has_sent_end, ready_s)
        if self._broken:
            raise TransportClosed(self._broken)

    async def frames(self) -> AsyncIterator[bytes]:
        """Frames as they arrive; ends when either end has closed in order.

        Raises:
            TransportClosed: the connection was cut.
        """
        while True:
            await self._until(lambda: bool(self._arrived) or self._has_got_end)
            if not self._arrived:
                break
            frame = self._arrived.popleft()
            self._other._read(len(frame))
            self._frames_received += 1
            self._bytes_received += len(frame)
            yield frame
        if self._broken and not self._has_got_end:
            raise TransportClosed(self._broken)

    async def close(self) -> None:
        """Close in order: what was sent arrives first, what still comes in is dropped.

        Waits until the other end agrees, or the time for that is over; safe to call twice.
        """
        self._send_end()
        while self._arrived:
            self._other._read(len(self._arrived.popleft()))
        deadline_s = self._loop.time() + CLOSE_TIMEOUT_S
        await self._until(lambda: self._has_got_end, deadline_s)
        if not self._has_got_end:
            self._break("the other end did not agree to close in time")

    def abort(self) -> None:
        """Drop the connection: this end at once, the other when it hears of it.

        What was sent before is lost, as with a reset.
        """
        self._break("the connection was dropped by this end")
        self._loop.call_later(self._out.profile.rtt_s / 2, self._other._break, "the line was reset")

    def losses(self) -> int | None:
        """Not known here."""
        return None

    def stats(self) -> TransportStats:
        """Counts so far."""
        return TransportStats(
            name="simulated",
            congestion="",
            frames_sent=self._frames_sent,
            bytes_sent=self._bytes_sent,
            frames_received=self._frames_received,
            bytes_received=self._bytes_received,
        )

    def cut(self, at_s: float | None = None) -> None:
        """Break the connection, at a time of the loop or now: both ends see it at once.

        What is on the line is lost; what has arrived can still be read.
        """
        if at_s is None:
            self._break("the line was cut")
            self._other._break("the line was cut")
        else:
            self._loop.call_at(at_s, self.cut)

    def silence(self, at_s: float | None = None) -> None:
        """Lose all from a time of the loop on, or from now: neither end is told."""
        if at_s is None:
            for end in (self, self._other):
                end._is_silent = True
                end._on_line.clear()
        else:
            self._loop.call_at(at_s, self.silence)

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        self._on_line.clear()
        self._wake()

    def _hand_over(self, frame: bytes | None) -> None:
        arrives_s = self._out.deliver(self._loop.time(), len(frame or b""))
        if not self._is_silent:
            self._on_line.append((arrives_s, frame))
            self._await_arrival()

    def _send_end(self) -> None:
        if not self._has_sent_end and not self._broken:
            self._has_sent_end = True
            self._hand_over(None)

    def _await_arrival(self) -> None:
        if self._timer is None and self._on_line:
            self._timer = self._loop.call_at(self._on_line[0][0], self._arrive)

    def _arrive(self) -> None:
        """Give the other end what is due: one timer for all, as timers have no order of their own.

        A loop may call early by part of its resolution: the rest is awaited again.
        """
        self._timer = None
        while self._on_line and self._on_line[0][0] <= self._loop.time():
            self._other._take(self._on_line.popleft()[1])
        self._await_arrival()

    def _take(self, frame: bytes | None) -> None:
        if frame is None:
            self._has_got_end = True
            self._send_end()
        elif self._has_sent_end:  # nobody asks for it any more
            self._other._read(len(frame))
        else:
            self._arrived.append(frame)
        self._wake()

    def _read(self, size_bytes: int) -> None:
        """So much of what was sent here has been read there."""
        self._unread_bytes -= size_bytes
        self._wake()

    async def _until(self, holds: Callable[[], bool], deadline_s: float | None = None) -> None:
        """Wait until something holds, the deadline is over or the connection is broken."""
        while not holds() and not self._broken:
            if deadline_s is not None and self._loop.time() >= deadline_s:
                return
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            timer = self._loop.call_at(deadline_s, self._wake) if deadline_s is not None else None
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
                if timer:
                    timer.cancel()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
