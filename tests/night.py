"""``python -m tests.night --seeds 150000 --kills 5000``: what takes a night, as a table.

Seeds of trouble and crash points in virtual time, kills and cut lines of real processes, mutants.
Each row is asked for, done, and ended exact; ``out/bench/faults.json`` holds them too, and what was
said of each that failed. It can be cut short: what is done by then is in the file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shared.workers import usable_cores
from tests.commands import command, environment
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

OUT = Path("out/bench/faults.json")
_SHARE = 100
"""Seeds of one process."""
_KILL_SHARE = 10
_CRASH_SHARE = 8


@dataclass
class Row:
    """One kind of trouble."""

    what: str
    asked: int
    done: int = 0
    failed: list[str] = field(default_factory=list)
    took_s: float = 0.0


Job = tuple[list[object], int]
"""Arguments of a module, and how much of what is asked for that is."""


class Night:
    """Runs rows, as many processes at once as there are cores, and keeps the table."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.rows: list[Row] = []

    def run(self, row: Row, jobs: Iterable[Job], count: Callable[[str, int], int]) -> None:
        """Do all jobs of a row; ``count`` reads how much was done out of what one has said."""
        self.rows.append(row)
        began_s = time.monotonic()

        def one(job: Job) -> None:
            arguments, share = job
            done = subprocess.run(
                command(str(arguments[0]), *arguments[1:]),
                capture_output=True,
                text=True,
                env=environment(),
                check=False,
            )
            row.done += count(done.stdout, share)
            if done.returncode:
                said = f"{arguments}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
                row.failed.append(said)
            row.took_s = round(time.monotonic() - began_s, 1)
            self.write()

        with ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(one, jobs))
        print(
            f"{row.what:34} {row.asked:>9} {row.done:>9} {len(row.failed):>7} {row.took_s:>9.0f} s"
        )
        for said in row.failed[:5]:
            print(f"    {said}")

    def write(self) -> None:
        """Leave what is known so far."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        part = self._out.with_suffix(".part")
        part.write_text(json.dumps([asdict(row) for row in self.rows], indent=1))
        part.replace(self._out)


def _share_of(_said: str, share: int) -> int:
    return share


def _number(pattern: str) -> Callable[[str, int], int]:
    def count(said: str, _share: int) -> int:
        return sum(int(found) for found in re.findall(pattern, said))

    return count


def _shares(module: str, total: int, share: int, before: Sequence[object] = ()) -> Iterable[Job]:
    for first in range(0, total, share):
        size = min(share, total - first)
        yield [module, *before, first, size], size


def main() -> int:
    """Run the night."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=150_000)
    parser.add_argument("--kills", type=int, default=5_000)
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--fuzz-s", type=float, default=600.0, help="seconds of each target")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    night = Night(asked.out)
    print(f"{'':34} {'asked':>9} {'done':>9} {'failed':>7}")
    seeds = _shares("tests.endtoend.virtual_chaos", asked.seeds, _SHARE)
    night.run(Row("simulated seeds", asked.seeds), seeds, _share_of)
    points: list[Job] = [
        (["tests.endtoend.crash_points", first, _CRASH_SHARE], 0)
        for first in range(1, _CRASH_SHARE + 1)
    ]
    ended = _number(r"(\d+) of \d+ crashes ended exact")
    night.run(Row("crashes at every point", 0), points, ended)
    night.rows[-1].asked = night.rows[-1].done + len(night.rows[-1].failed)
    kills: list[Job] = [
        (["tests.endtoend.kills", arguments[1], size, 0], size)
        for arguments, size in _shares("", asked.kills, _KILL_SHARE)
    ]
    night.run(Row("kill -9 of real processes", asked.kills), kills, _number(r"with (\d+) kills"))
    cuts: list[Job] = [
        (["tests.endtoend.kills", 10**6 + first, 0, min(100, asked.cuts - first)], 0)
        for first in range(0, asked.cuts, 100)
    ]
    night.run(Row("disconnects", asked.cuts), cuts, _number(r"and (\d+) disconnects"))
    if asked.fuzz_s:
        failed = asked.out.with_name("fuzz-failed")
        fuzz: list[Job] = [
            (["tests.fuzz.child", name, asked.fuzz_s, 10**6, f"{failed}-{name}"], 0)
            for name in TARGETS
        ]
        night.run(Row("mutants", 0), fuzz, _number(r'"inputs": (\d+)'))
    night.write()
    return int(any(row.failed for row in night.rows))


if __name__ == "__main__":
    sys.exit(main())
