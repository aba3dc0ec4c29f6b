"""The rendezvous itself: takes ends in, passes their lines on, keeps nothing.

It has no key of any site. Its lines are sealed for the other end, its mailboxes' names are hashes
that change daily: what it learns is which addresses come, when, and how long their lines are. What
it may do is be away, or lose, repeat and invent lines, all of which the ends are told or see
through (`sealed`).

Everything has a limit: `mailboxes` has those of memory, this file those of connections. Whoever
breaks one is closed without a reason, which no end of ours ever needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.errors import RemoteProtocolError, TransportClosed
from shared.rendezvous.mailboxes import Mailboxes
from shared.rendezvous.wire import MAX_FRAME_BYTES, PING_S, pack_line, read_join, read_line
from shared.tasks import one_error
from shared.transports.tasks import TaskOwner
from shared.transports.websocket import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.clock import Clock
    from shared.transports.base import Transport
    from shared.trust.identity import Identity

MAX_CONNECTIONS = 512
MAX_ALIKE = 16
"""Connections from one address: a site's router stands for all of its senders."""
JOIN_S = 10.0
"""For an end to say where it waits."""
MAX_QUEUE = 32
"""Lines for an end that does not read them."""
_SWEEP_S = 60.0
_CLOSE_S = 2.0


@asynccontextmanager
async def serving(
    host: str, port: int, identity: Identity | None, clock: Clock, *, max_alike: int = MAX_ALIKE
) -> AsyncIterator[str]:
    """Serve while the ``async with`` lasts; gives the address to dial, with its pin.

    Raises:
        SettingsError: it cannot be listened there, or not without an identity.
    """
    desk = _Desk(clock)
    async with (
        listen(
            host,
            port,
            desk.attend,
            max_frame_bytes=MAX_FRAME_BYTES,
            identity=identity,
            max_connections=MAX_CONNECTIONS,
            max_alike=max_alike,
            ping_s=PING_S,
            close_timeout_s=_CLOSE_S,
        ) as listener,
        TaskOwner() as owner,
    ):
        owner.start(desk.sweep())
        yield listener.url


@dataclass(eq=False)
class _Guest:
    """An end that is connected."""

    transport: Transport
    waiting: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUE))


class _Desk:
    """Between connections and mailboxes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mailboxes: Mailboxes[_Guest] = Mailboxes()

    async def attend(self, transport: Transport) -> None:
        """One connection, to its end, whatever it does."""
        guest = _Guest(transport)
        try:
            with one_error():
                async with asyncio.TaskGroup() as group:
                    passing = group.create_task(self._pass_on(guest))
                    await self._hear(guest)
                    passing.cancel()
        except (TransportClosed, RemoteProtocolError):
            return
        finally:
            self._mailboxes.leave(guest)

    async def sweep(self) -> None:
        """Forget old lines, also while nobody comes."""
        while True:
            await self._clock.sleep_s(_SWEEP_S)
            self._mailboxes.forget(self._clock.now_s())

    async def _hear(self, guest: _Guest) -> None:
        names = read_join(await _first_frame(guest.transport))
        for which, line in self._mailboxes.join(guest, names, self._clock.now_s()):
            _give(guest, which, line)
        async for frame in guest.transport.frames():
            which, line = read_line(frame, len(names))
            for other, theirs in self._mailboxes.put(guest, which, line, self._clock.now_s()):
                _give(other, theirs, line)

    async def _pass_on(self, guest: _Guest) -> None:
        while True:
            await guest.transport.send(await guest.waiting.get())


async def _first_frame(transport: Transport) -> bytes:
    frames = transport.frames()
    try:
        async with asyncio.timeout(JOIN_S):
            return await anext(frames)
    except (TimeoutError, StopAsyncIteration):
        raise TransportClosed("the peer did not say where it waits") from None
    finally:
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()


def _give(guest: _Guest, which: int, line: str) -> None:
    """Hand a line to an end; one that does not read is let go, and comes back if it lives."""
    try:
        guest.waiting.put_nowait(pack_line(which, line))
    except asyncio.QueueFull:
        guest.transport.abort()
