"""CPU work off the event loop.

Threads are enough for our own voxels: the codecs' C code frees the GIL. A peer's bytes are decoded
in child processes instead (`receiver.decode`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple

from shared.apart import Apart

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_PATIENT_NICENESS = 10
"""A tenth of the share that a thread has beside ordinary ones: it still gets every idle core."""


class Workers(Protocol):
    """Runs functions somewhere that may block."""

    @property
    def count(self) -> int:
        """How many run at once."""
        ...

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """The function's result; its exceptions come through."""
        ...

    async def run_patiently(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """The same, giving way to whatever else wants a core."""
        ...

    async def run_apart(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """The same, by a process of its own: what loads there for long holds up nobody here.

        Function, arguments and result can be pickled.
        """
        ...


class ThreadWorkers:
    """A pool of threads, one per core unless told otherwise. Use as a context manager."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or usable_cores()
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="medroi")
        self._patient = ThreadPoolExecutor(
            self.count, thread_name_prefix="medroi-patient", initializer=_give_way
        )
        self._apart = Apart(self.count)

    def __enter__(self) -> ThreadWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        # Work that no one waits for any more is dropped; what runs finishes its block.
        for pool in (self._pool, self._patient):
            pool.shutdown(wait=True, cancel_futures=True)
        self._apart.close()

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """In a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def run_patiently(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """In a thread of lower priority; those that a library starts from there inherit it."""
        return await asyncio.get_running_loop().run_in_executor(self._patient, work, *arguments)

    async def run_apart(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """In a child process, of lower priority as well."""
        return await self.run_patiently(self._call_apart, work, arguments)

    def _call_apart(self, work: Callable[[*Ts], T], arguments: tuple[*Ts]) -> T:
        return self._apart.call(work, arguments)


class InlineWorkers:
    """Runs at once, on the loop: for virtual time, where a thread's real seconds must not count."""

    count = 2

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Here and now, after one turn of the loop."""
        await asyncio.sleep(0)
        return work(*arguments)

    async def run_patiently(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """The same."""
        return await self.run(work, *arguments)

    async def run_apart(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """The same."""
        return await self.run(work, *arguments)


def _give_way() -> None:
    """Lower this thread's priority, where the system knows priorities of threads (Linux)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PATIENT_NICENESS)


def usable_cores() -> int:
    """Cores this process may use, containers' limits on affinity included."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
