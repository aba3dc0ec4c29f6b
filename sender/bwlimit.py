"""What a site allows itself to send: a rate, or rates by the time of day.

    "256k"                      always 256 kbit/s
    "08:00,256k 20:00,off"      from 8 in the morning; in the evening no limit any more

Bits a second, as a link's rate is written; hours are the machine's local time, every day the same.
Before the first entry of a day the last one of the day before still holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.pace import Pace
    from shared.clock import Clock

_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_LEAST_BPS, _MOST_BPS = 8e3, 1e11
_MAX_ENTRIES = 48
_DAY_MINUTES = 24 * 60
_EXAMPLES = '256k, off, or "08:00,256k 20:00,off"'
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates by the time of day."""

    entries: tuple[tuple[int, float | None], ...]
    """(minute of the day, bits a second or None for no limit), the minutes rising; at least one."""

    def rate_bps(self, minute: int) -> float | None:
        """What holds at a minute of the day; None for no limit."""
        begun = [rate_bps for start, rate_bps in self.entries if start <= minute]
        return (begun or [rate_bps for _, rate_bps in self.entries])[-1]


def parse_bwlimit(text: str) -> Timetable:
    """The timetable that a text asks for.

    Raises:
        SettingsError: says what was expected.
    """
    words = text.split()
    if len(words) == 1 and "," not in words[0]:
        return Timetable(((0, _rate_bps(words[0], text)),))
    if not 1 <= len(words) <= _MAX_ENTRIES:
        raise SettingsError(
            f"--bwlimit {text!r}: expected {_EXAMPLES}, with at most {_MAX_ENTRIES} times of day"
        )
    entries = tuple(_entry(word, text) for word in words)
    if any(late <= early for (early, _), (late, _) in pairwise(entries)):
        raise SettingsError(f"--bwlimit {text!r}: the times of day must rise")
    return Timetable(entries)


async def keep(
    timetable: Timetable,
    pace: Pace,
    wake: Callable[[], None],
    clock: Clock,
    minute: Callable[[], int],
) -> None:
    """Set the pace to what holds now, for as long as it runs."""
    while True:
        rate_bps = timetable.rate_bps(minute())
        if rate_bps != pace.rate_bps:
            pace.rate_bps = rate_bps
            wake()
        await clock.sleep_s(_LOOK_S)


def _entry(word: str, text: str) -> tuple[int, float | None]:
    moment, _, rate = word.partition(",")
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", moment)
    minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else _DAY_MINUTES
    if minute >= _DAY_MINUTES:
        raise SettingsError(f"--bwlimit {text!r}: expected {_EXAMPLES}, got {word!r}")
    return minute, _rate_bps(rate, text)


def _rate_bps(word: str, text: str) -> float | None:
    if word == "off":
        return None
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kMG]?)", word)
    if match is None:
        raise SettingsError(f"--bwlimit {text!r}: expected {_EXAMPLES}, got {word!r}")
    rate_bps = float(match[1]) * _UNITS[match[2]]
    if not _LEAST_BPS <= rate_bps <= _MOST_BPS:
        raise SettingsError(f"--bwlimit {text!r}: expected 8k to 100G bit/s, got {word!r}")
    return rate_bps
