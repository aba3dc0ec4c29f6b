from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import pytest

from shared.clock import LoopClock
from shared.errors import MedroiError, RemoteProtocolError, TransportClosed
from shared.transports.base import TransportStats
from shared.transports.pump import Pump
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Pipe:
    """A transport without a line: what was sent, and what the test lets arrive."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.arriving: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.read = 0
        self.open = asyncio.Event()
        self.open.set()
        """Cleared: sends wait."""
        self.broken = False
        """Sends fail."""
        self.stuck = False
        """A close is never agreed to."""
        self.closed = False

    async def send(self, frame: bytes) -> None:
        if self.broken:
            raise TransportClosed("the pipe is gone")
        self.sent.append(frame)
        await self.open.wait()

    async def frames(self) -> AsyncIterator[bytes]:
        while (item := await self.arriving.get()) is not None:
            if isinstance(item, Exception):
                raise item
            self.read += 1
            yield item

    async def close(self) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.closed = True
        self.arriving.put_nowait(None)

    def abort(self) -> None:
        self.closed = True

    def losses(self) -> int | None:
        return None

    def stats(self) -> TransportStats:
        return TransportStats("pipe", "", len(self.sent), 0, self.read, 0)


class Machine:
    """Hands out what it is given; its events are the frames that came, in upper case."""

    def __init__(self) -> None:
        self.due: deque[bytes] = deque()
        self.timer_s: float | None = None
        self.asked_s: list[float] = []

    def receive_frame(self, raw: bytes, _now_s: float) -> list[bytes]:
        if raw == b"lie":
            raise RemoteProtocolError("a lie")
        return [raw.upper()] if raw else []

    def next_frame(self, now_s: float) -> bytes | None:
        self.asked_s.append(now_s)
        if self.timer_s is not None and now_s >= self.timer_s:
            self.timer_s = None
            self.due.append(b"tick")
        return self.due.popleft() if self.due else None

    def next_timer_s(self) -> float | None:
        return self.timer_s


class Driven:
    """A pump, and the three that it stands between."""

    def __init__(self, on_event: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        self.pipe, self.machine = Pipe(), Machine()
        self.events: list[bytes] = []
        self.told = 0
        clock = LoopClock()
        self.pump: Pump[bytes] = Pump(
            self.machine, self.pipe, clock, on_event or self._note, self._on_sent
        )

    async def _note(self, event: bytes) -> None:
        self.events.append(event)

    def _on_sent(self) -> None:
        self.told += 1


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_frames_go_both_ways_in_order_until_the_peer_closes() -> None:
    async def main() -> None:
        driven = Driven()
        driven.machine.due.extend([b"1", b"2", b"3"])
        for item in (b"a", b"", b"b"):
            driven.pipe.arriving.put_nowait(item)
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            await settle()
            driven.pipe.arriving.put_nowait(None)
        assert driven.events == [b"A", b"B"]
        assert driven.pipe.sent == [b"1", b"2", b"3"]
        assert driven.told == 3

    run_virtual(main())


def test_a_slow_owner_keeps_the_pump_from_reading_on() -> None:
    async def main() -> None:
        busy = asyncio.Event()
        heard: list[bytes] = []

        async def slow(event: bytes) -> None:
            heard.append(event)
            await busy.wait()

        driven = Driven(slow)
        for item in (b"a", b"b", b"c", None):
            driven.pipe.arriving.put_nowait(item)
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            await settle()
            assert (heard, driven.pipe.read) == ([b"A"], 1)
            busy.set()
        assert heard == [b"A", b"B", b"C"]

    run_virtual(main())


def test_a_slow_transport_holds_up_the_next_frame_and_nothing_else() -> None:
    async def main() -> None:
        driven = Driven()
        driven.pipe.open.clear()
        driven.machine.due.extend([b"1", b"2"])
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            driven.pipe.arriving.put_nowait(b"a")
            await settle()
            assert (driven.pipe.sent, driven.told) == ([b"1"], 0)
            assert list(driven.machine.due) == [b"2"]
            assert driven.events == [b"A"]
            driven.pipe.open.set()
            await settle()
            assert driven.pipe.sent == [b"1", b"2"]
            driven.pipe.arriving.put_nowait(None)

    run_virtual(main())


def test_it_asks_for_a_frame_when_woken_and_when_something_came() -> None:
    async def main() -> None:
        driven = Driven()
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            await settle()
            driven.machine.due.append(b"asked")
            await settle()
            assert driven.pipe.sent == []
            driven.pump.wake()
            await settle()
            assert driven.pipe.sent == [b"asked"]
            driven.machine.due.append(b"answer")
            driven.pipe.arriving.put_nowait(b"question")
            await settle()
            assert driven.pipe.sent == [b"asked", b"answer"]
            driven.pipe.arriving.put_nowait(None)

    run_virtual(main())


def test_it_asks_again_at_the_time_of_the_timer_and_not_before() -> None:
    async def main() -> None:
        driven = Driven()
        now_s = LoopClock().now_s
        started_s = now_s()
        driven.machine.timer_s = started_s + 5
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            await asyncio.sleep(4.999)
            assert driven.pipe.sent == []
            await asyncio.sleep(0.002)
            assert driven.pipe.sent == [b"tick"]
            await asyncio.sleep(3600)
            driven.pipe.arriving.put_nowait(None)
        assert len(driven.machine.asked_s) <= 4

    run_virtual(main())


def test_a_timer_that_moved_while_it_waited_is_seen_when_woken() -> None:
    async def main() -> None:
        driven = Driven()
        now_s = LoopClock().now_s
        driven.machine.timer_s = now_s() + 50
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            await asyncio.sleep(1)
            driven.machine.timer_s = now_s() + 1
            driven.pump.wake()
            await asyncio.sleep(1.001)
            assert driven.pipe.sent == [b"tick"]
            driven.pipe.arriving.put_nowait(None)

    run_virtual(main())


def test_it_closes_when_idle_and_not_before() -> None:
    async def main() -> None:
        driven = Driven()
        driven.pipe.open.clear()
        driven.machine.due.extend([b"1", b"2"])
        async with asyncio.TaskGroup() as group:
            group.create_task(driven.pump.run())
            driven.pump.close_when_idle()
            await settle()
            closed_early = driven.pipe.closed
            driven.pipe.open.set()
        assert (closed_early, driven.pipe.closed) == (False, True)
        assert driven.pipe.sent == [b"1", b"2"]

    run_virtual(main())


class _OwnersFault(MedroiError):
    pass


@pytest.mark.parametrize(
    ("arrives", "error"),
    [
        (TransportClosed("the line was cut"), TransportClosed),
        (RemoteProtocolError("text"), RemoteProtocolError),
        (b"lie", RemoteProtocolError),
    ],
    ids=["broken", "no frame", "no message"],
)
def test_what_ends_it_comes_as_it_is_and_not_in_a_group(
    arrives: bytes | Exception, error: type[Exception]
) -> None:
    async def main() -> None:
        driven = Driven()
        driven.pipe.arriving.put_nowait(b"a")
        driven.pipe.arriving.put_nowait(arrives)
        with pytest.raises(error):
            await driven.pump.run()
        assert driven.events == [b"A"]

    run_virtual(main())


def test_an_error_of_the_owner_comes_as_it_is() -> None:
    async def fail(_event: bytes) -> None:
        raise _OwnersFault("mine")

    async def main() -> None:
        driven = Driven(fail)
        driven.pipe.arriving.put_nowait(b"a")
        with pytest.raises(_OwnersFault, match="mine"):
            await driven.pump.run()

    run_virtual(main())


def test_what_the_peer_said_before_it_left_is_heard_though_our_sending_failed_first() -> None:
    """A peer that says farewell and closes: the reason is behind frames that we still answer."""

    async def main() -> None:
        driven = Driven()
        driven.pipe.broken = True
        driven.machine.due.append(b"an acknowledgement")
        async with asyncio.TaskGroup() as group:
            running = group.create_task(driven.pump.run())
            await settle()
            for item in (b"frames", b"farewell", None):
                driven.pipe.arriving.put_nowait(item)
            await settle()
            assert running.done()
        assert driven.events == [b"FRAMES", b"FAREWELL"]

    run_virtual(main())


def test_a_pipe_that_is_gone_both_ways_is_an_error() -> None:
    async def main() -> None:
        driven = Driven()
        driven.pipe.broken = True
        driven.machine.due.append(b"1")
        driven.pipe.arriving.put_nowait(TransportClosed("the pipe is gone"))
        with pytest.raises(TransportClosed):
            await driven.pump.run()

    run_virtual(main())


def test_last_words_are_sent_and_the_transport_closed() -> None:
    async def main() -> None:
        driven = Driven()
        driven.machine.due.extend([b"1", b"farewell"])
        await driven.pump.last_words()
        assert driven.pipe.sent == [b"1", b"farewell"]
        assert driven.pipe.closed

    run_virtual(main())


@pytest.mark.parametrize("how", ["dead", "full", "not closing"])
def test_last_words_to_nobody_take_two_seconds_at_most(how: str) -> None:
    async def main() -> None:
        driven = Driven()
        driven.machine.due.extend([b"1", b"farewell"])
        driven.pipe.broken = how == "dead"
        driven.pipe.stuck = how == "not closing"
        if how == "full":
            driven.pipe.open.clear()
        started_s = LoopClock().now_s()
        await driven.pump.last_words()
        assert LoopClock().now_s() - started_s == pytest.approx(0 if how == "dead" else 2)

    run_virtual(main())


def test_cancelling_it_leaves_no_task_behind() -> None:
    async def main() -> None:
        driven = Driven()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(driven.pump.run())
            await settle()
            running.cancel()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
