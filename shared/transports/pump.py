"""Drives a sans-I/O connection over a transport: frames out as it allows, frames in as they come.

Both ends use it, each with its own connection. It knows no message: events go to the owner.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from shared.errors import TransportClosed
from shared.tasks import one_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.clock import Clock
    from shared.transports.base import Transport

_LAST_WORDS_S = 2.0

E = TypeVar("E")


class Machine(Protocol[E]):
    """A sans-I/O connection, as the pump sees it."""

    def receive_frame(self, raw: bytes, now_s: float) -> list[E]:
        """Take a frame and return what the owner must know."""
        ...

    def next_frame(self, now_s: float) -> bytes | None:
        """The next frame to send, or None until something changes."""
        ...

    def next_timer_s(self) -> float | None:
        """When to ask for a frame again even if nothing happens."""
        ...


class Pump(Generic[E]):
    """One connection over one transport, for as long as the transport lives."""

    def __init__(
        self,
        machine: Machine[E],
        transport: Transport,
        clock: Clock,
        on_event: Callable[[E], Awaitable[None]],
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        self._machine = machine
        self._transport = transport
        self._clock = clock
        self._on_event = on_event
        self._on_sent = on_sent
        self._changed = asyncio.Event()
        self._closing = False
        self.heard_s = clock.now_s()
        """When the peer was last heard of."""

    def wake(self) -> None:
        """The owner has asked something of the connection: there may be a frame to send."""
        self._changed.set()

    def close_when_idle(self) -> None:
        """Close the transport in order once the connection has nothing more to send."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        """Until the peer closes, or until `close_when_idle` has closed.

        While `on_event` waits, nothing more is read: a slow owner slows the peer.

        Raises:
            TransportClosed: the transport broke.
            RemoteProtocolError: the peer broke the protocol.
        """
        with one_error():
            await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write())
            async for raw in self._transport.frames():
                self.heard_s = self._clock.now_s()
                for event in self._machine.receive_frame(raw, self.heard_s):
                    await self._on_event(event)
                self._changed.set()
            writer.cancel()

    async def last_words(self) -> None:
        """After `run` has failed: send what the connection still wants to say, and close.

        As far as the transport still carries it, and not for long.
        """
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                while (frame := self._machine.next_frame(self._clock.now_s())) is not None:
                    await self._transport.send(frame)
                await self._transport.close()
        except (TransportClosed, TimeoutError):
            return  # the peer will see a broken connection instead

    async def _write(self) -> None:
        # A pipe that is gone is for `frames` to tell, behind what the peer said before it left.
        with suppress(TransportClosed):
            while True:
                frame = self._machine.next_frame(self._clock.now_s())
                if frame is not None:
                    await self._transport.send(frame)
                    self._on_sent()
                elif self._closing:
                    await self._transport.close()
                    return
                else:
                    await self._wait()

    async def _wait(self) -> None:
        timer_s = self._machine.next_timer_s()
        delay_s = None if timer_s is None else max(0.0, timer_s - self._clock.now_s())
        try:
            async with asyncio.timeout(delay_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()
