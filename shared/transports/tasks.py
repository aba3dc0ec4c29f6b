"""Tasks that belong to an object which has an ``async with`` of its own: a relay, a listener."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType


class TaskOwner:
    """A task group that stops its tasks when it is left, and leaves its body's error as it is.

    A bare `asyncio.TaskGroup` would wait at the end for tasks that serve until told otherwise, and
    would wrap an error of its body in a group. What does come as an `ExceptionGroup` is an error
    of one of the tasks: it cancels the body first. A cancellation of the body passes through.

    Entered and left by one and the same task, which `asyncio.TaskGroup` demands.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run this until it ends or the owner is left; None, and not run, when that has begun."""
        if self._stopping:
            work.close()
            return None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self) -> None:
        """Cancel every task; none can be started from here on."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None or issubclass(kind, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, traceback)
        else:
            # The group is not told of the body's error, or it would wrap it.
            await self._group.__aexit__(None, None, None)
