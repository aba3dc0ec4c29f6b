"""Every tenth point of a transfer at which a process may die or a disk fail; all of them where
``MEDROI_CRASH_EVERY=1``, as in ``make test-long``."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from shared.workers import usable_cores
from tests.commands import command, environment

EVERY = int(os.environ.get("MEDROI_CRASH_EVERY", "10"))
_MOST_POINTS = 400


def _run(first: int, every: int) -> str:
    done = subprocess.run(
        command("tests.endtoend.crash_points", first, every),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60 + 20 * _MOST_POINTS / every,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr[-2000:] + "FAILED"


def test_whoever_crashes_wherever_the_study_ends_exact() -> None:
    cores = usable_cores()
    starts = [1 + core * EVERY for core in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        said = list(pool.map(_run, starts, [cores * EVERY] * cores))
    print(*said, sep="\n")
    assert not [each for each in said if "FAILED" in each], "\n".join(said)
