from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from shared.link import parse_link
from tests.shared.transports.carried import carried, now_s, read_to_end, send_and_end

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
LINK = parse_link("rate=10M,rtt=60ms")


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@RUNNERS
def test_a_direction_that_ends_leaves_the_other_open(run: Run) -> None:
    async def main() -> None:
        async with carried(LINK) as line:
            loop = asyncio.get_running_loop()
            await send_and_end(line.near, b"question")
            assert await loop.sock_recv(line.far, 100) == b"question"
            assert await loop.sock_recv(line.far, 100) == b""
            await loop.sock_sendall(line.far, b"answer")
            assert await loop.sock_recv(line.near, 100) == b"answer"
            await send_and_end(line.far, b"more")
            assert sum(size for _, size in await read_to_end(line.near)) == 4

    run(main())


@RUNNERS
def test_an_end_comes_behind_the_bytes_and_takes_the_delay(run: Run) -> None:
    async def main() -> None:
        async with carried(LINK) as line:
            await asyncio.sleep(0.1)
            sent_s = now_s()
            await send_and_end(line.near, bytes(12_500))
            arrivals = await read_to_end(line.far)
            assert sum(size for _, size in arrivals) == 12_500
            assert 0.038 <= now_s() - sent_s < 0.08  # 10 ms of rate, 30 ms of delay

    run(main())


@RUNNERS
def test_a_reset_reaches_the_other_end_behind_what_was_sent(run: Run) -> None:
    async def main() -> None:
        async with carried(LINK) as line:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(line.near, b"last words")
            await asyncio.sleep(0.1)
            await loop.sock_sendall(line.near, b"and more")
            await asyncio.sleep(0.01)
            reset(line.near)
            assert await loop.sock_recv(line.far, 10) == b"last words"
            assert await loop.sock_recv(line.far, 100) == b"and more"
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(line.far, 100)

    run(main())


@RUNNERS
def test_a_reset_far_away_reaches_the_near_end(run: Run) -> None:
    async def main() -> None:
        async with carried(LINK) as line:
            reset_s = now_s()
            reset(line.far)
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(line.near, 100)
            assert now_s() - reset_s > 0.029

    run(main())


async def send_on(sock: socket.socket) -> None:
    for _ in range(200):
        await asyncio.get_running_loop().sock_sendall(sock, bytes(1000))
        await asyncio.sleep(0.01)


async def taken_in_a_second(sock: socket.socket, piece: bytes) -> int:
    """How much a sender gets rid of before it is held up."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            for _ in range((64 << 20) // len(piece)):
                await asyncio.get_running_loop().sock_sendall(sock, piece)
                taken += len(piece)
    return taken


@RUNNERS
def test_an_end_that_is_gone_resets_the_one_that_goes_on_sending(run: Run) -> None:
    async def main() -> None:
        async with carried(LINK) as line:
            loop = asyncio.get_running_loop()
            line.near.close()
            assert await loop.sock_recv(line.far, 100) == b""
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await send_on(line.far)

    run(main())


@RUNNERS
def test_a_reset_after_a_half_close_still_ends_the_connection(run: Run) -> None:
    async def main() -> None:
        async with carried(LINK) as line:
            loop = asyncio.get_running_loop()
            await send_and_end(line.near, b"question")
            assert await loop.sock_recv(line.far, 100) == b"question"
            assert await loop.sock_recv(line.far, 100) == b""
            reset(line.near)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await send_on(line.far)

    run(main())


@RUNNERS
def test_a_sender_is_held_up_by_the_queue_of_a_thin_link(run: Run) -> None:
    async def main() -> None:
        async with carried(parse_link("rate=64k,rtt=200ms")) as line:
            line.near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4096)
            taken = await taken_in_a_second(line.near, bytes(1000))
            # A queue of 30 kB, 0.6 s of sending, and what kernels hold in front of it.
            assert 30_000 <= taken < 30_000 + 4800 + 40_000

    run(main())


@RUNNERS
def test_a_sender_is_held_up_by_a_far_end_that_does_not_read(run: Run) -> None:
    async def main() -> None:
        async with carried(parse_link("rate=1G,rtt=2ms,queue=1MB")) as line:
            taken = await taken_in_a_second(line.near, bytes(1 << 16))
            assert taken < 32 << 20
            async with asyncio.TaskGroup() as group:
                arrivals = group.create_task(read_to_end(line.far))
                await asyncio.sleep(0.1)
                line.near.shutdown(socket.SHUT_WR)
            assert taken <= sum(size for _, size in arrivals.result()) <= taken + (1 << 16)

    run(main())
