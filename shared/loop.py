"""The event loop of a command: uvloop where there is one, stopped in order by a signal."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def run_on_loop(work: Coroutine[object, object, T]) -> T:
    """Run a command's coroutine to its end.

    SIGINT and SIGTERM cancel it, so that the peer is told and files are left in order.

    Raises:
        KeyboardInterrupt: it was stopped by a signal.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_until_signalled(work))


async def _until_signalled(work: Coroutine[object, object, T]) -> T:
    task = asyncio.current_task()
    assert task is not None  # a runner's coroutine is a task
    loop = asyncio.get_running_loop()
    signalled: list[int] = []

    def stop(number: int) -> None:
        if not signalled:
            signalled.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await work
    except asyncio.CancelledError:
        if signalled:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop
