"""Datagrams over a line: each arrives once, late, twice or never, and nobody is told.

Order is kept unless reordering is asked for, jitter or not: a scheduler holds packets back and then
lets them go together, it does not shuffle them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.line import Line


@dataclass(slots=True)
class Fates:
    """What has become of the datagrams so far."""

    carried: int = 0
    carried_bytes: int = 0
    lost: int = 0
    """By chance."""
    dropped: int = 0
    """The queue was full."""
    silenced: int = 0
    """By an outage."""
    doubled: int = 0


class LineDatagrams:
    """One direction of a line, for all datagrams that go over it."""

    def __init__(self, line: Line) -> None:
        self.fates = Fates()
        self._line = line
        self._queue_bytes = line.profile.queue_limit_bytes
        self._last_s = -math.inf

    def arrivals_s(self, now_s: float, size_bytes: int) -> tuple[float, ...]:
        """When a datagram that is handed over now arrives: never, once or twice.

        One that is overtaken arrives after some that are handed over later.
        """
        line, fates = self._line, self.fates
        if line.backlog_bytes(now_s) + size_bytes > self._queue_bytes:
            fates.dropped += 1
            return ()
        sent_s = line.send(now_s, size_bytes)
        if sent_s is None:
            fates.silenced += 1
            return ()
        if line.lost_behind(1) is not None:
            fates.lost += 1
            return ()
        fates.carried += 1
        fates.carried_bytes += size_bytes
        arrives_s = sent_s + line.delay_s()
        late_s = line.overtaken_s()
        if late_s:
            arrives_s = max(arrives_s, self._last_s) + late_s
        else:
            arrives_s = self._last_s = max(arrives_s, self._last_s)
        if not line.is_doubled():
            return (arrives_s,)
        fates.doubled += 1
        return arrives_s, arrives_s
