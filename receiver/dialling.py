"""Lines from a receiver that dials, to a sender that listens and chooses among them.

There is always one line; a second and a third are dialled while nothing is heard on those before
them, because then they may be dead. Which one has a session is for the sender to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import MedroiError, TransportClosed

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from shared.clock import Clock
    from shared.transports.base import Transport

_EVERY_S, _SELDOM_S = 0.3, 15.0
_EAGER_S = 60.0
"""Without a line for so long, tries become as seldom as the study's sender is likely to be back."""
_GROWTH, _JITTER = 1.5, 0.3
_SILENT_S, _DEAD_S = 2.0, 15.0
_LINES = 3
_TRIES = 6
"""Under way at the same time: on a line that comes back, the newest is answered first."""


@dataclass(eq=False)
class _Line:
    transport: Transport
    frames: int
    heard_s: float


class Dialling:
    """`run` it beside a clinic."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Transport]],
        take: Callable[[Transport], Awaitable[None]],
        clock: Clock,
        chance: random.Random,
        on_trouble: Callable[[MedroiError], None],
    ) -> None:
        """``take`` runs a connection to its end; ``on_trouble`` hears once why there is none."""
        self._dial = dial
        self._take = take
        self._clock = clock
        self._chance = chance
        self._on_trouble = on_trouble
        self._lines: list[_Line] = []
        self._tries: set[asyncio.Task[None]] = set()
        self._told = ""
        self._had_one = False

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            MedroiError: what no other try would mend, before there was any line.
        """
        pause_s, line_s = _EVERY_S, self._clock.now_s()
        async with asyncio.TaskGroup() as group:
            while True:
                now_s = self._clock.now_s()
                if self._lines:
                    pause_s, line_s = _EVERY_S, now_s
                if self._wants_one(now_s) and len(self._tries) < _TRIES:
                    started = group.create_task(self._try(group))
                    self._tries.add(started)
                    started.add_done_callback(self._tries.discard)
                await self._clock.sleep_s(pause_s)
                if now_s - line_s > _EAGER_S:
                    longer_s = min(_SELDOM_S, pause_s * _GROWTH)
                    pause_s = longer_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER)

    def _wants_one(self, now_s: float) -> bool:
        for line in self._lines:
            frames = line.transport.stats().frames_received
            if frames != line.frames:
                line.frames, line.heard_s = frames, now_s
        if any(now_s - line.heard_s < _SILENT_S for line in self._lines):
            return False
        if len(self._lines) < _LINES:
            return True
        if now_s - self._lines[0].heard_s > _DEAD_S:
            self._lines[0].transport.abort()
        return False

    async def _try(self, group: asyncio.TaskGroup) -> None:
        try:
            transport = await self._dial()
        except MedroiError as error:
            if not self._had_one and not isinstance(error, TransportClosed):
                raise  # later a stranger may answer in the sender's place for a while
            self._tell(error)
            return
        self._had_one, self._told = True, ""
        group.create_task(self._attend(transport))
        for other in self._tries:
            if other is not asyncio.current_task():
                other.cancel()

    async def _attend(self, transport: Transport) -> None:
        line = _Line(transport, 0, self._clock.now_s())
        self._lines.append(line)
        try:
            await self._take(transport)
        finally:
            self._lines.remove(line)
            await transport.close()

    def _tell(self, error: MedroiError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            self._on_trouble(error)
