"""Hundreds of transfers, each under its own seed of trouble: every one ends exact.

More, and other, seeds: ``make test-long``, or ``python -m tests.endtoend.virtual_chaos 1000 500``.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from shared.workers import usable_cores
from tests.commands import command, environment

SEEDS = int(os.environ.get("MEDROI_SEEDS", "500"))


def _run(first: int, count: int) -> str:
    done = subprocess.run(
        command("tests.endtoend.virtual_chaos", first, count),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30 + 10 * count,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr[-2000:] + "FAILED"


def test_every_study_survives_its_seed_of_trouble() -> None:
    cores = usable_cores()
    share = -(-SEEDS // cores)
    with ThreadPoolExecutor(cores) as pool:
        said = list(pool.map(_run, range(0, SEEDS, share), [share] * cores))
    assert not [each for each in said if "FAILED" in each], "\n".join(said)
