"""An event loop on virtual time: waiting takes no time, and the same run gives the same times.

When nothing is ready, the clock jumps to the next timer. Nothing real may be waited for: there are
no sockets, and what is given to an executor runs at once, in place, and takes no time.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Executor

    from _typeshed import FileDescriptorLike

T = TypeVar("T")

START_S = 1000.0
"""Not 0, which no real loop shows: a time that somebody forgot to set should stand out."""
LIMIT_S = 7 * 86_400.0
"""A run of a virtual week is one that never ends."""


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is set: whoever waits would wait for ever."""


def run_virtual(main: Coroutine[Any, Any, T], *, limit_s: float = LIMIT_S) -> T:
    """Run a coroutine to its end on a loop of its own; `asyncio.timeout`, sleeps, timers included.

    Raises:
        Deadlock: everything waits for something that no timer brings.
        TimeoutError: the virtual clock has passed the limit.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s)) as runner:
        return runner.run(main)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time moves only when nothing else can."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._now_s = START_S
        self._end_s = START_S + limit_s
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now_s

    def jump(self, seconds: float | None) -> None:
        """Let so much time pass; None is for ever."""
        if seconds is None:
            raise Deadlock("nothing is ready and no timer is set")
        self._now_s += seconds
        if self._now_s > self._end_s:
            # Once: what cleans up after this may still need its timers.
            self._end_s = float("inf")
            raise TimeoutError("the run went on past its limit of virtual time")

    def run_in_executor(
        self, _executor: Executor | None, work: Callable[..., T], *arguments: object
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done


class _JumpingSelector(selectors.BaseSelector):
    """Watches the loop's own wake-up socket and nothing else; never waits."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._inner = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if not ready and (timeout is None or timeout > 0):
            self._loop.jump(timeout)
        return ready

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        if self._inner.get_map():
            raise RuntimeError("a loop on virtual time has no sockets")
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()
