"""Many senders at one receiver, and one receiver for a long time.

Rates are asked for in CPU time: this machine may have other things to do, and says so by how late
an idle process is. ``python -m tests.endtoend.load`` on one that has not gives them by the clock.
"""

from __future__ import annotations

import json
import os
from statistics import median

import pytest

from tests.endtoend.load import measure

SENDERS, MEGABYTES = 8, 32
CORES = 2
LEAST_MEGABYTES_PER_S = 50.0
MOST_UNFAIR = 2.0
MOST_LAG_S = 0.05
QUIET_S = 0.002
"""An idle process is late by less than this where nobody else wants the cores."""
SOAK_S = float(os.environ.get("MEDROI_SOAK_S", "120"))
MOST_GROWTH_BYTES = 16 << 20


def test_eight_senders_get_equal_shares_of_a_receiver_that_keeps_up() -> None:
    load = measure(SENDERS, MEGABYTES)
    print(load)
    assert load.unfairness <= MOST_UNFAIR, load
    assert load.busy_p99_s <= MOST_LAG_S, load
    if load.idle_lag_p99_s < QUIET_S:
        assert load.lag_p99_s <= MOST_LAG_S, load
    carried = max(load.megabytes_per_s, CORES * load.megabytes_per_cpu_s)
    assert carried >= LEAST_MEGABYTES_PER_S, load


@pytest.mark.beside("tests.endtoend.soak", SOAK_S)
def test_a_receiver_that_runs_for_long_grows_in_nothing(printed: str) -> None:
    seen: list[tuple[int, int]] = json.loads(printed)
    warm = seen[len(seen) // 4 :]  # caches and pools have filled
    third = len(warm) // 3
    first, last = warm[:third], warm[-third:]
    print(f"{len(seen)} studies, {seen[0]}, {first[0]} .. {last[-1]}")
    assert median(files for _, files in last) <= median(files for _, files in first) + 1
    growth = median(size for size, _ in last) - median(size for size, _ in first)
    assert growth < MOST_GROWTH_BYTES, f"{growth} bytes over {len(warm)} studies"
