from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.virtual import START_S, Deadlock, run_virtual


def test_waiting_takes_no_time_and_the_clock_moves_on() -> None:
    async def main() -> float:
        async with asyncio.TaskGroup() as group:
            for seconds in (5.0, 3600.0, 0.001):
                group.create_task(asyncio.sleep(seconds))
        return asyncio.get_running_loop().time()

    started_s = time.monotonic()
    assert run_virtual(main()) == pytest.approx(START_S + 3600)
    assert time.monotonic() - started_s < 1


def test_time_limits_hold_on_the_virtual_clock() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        assert asyncio.get_running_loop().time() == pytest.approx(START_S + 10)

    run_virtual(main())


def test_a_wait_for_what_no_timer_brings_is_an_error() -> None:
    cleaned = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append(True)

    with pytest.raises(Deadlock):
        run_virtual(main())
    assert cleaned == [True]


def test_a_run_that_never_ends_is_an_error() -> None:
    async def main() -> None:
        for _ in iter(int, 1):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError, match="past its limit"):
        run_virtual(main(), limit_s=86_400)


def test_work_for_a_thread_is_done_in_place() -> None:
    async def main() -> None:
        now_s = asyncio.get_running_loop().time()
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)
        assert asyncio.get_running_loop().time() == now_s

    run_virtual(main())


def test_there_are_no_sockets() -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with near, far, pytest.raises(RuntimeError, match="no sockets"):
            asyncio.get_running_loop().add_reader(near, print)

    run_virtual(main())
