"""Mutants of everything that is parsed: only documented errors, no hang, no bloat.

Each target runs in a process of its own, `MEDROI_FUZZ_S` seconds long: 10, or 15 in ``make
test-long``. Rerun what failed: ``python -m tests.fuzz.child TARGET SECONDS SEED FILE``.
"""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from shared.workers import usable_cores
from tests.commands import command, environment
from tests.fuzz.corpus import CORPUS, samples
from tests.fuzz.targets import TARGETS, run_target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECONDS = float(os.environ.get("MEDROI_FUZZ_S", "10"))
SEED = int(os.environ.get("MEDROI_FUZZ_SEED", "0"))
MOST_CPU_S = 2.0
MOST_RSS_BYTES = 256 << 20
_START_S = 120.0
"""For a process to import and compile what it fuzzes, on a machine that is busy."""


@pytest.mark.parametrize("name", TARGETS)
def test_every_sample_of_the_corpus_does_what_is_documented(name: str) -> None:
    assert samples(name), "no corpus"
    for content in samples(name):
        run_target(name, content)


def test_the_corpus_holds_nothing_that_no_target_reads() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


def _fuzz(name: str, folder: Path) -> Mapping[str, Any]:
    failed = folder / f"{name}.failed"
    done = subprocess.run(
        command("tests.fuzz.child", name, SECONDS, SEED, failed),
        capture_output=True,
        text=True,
        env={**environment(), "MEDROI_FUZZ_TMP": str(folder)},
        timeout=SECONDS + _START_S,
        check=False,
    )
    if done.returncode == 0:
        told: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told
    raw = failed.read_bytes() if failed.is_file() else b""
    content = raw[4 : 4 + int.from_bytes(raw[:4], "big")]
    return {"target": name, "died": f"{done.stderr[-1500:]}\nof {content.hex()}"}


def test_no_mutant_of_anything_does_harm(tmp_path: Path) -> None:
    with ThreadPoolExecutor(usable_cores()) as pool:
        told = list(pool.map(_fuzz, TARGETS, [tmp_path] * len(TARGETS)))
    print(*told, sep="\n")
    assert [each for each in told if "died" in each] == []
    assert [each for each in told if each["slowest_cpu_s"] > MOST_CPU_S] == []
    assert [each for each in told if each["rss_bytes"] > MOST_RSS_BYTES] == []
    assert all(each["inputs"] > 100 for each in told)
