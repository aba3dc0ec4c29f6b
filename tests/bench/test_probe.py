from __future__ import annotations

import asyncio

import pytest

from shared.clock import LoopClock
from shared.link import parse_link
from shared.transports.simulated import simulated_pair
from tests.bench.probe import URGENT_BYTES, URGENT_EVERY_S, Tally, receive, send
from tests.virtual import run_virtual


def probed(link: str, seconds: float) -> Tally:
    async def main() -> Tally:
        tally = Tally()
        near, far = simulated_pair(parse_link(link), 0)
        async with asyncio.TaskGroup() as group:
            group.create_task(receive(far, tally, LoopClock()))
            await send(near, seconds, LoopClock())
            near.cut()
        return tally

    return run_virtual(main(), limit_s=10 * seconds)


def test_bulk_fills_the_line_and_the_urgent_is_not_kept_waiting() -> None:
    tally = probed("rate=1M,rtt=100ms", 20.0)
    assert 0.9 < tally.goodput_bps(3.0, 16.0) / 1e6 <= 1.0
    median_s, slow_s = (tally.urgent_s(share, 3.0) for share in (0.5, 0.9))
    assert median_s is not None
    assert slow_s is not None
    assert 0.05 + URGENT_BYTES * 8 / 1e6 < median_s <= slow_s < 0.25
    assert len(tally.urgent) == pytest.approx(20 / URGENT_EVERY_S, abs=2)


def test_a_tally_counts_spans_and_shares() -> None:
    tally = Tally(urgent=[(10.0 + n, 0.1 * n) for n in range(1, 11)])
    for at_s in (10.0, 10.01, 10.06, 11.5, 13.0):
        tally.note_bulk(at_s, 1000)
    assert [size for _, size in tally.bulk] == [2000, 1000, 1000, 1000]
    assert tally.goodput_bps(1.0, 2.0) == pytest.approx(1000 * 8 / 2)
    assert tally.urgent_s(0.5, 0.0) == pytest.approx(0.6)
    assert tally.urgent_s(0.5, 9.0) == pytest.approx(1.0)


def test_a_tally_of_nothing_is_no_error() -> None:
    assert Tally().goodput_bps(0.0, 1.0) == 0.0
    assert Tally().urgent_s(0.5, 0.0) is None
    assert Tally(bulk=[(0.0, 1)]).urgent_s(0.5, 0.0) is None
