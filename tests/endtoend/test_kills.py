"""Thirty real kills of either end in mid-transfer, and a hundred cut lines: all end exact."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tests.commands import command, environment

KILLS = int(os.environ.get("MEDROI_KILLS", "30"))
CUTS = 100
_SIDE_BY_SIDE = 2
_S_PER_KILL, _S_PER_CUT = 20, 5


def _run(first: int) -> str:
    kills, cuts = -(-KILLS // _SIDE_BY_SIDE), -(-CUTS // _SIDE_BY_SIDE)
    done = subprocess.run(
        command("tests.endtoend.kills", first, kills, cuts),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120 + _S_PER_KILL * kills + _S_PER_CUT * cuts,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr[-3000:] + "FAILED"


def test_whoever_is_killed_and_however_often_the_line_is_cut_the_study_ends_exact() -> None:
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        said = list(pool.map(_run, range(0, 1000 * _SIDE_BY_SIDE, 1000)))
    print(*said, sep="\n")
    assert not [each for each in said if "FAILED" in each], "\n".join(said)
