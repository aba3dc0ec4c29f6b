from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from shared.errors import CodecError
from shared.workers import InlineWorkers, ThreadWorkers, usable_cores
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.workers import Workers

_PATIENCE_S = 10.0


@pytest.fixture(params=["threads", "inline"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    if request.param == "inline":
        yield InlineWorkers()
    else:
        with ThreadWorkers(2) as pool:
            yield pool


def test_a_function_gives_its_result(workers: Workers) -> None:
    async def main() -> int:
        return await workers.run(divmod, 17, 5) == (3, 2) and await workers.run(sum, (1, 2, 3))

    assert asyncio.run(main()) == 6


def test_patient_work_gives_its_result_at_a_lower_priority() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def main() -> tuple[int, int]:
        with ThreadWorkers(1) as pool:
            return await pool.run(niceness), await pool.run_patiently(niceness)

    plain, patient = asyncio.run(main())
    assert plain == niceness()
    if sys.platform == "linux":
        assert patient > plain


def test_its_error_comes_through(workers: Workers) -> None:
    def break_down(why: str) -> None:
        raise CodecError(why)

    with pytest.raises(CodecError, match="torn"):
        asyncio.run(workers.run(break_down, "torn"))


def test_threads_run_beside_the_loop_and_beside_each_other() -> None:
    barrier = threading.Barrier(2, timeout=_PATIENCE_S)
    names: set[str] = set()

    def meet() -> None:
        names.add(threading.current_thread().name)
        barrier.wait()

    async def main() -> None:
        with ThreadWorkers(2) as pool:
            async with asyncio.TaskGroup() as group:
                group.create_task(pool.run(meet))
                group.create_task(pool.run(meet))

    asyncio.run(main())
    assert len(names) == 2
    assert all(name.startswith("medroi") for name in names)


def test_work_that_nobody_waits_for_is_dropped_at_the_end() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def block() -> None:
        begun.set()
        go_on.wait(_PATIENCE_S)
        done.append("first")

    async def main() -> None:
        with ThreadWorkers(1) as pool:
            async with asyncio.TaskGroup() as group:
                waiting = [
                    group.create_task(pool.run(block)),
                    group.create_task(pool.run(done.append, "second")),
                ]
                await asyncio.to_thread(begun.wait, _PATIENCE_S)
                for task in waiting:
                    task.cancel()
            go_on.set()

    asyncio.run(main())
    assert done == ["first"]


def test_inline_work_takes_no_virtual_time_but_lets_others_run_first() -> None:
    order: list[str] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as group:
            group.create_task(InlineWorkers().run(order.append, "work"))
            loop.call_soon(order.append, "a turn of the loop")
        return loop.time() - start_s

    assert run_virtual(main()) == 0
    assert order == ["a turn of the loop", "work"]


def test_a_pool_has_a_thread_for_each_core_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    with ThreadWorkers() as pool:
        assert pool.count == usable_cores()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == (os.cpu_count() or 1)
