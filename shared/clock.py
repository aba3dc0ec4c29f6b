"""The only place that tells time: the clocks of a transfer, and how old this process is.

What waits or stamps inside a transfer is given a `Clock`, so that a whole transfer also runs on a
loop whose time is virtual. Reports count from the start of the process, imports included, because
that is how long a user has waited.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Protocol

_IMPORTED_S = time.monotonic()


class Clock(Protocol):
    """Seconds from an arbitrary start, never backwards."""

    def now_s(self) -> float:
        """The time."""
        ...

    async def sleep_s(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's monotonic clock, to the microsecond; uvloop's own counts whole milliseconds."""

    def now_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    async def sleep_s(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)


class LoopClock:
    """The running loop's clock: transports schedule by it, and simulations make it virtual."""

    def now_s(self) -> float:
        """See `Clock`."""
        return asyncio.get_running_loop().time()

    async def sleep_s(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)


def local_minute() -> int:
    """The minute of the day, 0 to 1439, by the machine's local time."""
    now = time.localtime()
    return now.tm_hour * 60 + now.tm_min


def process_age_s() -> float:
    """Seconds since this process was started, before the interpreter's own start-up.

    Linux says it in /proc (proc(5), field 22 of stat, in clock ticks since boot); elsewhere the
    age counts from the import of this module.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED_S
