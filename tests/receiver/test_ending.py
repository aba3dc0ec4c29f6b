from __future__ import annotations

import asyncio

import pytest

from receiver.ending import Ending
from shared.errors import TransportClosed
from tests.virtual import run_virtual


def test_those_who_wait_and_those_who_come_later_hear_that_it_has_ended() -> None:
    async def main() -> None:
        ending, room, told = Ending(), asyncio.Event(), []

        async def wait(name: str) -> None:
            with pytest.raises(TransportClosed, match="the session has ended"):
                async with ending.unless():
                    await room.wait()
            told.append(name)

        async with asyncio.TaskGroup() as group:
            for name in ("one", "another"):
                group.create_task(wait(name))
            await asyncio.sleep(1)
            ending.come()
            ending.come()
            await wait("late")
        assert ending.has_come
        assert sorted(told) == ["another", "late", "one"]

    run_virtual(main())


def test_what_comes_before_the_end_is_not_disturbed_by_it() -> None:
    async def main() -> None:
        ending = Ending()
        async with ending.unless():
            await asyncio.sleep(1)
        ending.come()
        await asyncio.sleep(1)

    run_virtual(main())


def test_who_is_cancelled_is_cancelled_and_told_nothing() -> None:
    async def main() -> None:
        ending = Ending()

        async def wait() -> None:
            async with ending.unless():
                await asyncio.sleep(3600)

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait())
            await asyncio.sleep(1)
            waiting.cancel()
        assert waiting.cancelled()
        ending.come()

    run_virtual(main())
