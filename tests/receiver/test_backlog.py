from __future__ import annotations

import asyncio

from receiver.backlog import Backlog
from tests.virtual import run_virtual


def test_the_reader_waits_while_more_than_the_bound_is_undecoded() -> None:
    async def main() -> None:
        backlog = Backlog(100)
        added: list[int] = []

        async def read() -> None:
            for size in (60, 40, 1, 70):
                await backlog.add(size)
                added.append(size)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            await asyncio.sleep(1)
            assert added == [60, 40]  # 101 bytes wait: the third has come and holds the reader up
            backlog.remove(60)
            await asyncio.sleep(1)
            assert added == [60, 40, 1]
            backlog.remove(40)
            await asyncio.sleep(1)
            assert added == [60, 40, 1, 70]

    run_virtual(main())


def test_an_encoding_over_the_bound_comes_alone() -> None:
    async def main() -> None:
        backlog = Backlog(10)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            first = group.create_task(backlog.add(1000))
            await asyncio.sleep(1)
            assert not first.done()
            backlog.remove(1000)
        await backlog.add(10)

    run_virtual(main())
