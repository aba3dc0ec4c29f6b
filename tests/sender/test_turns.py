"""Whose turn it is to send: by urgency, then by arrival, and never a dead process's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from protocol.pace import Pace
from sender import turns
from sender.turns import Turn, Urgency, clinic_folder, queued
from shared.clock import SystemClock
from tests.commands import environment

if TYPE_CHECKING:
    from pathlib import Path


def entered(folder: Path, urgency: Urgency, study: str = "study") -> Turn:
    turn = Turn(folder, urgency, study)
    turn.enter()
    return turn


def test_the_first_of_equals_goes_first_and_the_next_follows(tmp_path: Path) -> None:
    first, second = (entered(tmp_path / "row", Urgency.ROUTINE) for _ in range(2))
    assert first.is_ours(ready=True)
    assert not second.is_ours(ready=True)
    first.leave()
    assert second.is_ours(ready=True)


def test_a_stat_study_passes_and_the_others_resume_behind_it(tmp_path: Path) -> None:
    routine = entered(tmp_path / "row", Urgency.ROUTINE)
    assert routine.is_ours(ready=True)
    urgent = entered(tmp_path / "row", Urgency.URGENT)
    stat = entered(tmp_path / "row", Urgency.STAT)
    assert stat.is_ours(ready=True)
    assert not urgent.is_ours(ready=True)
    assert not routine.is_ours(ready=True)
    stat.leave()
    assert urgent.is_ours(ready=True)
    urgent.leave()
    assert routine.is_ours(ready=True)


def test_one_that_is_not_ready_holds_nobody_up(tmp_path: Path) -> None:
    stat = entered(tmp_path / "row", Urgency.STAT)
    routine = entered(tmp_path / "row", Urgency.ROUTINE)
    assert not stat.is_ours(ready=False)
    assert routine.is_ours(ready=True)
    assert stat.is_ours(ready=True)
    assert not routine.is_ours(ready=True)
    assert not stat.is_ours(ready=False)  # its line has gone
    assert routine.is_ours(ready=True)


def test_a_process_that_was_killed_gives_its_place_up(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sender.turns import Turn, Urgency\n"
        "turn = Turn(Path(sys.argv[1]), Urgency.STAT, 'x'); turn.enter()\n"
        "print(turn.is_ours(ready=True), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "row")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "True"
        routine = entered(tmp_path / "row", Urgency.ROUTINE)
        assert not routine.is_ours(ready=True)
        process.kill()
        process.wait()
        assert routine.is_ours(ready=True)
    assert len(list((tmp_path / "row").iterdir())) == 1


def test_a_process_that_was_stopped_holds_nobody_up(tmp_path: Path) -> None:
    stat = entered(tmp_path / "row", Urgency.STAT)
    assert stat.is_ours(ready=True)
    routine = entered(tmp_path / "row", Urgency.ROUTINE)
    assert not routine.is_ours(ready=True)
    long_ago_s = time.time() - 60
    (place,) = (path for path in (tmp_path / "row").iterdir() if path.name.startswith("0-"))
    os.utime(place, (long_ago_s, long_ago_s))
    assert routine.is_ours(ready=True)


def test_the_queue_shows_who_is_there(tmp_path: Path) -> None:
    folder = clinic_folder(tmp_path, "ws://127.0.0.1:8765/")
    routine = entered(folder, Urgency.ROUTINE, "chest.nii.gz")
    entered(folder, Urgency.STAT, "head")
    assert routine.is_ours(ready=True)
    rows = [(row.study, row.urgency, row.ready) for row in queued(tmp_path)]
    assert rows == [("head", "stat", False), ("chest.nii.gz", "routine", True)]
    assert queued(tmp_path / "none") == []


def test_every_address_has_its_own_row(tmp_path: Path) -> None:
    one = clinic_folder(tmp_path, "wss://clinic:8765/#" + "ab" * 32)
    assert one == clinic_folder(tmp_path, "wss://clinic:8765/")
    assert one != clinic_folder(tmp_path, "wss://clinic:8766/")


def test_the_pace_is_held_while_others_go_first(tmp_path: Path) -> None:
    pace = Pace()
    seen: list[bool] = []

    async def run() -> None:
        routine = entered(tmp_path / "row", Urgency.ROUTINE)
        task = asyncio.create_task(
            turns.keep(routine, pace, lambda: True, lambda: None, SystemClock())
        )
        await asyncio.sleep(0.2)
        seen.append(pace.held)
        stat = entered(tmp_path / "row", Urgency.STAT)
        assert stat.is_ours(ready=True)
        await asyncio.sleep(0.2)
        seen.append(pace.held)
        assert not pace.has_room(0.0)
        stat.leave()
        await asyncio.sleep(0.2)
        seen.append(pace.held)
        task.cancel()

    asyncio.run(run())
    assert seen == [False, True, False]
