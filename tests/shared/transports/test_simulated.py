from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import TransportClosed
from shared.link import LinkProfile, parse_link
from shared.transports.simulated import SimulatedLine, SimulatedTransport, simulated_pair
from tests.contracts.transport import MAX_FRAME_BYTES, Breakable, TransportContract, collect
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from shared.transports.base import TransportStats

THIN = parse_link("rate=1M,rtt=100ms")


@dataclass
class Ends:
    near: SimulatedTransport
    far: SimulatedTransport

    def cut(self) -> None:
        self.near.cut()


class TestSimulated(TransportContract):
    patience_s = 300.0
    profile = THIN

    def run(self, scenario: Callable[[Breakable], Awaitable[None]]) -> None:
        async def main() -> None:
            line = SimulatedLine(self.profile, 1, max_frame_bytes=MAX_FRAME_BYTES)
            ends = Ends(*line.connect())
            await scenario(ends)
            async with asyncio.TaskGroup() as group:
                group.create_task(ends.near.close())
                group.create_task(ends.far.close())

        run_virtual(main())

    def check_stats(self, stats: TransportStats) -> None:
        assert (stats.name, stats.congestion) == ("simulated", "")


class TestSimulatedWithLoss(TestSimulated):
    profile = parse_link("rate=2M,rtt=200ms,loss=5%")


class TestSimulatedWithOutages(TestSimulated):
    profile = parse_link("rate=2M,rtt=200ms,jitter=50ms,reorder=5%,outage=2s@300ms,outage=1s@9s")


def transfer(profile: LinkProfile, seed: int, *, size_bytes: int) -> tuple[float, list[float]]:
    """Time of the whole, and of each frame, from the first send; frames of 4 KiB."""

    async def main() -> tuple[float, list[float]]:
        now_s = asyncio.get_running_loop().time
        started_s, arrivals_s = now_s(), list[float]()
        near, far = simulated_pair(profile, seed)

        async def receive() -> None:
            async for _ in far.frames():
                arrivals_s.append(now_s() - started_s)

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            for _ in range(size_bytes // 4096):
                await near.send(bytes(4096))
            await near.close()
        return now_s() - started_s, arrivals_s

    return run_virtual(main())


def test_a_frame_takes_its_time_at_the_rate_and_half_a_round_trip() -> None:
    _, arrivals_s = transfer(THIN, 0, size_bytes=4096 * 3)
    assert arrivals_s == [pytest.approx(0.05 + n * 4096 * 8 / 1e6) for n in (1, 2, 3)]


def test_a_close_takes_a_round_trip_behind_the_frames() -> None:
    whole_s, arrivals_s = transfer(THIN, 0, size_bytes=4096 * 3)
    assert whole_s == pytest.approx(arrivals_s[-1] + 0.05)


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    lossy = parse_link("rate=1M,rtt=100ms,loss=3%")
    assert transfer(lossy, 4, size_bytes=1 << 20) == transfer(lossy, 4, size_bytes=1 << 20)
    assert transfer(lossy, 4, size_bytes=1 << 20) != transfer(lossy, 5, size_bytes=1 << 20)


def test_a_long_transfer_keeps_a_lossy_link_full() -> None:
    lossy = parse_link("vsat-384k,loss=1%")
    whole_s, _ = transfer(lossy, 0, size_bytes=10 << 20)
    assert whole_s == pytest.approx((10 << 20) * 8 / 384e3 / 0.99, rel=0.02)


def test_a_send_returns_when_the_queue_has_room() -> None:
    async def main() -> None:
        now_s = asyncio.get_running_loop().time
        near, far = simulated_pair(THIN, 0)
        started_s = now_s()
        for _ in range(6):  # 25 kB of the 30 kB that the queue holds
            await near.send(bytes(4096))
        assert now_s() == started_s
        async with asyncio.TaskGroup() as group:
            group.create_task(collect(far))
            for _ in range(30):
                await near.send(bytes(4096))
            sent_s = now_s() - started_s
            await near.close()
        assert sent_s == pytest.approx((36 * 4096 - 30_000 + 1460) * 8 / 1e6)

    run_virtual(main())


def test_connections_of_one_line_share_it() -> None:
    async def main() -> None:
        now_s = asyncio.get_running_loop().time
        line = SimulatedLine(THIN, 0)
        (first, first_far), (second, second_far) = line.connect(), line.connect()
        started_s = now_s()
        async with asyncio.TaskGroup() as group:
            group.create_task(collect(first_far))
            group.create_task(collect(second_far))
            await first.send(bytes(25_000))
            await second.send(bytes(1250))
            await second.close()
            assert now_s() - started_s == pytest.approx(0.21 + 0.1)
            await first.close()

    run_virtual(main())


async def send_on(near: SimulatedTransport) -> None:
    while True:
        await near.send(bytes(1250))


async def until_cut(work: Coroutine[Any, Any, object]) -> None:
    with pytest.raises(TransportClosed, match="the line was cut"):
        await work


def test_a_cut_is_made_at_its_time_and_loses_what_is_on_the_line() -> None:
    async def main() -> None:
        now_s = asyncio.get_running_loop().time
        near, far = simulated_pair(THIN, 0)
        started_s = now_s()
        near.cut(started_s + 1.0)
        received: list[bytes] = []

        async def receive() -> None:
            async for frame in far.frames():
                received.append(frame)

        async with asyncio.TaskGroup() as group:
            group.create_task(until_cut(receive()))
            group.create_task(until_cut(send_on(near)))
        assert now_s() - started_s == pytest.approx(1.0)
        assert len(received) == 95  # of 10 ms each, and 50 ms on the way

    run_virtual(main())


def test_the_links_own_resets_break_every_open_connection() -> None:
    async def main() -> None:
        now_s = asyncio.get_running_loop().time
        line = SimulatedLine(parse_link("rate=1M,rtt=100ms,reset@1s,reset@3s"), 0)
        started_s, broken_s = now_s(), list[float]()
        for _ in range(2):
            pairs = [line.connect() for _ in range(3)]
            for end in (end for pair in pairs for end in pair):
                await until_cut(collect(end))
            broken_s.append(now_s() - started_s)
        assert broken_s == [pytest.approx(1.0), pytest.approx(3.0)]

    run_virtual(main())


def outage_transfer(link: str, send_at_s: list[float]) -> list[float]:
    """When small frames arrive that are sent at these times; the line comes up at 0."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        near, far = simulated_pair(parse_link(link), 0)
        started_s, arrivals_s = loop.time(), list[float]()

        async def receive() -> None:
            async for _ in far.frames():
                arrivals_s.append(loop.time() - started_s)

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            for at_s in send_at_s:
                await asyncio.sleep(max(0.0, started_s + at_s - loop.time()))
                await near.send(bytes(125))
            await near.close()
        return arrivals_s

    return run_virtual(main())


def test_in_an_outage_frames_are_late_and_none_is_lost() -> None:
    arrivals_s = outage_transfer("rate=1M,rtt=100ms,outage=5s@1s", [0.5, 1.2, 2.0, 5.0, 12.0])
    again_s = 1.2 + 0.3 * 31  # the first of 0.3, 0.9, 2.1, 4.5, 9.3 s later that is behind it
    assert arrivals_s == [
        pytest.approx(0.551),
        *(pytest.approx(again_s + 0.051, abs=0.002) for _ in range(3)),
        pytest.approx(12.051),
    ]


def test_a_new_connection_is_through_as_soon_as_the_outage_is_over() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        line = SimulatedLine(parse_link("rate=1M,rtt=100ms,outage=20s@1s"), 0)
        started_s = loop.time()
        near, far = await line.dial()
        assert loop.time() - started_s == pytest.approx(0.2)
        await asyncio.sleep(1.0)
        stuck_s = loop.time()
        await near.send(b"stuck")
        assert loop.time() == stuck_s
        await asyncio.sleep(started_s + 21.0 - loop.time())
        second, second_far = await line.dial()
        await second.send(b"through")
        async for _ in second_far.frames():
            break
        assert loop.time() - started_s == pytest.approx(21.25, abs=0.01)
        async for _ in far.frames():
            break
        assert loop.time() - started_s > 30

    run_virtual(main())


def test_a_connection_dialled_in_an_outage_comes_behind_it() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        line = SimulatedLine(parse_link("rate=1M,rtt=100ms,outage=5s@0s"), 0)
        started_s = loop.time()
        await line.dial()
        return loop.time() - started_s

    assert run_virtual(main()) == pytest.approx(7.0 + 0.2)  # asked for again after 1, 2, 4 s


def test_a_silent_line_tells_nobody() -> None:
    async def main() -> None:
        near, far = simulated_pair(THIN, 0)
        started_s = asyncio.get_running_loop().time()
        far.silence(started_s + 1.0)
        received: list[bytes] = []

        async def receive() -> None:
            async for frame in far.frames():
                received.append(frame)

        async def for_a_minute() -> None:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(receive())
                await send_on(near)

        with pytest.raises(TimeoutError):
            await for_a_minute()
        assert len(received) == 95
        assert near.stats().bytes_sent < 500_000
        await near.close()  # gives up in time
        with pytest.raises(TransportClosed, match="did not agree"):
            await collect(near)

    run_virtual(main())


def test_it_runs_on_a_real_loop_too() -> None:
    async def main() -> None:
        near, far = simulated_pair(parse_link("rate=10M,rtt=10ms"), 0)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            received = group.create_task(collect(far))
            for number in range(20):
                await near.send(bytes([number]) * 1000)
            await near.close()
        assert [frame[0] for frame in received.result()] == list(range(20))

    asyncio.run(main())
