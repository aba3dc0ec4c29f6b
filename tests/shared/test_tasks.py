from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from shared.errors import CodecError, InputError, IntegrityError, MedroiError, TransportClosed
from shared.tasks import leading_error, one_error
from tests.virtual import run_virtual


async def fail(error: BaseException, after_s: float = 0.0) -> NoReturn:
    await asyncio.sleep(after_s)
    raise error


def test_the_error_of_one_task_is_raised_as_it_is() -> None:
    error = IntegrityError("three voxels")

    async def main() -> None:
        with one_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(9))
                group.create_task(fail(error))

    with pytest.raises(IntegrityError) as caught:
        run_virtual(main())
    assert caught.value is error
    assert caught.value.__cause__ is None


def test_of_two_named_errors_the_first_is_told() -> None:
    group = BaseExceptionGroup("", [TransportClosed("cut"), CodecError("wrong")])
    assert isinstance(leading_error(group), TransportClosed)


def test_a_fault_of_our_own_is_told_before_a_named_error() -> None:
    fault = ZeroDivisionError()
    inner = ExceptionGroup("", [CodecError("wrong"), fault])
    group = BaseExceptionGroup("", [TransportClosed("cut"), inner])
    assert leading_error(group) is fault


def test_groups_in_groups_are_looked_through() -> None:
    error = InputError("scan.nii", "is torn")

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(error))

    async def main() -> None:
        with one_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(inner())

    with pytest.raises(InputError, match="is torn"):
        run_virtual(main())


def test_an_error_of_the_body_comes_through_though_tasks_are_cancelled() -> None:
    async def main() -> None:
        with one_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(9))
                raise MedroiError("the body")

    with pytest.raises(MedroiError, match="the body"):
        run_virtual(main())


def test_a_plain_error_and_no_error_pass() -> None:
    with pytest.raises(KeyError), one_error():
        raise KeyError("x")
    with one_error():
        pass


def test_a_cancelled_group_stays_cancelled() -> None:
    async def work() -> None:
        with one_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(9))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work())
            await asyncio.sleep(1)
            task.cancel()
        assert task.cancelled()

    run_virtual(main())
