"""What every transport keeps, inherited by the tests of each of them."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Protocol

import pytest

from shared.errors import LocalProtocolError, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.transports.base import Transport, TransportStats

MAX_FRAME_BYTES = 1 << 20
"""What an implementation's test opens its transports with."""


class Breakable(Protocol):
    """Both ends of a connection and a way to break it between them."""

    @property
    def near(self) -> Transport: ...

    @property
    def far(self) -> Transport: ...

    def cut(self) -> None: ...


async def collect(transport: Transport) -> list[bytes]:
    return [frame async for frame in transport.frames()]


class TransportContract:
    """``run`` opens a connection, plays the scenario with both ends, and closes what is left."""

    patience_s: float
    """How long a send that is held up is watched."""

    def run(self, scenario: Callable[[Breakable], Awaitable[None]]) -> None:
        raise NotImplementedError

    def test_frames_arrive_whole_and_in_order(self) -> None:
        rng = Random(1)
        frames = [rng.randbytes(rng.choice([0, 1, 30, 1460, 16_384, 65_535])) for _ in range(150)]

        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                received = group.create_task(collect(ends.far))
                for frame in frames:
                    await ends.near.send(frame)
                await ends.near.close()
            assert received.result() == frames

        self.run(scenario)

    def test_the_largest_frame_arrives_and_a_larger_one_is_not_sent(self) -> None:
        frame = Random(2).randbytes(MAX_FRAME_BYTES)

        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                received = group.create_task(collect(ends.far))
                await ends.near.send(frame)
                with pytest.raises(LocalProtocolError, match="1048576 bytes, got 1048577"):
                    await ends.near.send(frame + b"!")
                await ends.near.close()
            assert received.result() == [frame]

        self.run(scenario)

    def test_both_directions_carry_at_once(self) -> None:
        rng = Random(3)
        there, back = ([rng.randbytes(8192) for _ in range(100)] for _ in range(2))

        async def exchange(end: Transport, frames: list[bytes], expected: int) -> list[bytes]:
            received: list[bytes] = []

            async def receive() -> None:
                async for frame in end.frames():
                    received.append(frame)
                    if len(received) == expected:
                        return

            async with asyncio.TaskGroup() as group:
                group.create_task(receive())
                for frame in frames:
                    await end.send(frame)
            return received

        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                near = group.create_task(exchange(ends.near, there, len(back)))
                far = group.create_task(exchange(ends.far, back, len(there)))
            assert near.result() == back
            assert far.result() == there

        self.run(scenario)

    def test_a_frame_waits_for_nobody_to_ask_for_it(self) -> None:
        async def scenario(ends: Breakable) -> None:
            await ends.near.send(b"early")
            await asyncio.sleep(self.patience_s / 10)
            async for frame in ends.far.frames():
                assert frame == b"early"
                break

        self.run(scenario)

    def test_closing_in_order_ends_the_frames_of_both_ends(self) -> None:
        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                near = group.create_task(collect(ends.near))
                far = group.create_task(collect(ends.far))
                await ends.near.send(b"last")
                await ends.near.close()
                await ends.near.close()
            assert (near.result(), far.result()) == ([], [b"last"])
            assert await collect(ends.far) == []

        self.run(scenario)

    def test_nothing_is_sent_after_either_end_has_closed(self) -> None:
        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(collect(ends.far))
                await ends.near.close()
            for end in (ends.near, ends.far):
                with pytest.raises(TransportClosed):
                    await end.send(b"late")

        self.run(scenario)

    def test_an_end_closes_though_it_has_frames_that_nobody_asked_for(self) -> None:
        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(collect(ends.near))
                for _ in range(40):
                    await ends.far.send(bytes(1000))
                started_s = asyncio.get_running_loop().time()
                await ends.near.close()
                assert asyncio.get_running_loop().time() - started_s < 5

        async def unread(ends: Breakable) -> None:
            for _ in range(40):
                await ends.far.send(bytes(1000))
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(collect(ends.far))
                await ends.near.close()

        self.run(scenario)
        self.run(unread)

    def test_a_reader_that_looks_away_while_its_end_closes_comes_back_to_the_end(self) -> None:
        async def scenario(ends: Breakable) -> None:
            looked_away, closed = asyncio.Event(), asyncio.Event()
            received: list[bytes] = []

            async def read() -> None:
                async for frame in ends.near.frames():
                    received.append(frame)
                    looked_away.set()
                    await closed.wait()

            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(read())
                group.create_task(collect(ends.far))
                for _ in range(40):
                    await ends.far.send(b"more")
                await looked_away.wait()
                await ends.near.close()
                closed.set()
            assert received == [b"more"]

        self.run(scenario)

    def test_a_sender_is_held_up_by_a_peer_that_does_not_read(self) -> None:
        frame, most_bytes = bytes(64 << 10), 64 << 20

        async def scenario(ends: Breakable) -> None:
            async def send_on() -> None:
                async with asyncio.timeout(self.patience_s):
                    for _ in range(most_bytes // len(frame)):
                        await ends.near.send(frame)

            with pytest.raises(TimeoutError):
                await send_on()
            held_up = ends.near.stats().frames_sent
            assert 0 < held_up * len(frame) < most_bytes
            # Asked for, they all arrive, and the sender goes on.
            async with asyncio.TaskGroup() as group:
                received = group.create_task(collect(ends.far))
                await ends.near.send(b"on")
                await ends.near.close()
            assert len(received.result()) in (held_up + 1, held_up + 2)  # one was under way
            assert received.result()[-1] == b"on"

        self.run(scenario)

    def test_a_cut_line_is_an_error_for_both_ends_and_what_has_arrived_is_read(self) -> None:
        async def scenario(ends: Breakable) -> None:
            received: list[bytes] = []
            arrived = asyncio.Event()

            async def read(end: Transport) -> None:
                async for frame in end.frames():
                    received.append(frame)
                    arrived.set()

            async def read_until_cut(end: Transport) -> None:
                with pytest.raises(TransportClosed):
                    await read(end)

            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(read_until_cut(ends.near))
                group.create_task(read_until_cut(ends.far))
                await ends.near.send(b"before")
                await arrived.wait()
                ends.cut()
            assert received == [b"before"]
            for end in (ends.near, ends.far):
                with pytest.raises(TransportClosed):
                    await end.send(b"after")
                await end.close()

        self.run(scenario)

    def test_a_sender_that_is_held_up_hears_of_a_cut(self) -> None:
        async def scenario(ends: Breakable) -> None:
            async def send_on() -> None:
                while True:
                    await ends.near.send(bytes(64 << 10))

            async def send_until_cut() -> None:
                with pytest.raises(TransportClosed):
                    await send_on()

            async with asyncio.timeout(self.patience_s + 5), asyncio.TaskGroup() as group:
                group.create_task(send_until_cut())
                await asyncio.sleep(self.patience_s)
                ends.cut()

        self.run(scenario)

    def test_the_counts_are_those_of_the_frames(self) -> None:
        async def scenario(ends: Breakable) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(collect(ends.far))
                for size_bytes in (0, 10, 300):
                    await ends.near.send(bytes(size_bytes))
                await ends.near.close()
            near, far = ends.near.stats(), ends.far.stats()
            assert (near.frames_sent, near.bytes_sent) == (3, 310)
            assert (far.frames_received, far.bytes_received) == (3, 310)
            assert (near.frames_received, far.frames_sent) == (0, 0)
            self.check_stats(near)

        self.run(scenario)

    def check_stats(self, stats: TransportStats) -> None:
        raise NotImplementedError
