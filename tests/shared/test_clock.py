from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared import clock
from shared.clock import LoopClock, SystemClock, process_age_s
from tests.commands import environment
from tests.virtual import START_S, run_virtual


def test_the_loop_tells_virtual_time() -> None:
    async def main() -> None:
        loop_clock = LoopClock()
        assert loop_clock.now_s() == START_S
        await loop_clock.sleep_s(3600)
        assert loop_clock.now_s() == START_S + 3600

    run_virtual(main())


def test_the_system_clock_is_the_monotonic_one_and_sleeps_on_the_loop() -> None:
    async def main() -> None:
        system = SystemClock()
        before_s = time.monotonic()
        assert before_s <= system.now_s() <= time.monotonic()
        await system.sleep_s(3600)
        assert asyncio.get_running_loop().time() == START_S + 3600

    run_virtual(main())


def test_the_age_of_a_process_counts_from_its_start_not_from_an_import() -> None:
    script = (
        "import time; time.sleep(0.3)\n"
        "from shared.clock import process_age_s\n"
        "print(process_age_s(), flush=True)\n"
        "input()\n"
        "print(process_age_s())\n"
    )
    started_s = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first_s = float(process.stdout.readline())
        heard_s = time.monotonic()
        process.stdin.write("\n")
        process.stdin.flush()
        second_s = float(process.stdout.readline())
    slack_s = 0.05  # the kernel counts starts in hundredths
    assert 0.3 - slack_s <= first_s <= heard_s - started_s + slack_s
    assert first_s <= second_s


@pytest.mark.parametrize("error", [OSError("no /proc"), ValueError("not a number")])
def test_elsewhere_the_age_counts_from_the_import(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_path: Path) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", refuse)
    before_s = time.monotonic() - clock._IMPORTED_S
    assert before_s <= process_age_s() <= time.monotonic() - clock._IMPORTED_S
