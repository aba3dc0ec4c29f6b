"""What a site allows itself: rates by the time of day, and words that are none."""

from __future__ import annotations

import asyncio

import pytest

from protocol.pace import Pace
from sender.bwlimit import keep, parse_bwlimit
from shared.clock import LoopClock
from shared.errors import SettingsError
from tests.virtual import run_virtual


def test_one_rate_holds_all_day() -> None:
    timetable = parse_bwlimit("256k")
    assert {timetable.rate_bps(minute) for minute in (0, 600, 1439)} == {256e3}


def test_a_timetable_holds_from_each_time_to_the_next_and_over_midnight() -> None:
    timetable = parse_bwlimit("08:00,256k 12:30,1.5M 20:00,off")
    hours = {"7:59": None, "8:00": 256e3, "12:29": 256e3, "12:30": 1.5e6, "20:00": None}
    for text, rate_bps in hours.items():
        hour, minute = map(int, text.split(":"))
        assert timetable.rate_bps(hour * 60 + minute) == rate_bps, text
    assert parse_bwlimit("08:00,1M 20:00,64k").rate_bps(0) == 64e3  # of the evening before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "7k",
        "200G",
        "-1k",
        "1e6",
        "24:00,1M",
        "08:60,1M",
        "08:00",
        "08:00,",
        "8,1M",
        "256k off",
        "20:00,off 08:00,1M",
        "08:00,1M 08:00,2M",
        " ".join(f"{n // 60:02}:{n % 60:02},1M" for n in range(49)),
    ],
)
def test_what_is_no_limit_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(SettingsError, match="--bwlimit"):
        parse_bwlimit(text)


def test_the_pace_changes_when_the_hour_does() -> None:
    minutes = [479]
    seen: list[float | None] = []
    pace, woken = Pace(), [0]

    def wake() -> None:
        woken[0] += 1

    async def run() -> None:
        timetable = parse_bwlimit("08:00,256k 20:00,off")
        task = asyncio.create_task(keep(timetable, pace, wake, LoopClock(), lambda: minutes[0]))
        await asyncio.sleep(5)
        seen.append(pace.rate_bps)
        minutes[0] = 480
        await asyncio.sleep(5)
        seen.append(pace.rate_bps)
        task.cancel()

    run_virtual(run())
    assert seen == [None, 256e3]
    assert woken == [1]
