from __future__ import annotations

import asyncio

import pytest

from shared.errors import MedroiError
from shared.transports.tasks import TaskOwner


async def forever(log: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        log.append("ended")


def test_leaving_ends_the_tasks_and_waits_for_them() -> None:
    async def main() -> None:
        log: list[str] = []
        async with TaskOwner() as owner:
            for _ in range(3):
                owner.start(forever(log))
            await asyncio.sleep(0)
        assert log == ["ended"] * 3

    asyncio.run(main())


def test_an_error_of_the_body_is_not_wrapped() -> None:
    async def main() -> None:
        async with TaskOwner() as owner:
            owner.start(forever(log))
            await asyncio.sleep(0)
            raise MedroiError("mine")

    log: list[str] = []
    with pytest.raises(MedroiError, match="mine"):
        asyncio.run(main())
    assert log == ["ended"]


def test_an_error_of_a_task_cancels_the_body_and_comes_in_a_group() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise MedroiError("a task's")

        async def own() -> None:
            async with TaskOwner() as owner:
                owner.start(fail())
                await forever(log)

        log: list[str] = []
        with pytest.raises(ExceptionGroup) as caught:
            await own()
        assert [str(error) for error in caught.value.exceptions] == ["a task's"]
        assert log == ["ended"]
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0

    asyncio.run(main())


def test_a_cancellation_passes_through() -> None:
    async def main() -> None:
        async with asyncio.timeout(0.01), TaskOwner() as owner:
            owner.start(forever(log))
            await asyncio.Event().wait()

    log: list[str] = []
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert log == ["ended"]


def test_a_cancellation_while_the_tasks_end_passes_through() -> None:
    async def main() -> None:
        async def slow_to_end() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)

        async def own() -> None:
            async with asyncio.timeout(0.01), TaskOwner() as owner:
                owner.start(slow_to_end())
                await asyncio.sleep(0)

        with pytest.raises(TimeoutError):
            await own()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_nothing_is_started_any_more_once_it_stops() -> None:
    async def main() -> None:
        log: list[str] = []
        async with TaskOwner() as owner:
            owner.stop()
            assert owner.start(forever(log)) is None
        assert log == []

    asyncio.run(main())
