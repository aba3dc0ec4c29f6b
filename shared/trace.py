"""A recorded link: when it could deliver, and a bottleneck made of it.

As mahimahi writes it down, one line of a trace is one opportunity to deliver 1500 bytes, as
milliseconds since the start; at its end the trace starts again (Winstein, Sivaraman and
Balakrishnan, NSDI 2013). Several opportunities may share a millisecond. A table of bitrates
(`shared.trace_csv`) is turned into such opportunities.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPPORTUNITY_BYTES = 1500
"""What one line of a trace delivers."""
MAX_TRACE_BYTES = 16 << 20
"""Of a trace file; the longest of mahimahi's own is 1 MB."""
MAX_TRACE_MS = 10**9
"""Length of a trace: some eleven days, where mahimahi's last 18 minutes."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The opportunities of one round."""

    times_ms: Sequence[int]
    """Never falling; the last is above zero and is the length of the round."""

    @property
    def mean_bps(self) -> float:
        """Bits per second over a whole round."""
        return len(self.times_ms) * OPPORTUNITY_BYTES * 8 * 1000 / self.times_ms[-1]


def read_trace(path: Path) -> Trace:
    """A trace from its file, checked whole before it is used: mahimahi's, or ``.csv``.

    Raises:
        SettingsError: no such file, too large, empty, or a line that is no time in order, or no
            bitrate.
    """
    content = _read(path)
    if path.suffix == ".csv":
        from shared.trace_csv import parse_bitrates

        return Trace(parse_bitrates(content, str(path)))
    return Trace(_parse_times(content, path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TRACE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"link: cannot read the trace {path}: {error.strerror}") from error
    if len(content) > MAX_TRACE_BYTES:
        raise SettingsError(
            f"link: the trace {path} is too large, expected up to {MAX_TRACE_BYTES >> 20} MiB"
        )
    return content


def _parse_times(content: bytes, path: Path) -> tuple[int, ...]:
    times_ms: list[int] = []
    for number, line in enumerate(content.splitlines(), start=1):
        digits = line.strip()
        is_number = digits.isdigit() and len(digits) <= len(str(MAX_TRACE_MS))
        time_ms = int(digits) if is_number else -1
        if not (times_ms[-1] if times_ms else 0) <= time_ms <= MAX_TRACE_MS:
            raise SettingsError(
                f"link: {path}, line {number}: expected milliseconds as a whole number, "
                f"not before the line above, got {digits[:20].decode('ascii', 'replace')!r}"
            )
        times_ms.append(time_ms)
    if not times_ms or times_ms[-1] == 0:
        raise SettingsError(f"link: the trace {path} ends at 0 ms, expected it to last")
    return tuple(times_ms)


class TracedBottleneck:
    """Sends bytes at the opportunities of a trace; an opportunity that finds none waiting is lost.

    Opportunities are counted from the first of the first round, on through all rounds.
    """

    def __init__(self, trace: Trace, start_s: float) -> None:
        self._times_ms = trace.times_ms
        self._start_s = start_s
        self._current = 0
        self._left_bytes = OPPORTUNITY_BYTES

    def send(self, now_s: float, size_bytes: int) -> float:
        """When the last of these bytes has left, behind those before them."""
        first = self._first(now_s, after=False)
        if first > self._current:
            self._current, self._left_bytes = first, OPPORTUNITY_BYTES
        if size_bytes > self._left_bytes:
            more = math.ceil((size_bytes - self._left_bytes) / OPPORTUNITY_BYTES)
            self._current += more
            self._left_bytes += more * OPPORTUNITY_BYTES
        self._left_bytes -= size_bytes
        return self._time_s(self._current)

    def backlog_bytes(self, now_s: float) -> int:
        """What has been handed over and has not left."""
        to_come = self._current - self._first(now_s, after=True) + 1
        return max(0, to_come * OPPORTUNITY_BYTES - self._left_bytes)

    def drained_s(self, behind_bytes: int) -> float:
        """When no more than so many bytes are left, if none are added."""
        spared = (behind_bytes + self._left_bytes) // OPPORTUNITY_BYTES
        return self._time_s(self._current - spared)

    def _time_s(self, opportunity: int) -> float:
        if opportunity < 0:
            return -math.inf
        rounds, place = divmod(opportunity, len(self._times_ms))
        return self._start_s + (rounds * self._times_ms[-1] + self._times_ms[place]) / 1000

    def _first(self, now_s: float, *, after: bool) -> int:
        """The first opportunity that is not before now, or that is after now."""
        # To the nanosecond, so that the time of an opportunity finds that opportunity again.
        elapsed_ms = round((now_s - self._start_s) * 1000, 6)
        rounds = elapsed_ms / self._times_ms[-1]
        # The end of a round may be the start of the next, where a trace begins with 0.
        whole = max(0, math.floor(rounds) if after else math.ceil(rounds) - 1)
        bisect = bisect_right if after else bisect_left
        place = bisect(self._times_ms, elapsed_ms - whole * self._times_ms[-1])
        return whole * len(self._times_ms) + place
