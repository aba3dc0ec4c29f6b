"""Keeps a session connected: dials, notices a line that is dead, and finds another beside it.

A line over which nothing comes back for `Call.stalls_s` is not given up: another is tried beside
it, every 0.3 s, and the first of them over which the receiver says where the session stands takes
over. Whatever comes over the old line until then counts. A receiver that cannot be reached is tried
again until somebody says stop, less and less often.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from shared.errors import MedroiError, TransportClosed

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from sender.call import Call
    from shared.clock import Clock
    from shared.transports.base import Transport

_EVERY_S = 0.3
"""Between tries, each beside the ones before it."""
_EAGER_S = 60.0
"""For so long; then each pause is half as long again as the one before it, up to:"""
_SELDOM_S = 15.0
_GROWTH = 1.5
_JITTER = 0.3
"""Of a longer pause, either way, so that sites that lost the same clinic do not return as one."""
_TRIES = 10
"""At work at the same time."""
_TRY_S, _TRY_RTTS = 5.0, 8.0
"""For one try, whichever is more: it takes four round trips."""
_LOOK_S = 0.1


class Callee(Protocol):
    """The session that is kept connected."""

    @property
    def is_prepared(self) -> bool:
        """Whether there is something to send; until then one line is enough."""
        ...

    async def until_prepared(self) -> None:
        """Until there is something to send."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the receipt has come: then a line may end."""
        ...

    def new_call(self, transport: Transport) -> Call:
        """A connection over a transport that has just been opened."""
        ...

    async def take_over(self, call: Call) -> None:
        """Have the session go on over this connection, which is running.

        Raises:
            MedroiError: it cannot; `TransportClosed` where another connection may.
        """
        ...

    def on_failed_try(self, why: MedroiError) -> None:
        """A line could not be had; it is tried again."""
        ...


class Caller:
    """`run` it once, beside the session."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Transport]],
        callee: Callee,
        clock: Clock,
        chance: random.Random,
        *,
        give_up_s: float | None = None,
        try_s: float | None = None,
    ) -> None:
        """``give_up_s``: without any line for so long, the last try's error is raised;
        ``try_s``: what one try takes at least, where it is not a WebSocket's.
        """
        self._try_s = try_s or _TRY_S
        self._dial = dial
        self._callee = callee
        self._clock = clock
        self._chance = chance
        self._give_up_s = give_up_s
        self._rtt_s = 0.0
        self._trying: set[Call] = set()
        """Lines that are open and do not have the session yet."""
        self._newest: Call | None = None
        self._reached = asyncio.Event()
        self._failure: MedroiError = TransportClosed("the receiver cannot be reached")
        self.lines = 0
        """Connections that have had the session."""

    async def run(self) -> None:
        """Until the receipt has come and the line is closed.

        Raises:
            MedroiError: the session cannot go on over any line, or none was had in time.
        """
        async with asyncio.TaskGroup() as group:
            call: Call | None = None
            while not self._callee.is_done:
                call = await self._reach(group, call)
                await self._hold(call)
            if call is not None:
                await call.over.wait()

    async def _hold(self, call: Call) -> None:
        """Until a line is gone, or seems to be.

        Raises:
            MedroiError: the peer ended the session over it, or broke the protocol.
        """
        while not call.over.is_set() and not call.is_stalled:
            self._rtt_s = call.connection.window.rtt_s or self._rtt_s
            delay_s = max(_LOOK_S, call.stalls_s() - self._clock.now_s())
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await call.over.wait()
        if call.lost is not None:
            if not isinstance(call.lost, TransportClosed):
                raise call.lost
            if not self._callee.is_done:
                self._callee.on_failed_try(call.lost)

    async def _reach(self, group: asyncio.TaskGroup, old: Call | None) -> Call:
        """A line over which the session goes on: a new one, or the old one that has come back.

        Raises:
            MedroiError: no line could, or none was had in time.
        """
        tries: set[asyncio.Task[None]] = set()
        began_s, pause_s = self._clock.now_s(), _EVERY_S
        self._reached.clear()
        while True:
            # Before there was any line nothing has failed yet: one try at a time is enough.
            if len(tries) < (_TRIES if self.lines else 1):
                started = group.create_task(self._try(group))
                tries.add(started)
                started.add_done_callback(tries.discard)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._reached.wait()
            back = old if old is not None and not old.over.is_set() else None
            if self._newest is not None and self._reached.is_set():
                self._drop(tries)
                return self._newest
            if back is not None and not back.is_stalled:
                self._drop(tries)
                return back
            pause_s = self._next_pause_s(pause_s, self._clock.now_s() - began_s)

    def _drop(self, tries: set[asyncio.Task[None]]) -> None:
        """The other tries are not needed any more; nothing is said over them, least of all a
        farewell, which would be the session's."""
        for call in self._trying:
            call.retire()
        for each in tries:
            each.cancel()

    def _next_pause_s(self, pause_s: float, elapsed_s: float) -> float:
        if self._give_up_s is not None and elapsed_s > self._give_up_s:
            raise self._failure
        if elapsed_s <= _EAGER_S:
            return pause_s
        longer_s = min(_SELDOM_S, pause_s * _GROWTH)
        return longer_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER)

    async def _try(self, group: asyncio.TaskGroup) -> None:
        """Dial once and have the session go on over that line.

        Raises:
            MedroiError: what no other try would mend.
        """
        limit_s = max(self._try_s, _TRY_RTTS * self._rtt_s)
        try:
            async with asyncio.timeout(limit_s):
                call = self._callee.new_call(await self._dial())
            group.create_task(call.run())
            self._trying.add(call)
            try:
                if not self._callee.is_prepared:
                    call.connection.greet()
                    async with asyncio.timeout(limit_s):
                        await call.until_greeted()
                    await self._callee.until_prepared()
                async with asyncio.timeout(limit_s):
                    await self._callee.take_over(call)
            except (MedroiError, TimeoutError):
                call.retire()
                raise
            finally:
                self._trying.discard(call)
        except TimeoutError:
            self._fail(TransportClosed("the receiver does not answer"))
        except MedroiError as error:
            if self.lines == 0 and not isinstance(error, TransportClosed):
                await self._callee.until_prepared()  # what is wrong with the study is told first
                raise  # later a stranger may answer in its place for a while
            self._fail(error)
        else:
            self.lines += 1
            self._newest = call
            self._reached.set()

    def _fail(self, error: MedroiError) -> None:
        self._failure = error
        self._callee.on_failed_try(error)
