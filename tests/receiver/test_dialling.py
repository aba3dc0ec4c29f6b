"""Lines of a receiver that dials, in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, cast

import pytest

from receiver.dialling import Dialling
from shared.clock import LoopClock
from shared.errors import AuthenticationError, MedroiError, PeerRefused, TransportClosed
from shared.tasks import one_error
from shared.transports.base import TransportStats
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from shared.transports.base import Transport

AWAY = TransportClosed("nobody answers")


class Line:
    """A transport: the frames that it has brought, and whether it has ended."""

    def __init__(self, opened_s: float) -> None:
        self.opened_s = opened_s
        self.frames = 0
        self.over = asyncio.Event()
        self.was_aborted = False
        self.was_closed = False

    def stats(self) -> TransportStats:
        return TransportStats("websocket", "", 0, 0, self.frames, 0)

    def abort(self) -> None:
        self.was_aborted = True
        self.over.set()

    async def close(self) -> None:
        self.was_closed = True


class Site:
    """What dials find."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.error: MedroiError | None = None
        self.delay_s = 0.05
        self.times_s: list[float] = []
        self.lines: list[Line] = []
        self.told: list[str] = []

    async def dial(self) -> Transport:
        self.times_s.append(self.clock.now_s())
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        self.lines.append(Line(self.clock.now_s()))
        return cast("Transport", self.lines[-1])

    async def take(self, transport: Transport) -> None:
        await cast("Line", transport).over.wait()

    @property
    def open(self) -> list[Line]:
        return [line for line in self.lines if not line.over.is_set()]

    async def talk(self, line: Line, seconds: float) -> None:
        """Bring a frame every half second."""
        for _ in range(int(seconds * 2)):
            line.frames += 1
            await asyncio.sleep(0.5)


def play(script: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        site = Site()
        dialling = Dialling(
            site.dial,
            site.take,
            site.clock,
            random.Random(0),
            lambda error: site.told.append(str(error)),
        )
        with one_error():
            async with asyncio.TaskGroup() as group:
                running = group.create_task(dialling.run())
                await script(site)
                running.cancel()
        assert all(line.was_closed for line in site.lines)

    run_virtual(main(), limit_s=7200)


def test_a_line_on_which_something_is_heard_is_the_only_one() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(0.1)
        await site.talk(site.lines[0], 60)
        assert len(site.times_s) == 1

    play(script)


def test_beside_a_silent_line_a_second_and_a_third_are_dialled_and_no_fourth() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(14)
        assert len(site.open) == 3
        first, second, third = (line.opened_s for line in site.lines)
        assert 2 <= second - first < 3
        assert 2 <= third - second < 3

    play(script)


def test_of_three_silent_lines_the_one_that_was_silent_longest_is_dropped() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(0.2)
        await site.talk(site.lines[0], 4)
        await asyncio.sleep(40)
        assert site.lines[0].was_aborted
        assert len(site.open) <= 3

    play(script)


def test_a_line_that_breaks_is_dialled_anew_within_half_a_second() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(0.1)
        await site.talk(site.lines[0], 30)
        site.lines[0].over.set()
        await asyncio.sleep(0.5)
        assert len(site.open) == 1
        assert site.lines[0].was_closed

    play(script)


def test_a_sender_that_is_away_is_told_once_and_tried_on_less_and_less_often() -> None:
    async def script(site: Site) -> None:
        site.error = AWAY
        await asyncio.sleep(60)
        assert len(site.times_s) == pytest.approx(200, abs=5)
        before = len(site.times_s)
        await asyncio.sleep(600)
        assert 600 / (15 * 1.3) < len(site.times_s) - before < 80
        assert site.told == ["nobody answers"]
        site.error = None
        await asyncio.sleep(20)
        assert site.open

    play(script)


def test_tries_that_hang_are_no_more_than_six_and_the_first_line_ends_the_others() -> None:
    async def script(site: Site) -> None:
        site.delay_s = 30.0
        await asyncio.sleep(20)
        assert len(site.times_s) == 6
        await asyncio.sleep(10.5)
        assert len(site.lines) == 1

    play(script)


@pytest.mark.parametrize("error", [AuthenticationError("a stranger"), PeerRefused("we both send")])
def test_what_no_other_try_would_mend_ends_it_before_there_was_a_line(error: MedroiError) -> None:
    async def script(site: Site) -> None:
        site.error = error
        await asyncio.sleep(5)

    with pytest.raises(type(error)):
        play(script)


@pytest.mark.parametrize("error", [AuthenticationError("a stranger"), PeerRefused("we both send")])
def test_the_same_behind_a_line_that_was_good_is_told_and_tried_on(error: MedroiError) -> None:
    """Somebody else may have the sender's address for a while, or the sender is being replaced."""

    async def script(site: Site) -> None:
        await asyncio.sleep(0.1)
        site.error = error
        site.lines[0].over.set()
        await asyncio.sleep(10)
        assert site.told == [str(error)]
        site.error = None
        await asyncio.sleep(1)
        assert len(site.open) == 1

    play(script)
