from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.line import OVERTAKEN_PACKETS, Line
from shared.link import LinkProfile, Outage, parse_link

THIN = LinkProfile("thin", rate_bps=1e6, rtt_s=0.1)
BROKEN = parse_link("rate=1M,rtt=100ms,outage=2s@1s,outage=1s@10s")


def test_bytes_leave_at_the_rate_behind_those_before_them() -> None:
    line = Line(THIN, 0)
    assert line.send(5.0, 1250) == pytest.approx(5.01)
    assert line.send(5.0, 12_500) == pytest.approx(5.11)
    assert line.send(5.0, 125) == pytest.approx(5.111)


def test_an_idle_line_owes_nothing() -> None:
    line = Line(THIN, 0)
    line.send(0.0, 125_000)
    assert line.send(10.0, 1250) == pytest.approx(10.01)


def test_the_backlog_drains_at_the_rate() -> None:
    line = Line(THIN, 0)
    line.send(0.0, 50_000)
    assert [line.backlog_bytes(now_s) for now_s in (0.0, 0.2, 0.4, 9.0)] == [50_000, 25_000, 0, 0]


def test_the_queue_is_ready_when_the_next_bytes_fit() -> None:
    line = Line(THIN, 0)  # its queue holds 30 kB
    assert line.ready_s(1.0) == 1.0
    line.send(1.0, 50_000)
    ready_s = line.ready_s(1.0, 10_000)
    assert ready_s == pytest.approx(1.24)
    assert line.backlog_bytes(ready_s) == 20_000


def test_what_is_larger_than_the_queue_waits_until_it_is_empty() -> None:
    line = Line(THIN, 0)
    line.send(0.0, 12_500)
    assert line.ready_s(0.0, 10**9) == pytest.approx(0.1)


@given(waits=st.lists(st.integers(1, 30_000), max_size=80), seed=st.integers(0, 100))
def test_a_caller_that_waits_keeps_the_backlog_in_the_queue(waits: list[int], seed: int) -> None:
    profile = LinkProfile("any", rate_bps=1e6, rtt_s=0.1)
    line, now_s, rng = Line(profile, seed), 0.0, Random(seed)
    for size_bytes in waits:
        now_s = line.ready_s(now_s + rng.random() * 0.01, size_bytes)
        line.send(now_s, size_bytes)
        assert line.backlog_bytes(now_s) <= profile.queue_limit_bytes + 1


def test_outages_count_from_when_the_line_came_up() -> None:
    line = Line(BROKEN, 0, start_s=100.0)
    assert line.outages == (Outage(101.0, 103.0), Outage(110.0, 111.0))
    times_s = (100.0, 100.99, 101.0, 102.99, 103.0, 110.5, 111.0)
    ends_s = [line.outage_end_s(now_s) for now_s in times_s]
    assert ends_s == [None, None, 103.0, 103.0, None, 111.0, None]


def test_an_outage_takes_what_comes_and_what_waits_and_nothing_else() -> None:
    line = Line(BROKEN, 0)
    assert line.send(0.985, 1250) == pytest.approx(0.995)  # has left
    assert line.send(0.99, 1250) is None  # still waits when it begins
    assert line.send(1.5, 1250) is None
    assert line.send(2.99, 1) is None
    assert line.send(3.0, 1250) == pytest.approx(3.01)


def test_after_an_outage_the_queue_is_empty() -> None:
    line = Line(BROKEN, 0)
    for _ in range(200):
        line.send(0.9, 5000)  # eight seconds of the line
    assert line.backlog_bytes(0.99) > 900_000
    assert line.backlog_bytes(1.5) == 0
    assert line.ready_s(3.0, 30_000) == 3.0
    assert line.send(3.0, 1250) == pytest.approx(3.01)


def test_an_outage_that_nobody_met_empties_the_queue_all_the_same() -> None:
    line = Line(parse_link("rate=1k,outage=1s@1s"), 0)
    line.send(0.0, 25)
    line.send(0.0, 2500)
    assert line.send(5.0, 125) == pytest.approx(6.0)


def test_losses_are_counted_over_calls_of_any_size() -> None:
    profile = LinkProfile("lossy", rate_bps=1e6, loss=0.02)
    single, batched = Line(profile, 7), Line(profile, 7)
    lost_at = [at for at in range(2000) if single.lost_behind(1) is not None]
    again: list[float] = []
    for batch in range(200):
        left, at = 10.0, batch * 10.0
        while (through := batched.lost_behind(left)) is not None:
            left, at = left - through, at + through
            # What was lost is sent again, and that is a packet of its own: the same one here.
            again.append(at)
    assert len(lost_at) == pytest.approx(2000 * 0.02, rel=0.3)
    assert again[0] == lost_at[0]


def test_a_delay_lies_between_half_the_round_trip_and_the_jitter_on_top() -> None:
    line = Line(parse_link("rate=1M,rtt=100ms,jitter=20ms"), 3)
    delays_s = [line.delay_s() for _ in range(2000)]
    assert 0.05 <= min(delays_s) < 0.051
    assert 0.069 < max(delays_s) <= 0.07
    assert sum(delays_s) / 2000 == pytest.approx(0.06, abs=0.001)


def test_the_slowest_of_many_packets_is_slower_than_one() -> None:
    line = Line(parse_link("rate=1M,rtt=100ms,jitter=20ms"), 3)
    slowest_s = [line.delay_s(9) for _ in range(2000)]
    assert sum(slowest_s) / 2000 == pytest.approx(0.05 + 0.02 * 9 / 10, abs=0.001)


def test_jitter_does_not_change_which_packets_are_lost() -> None:
    plain, unsteady = (
        Line(parse_link(f"rate=1M,loss=5%{more}"), 3) for more in ("", ",jitter=9ms,duplicate=9%")
    )
    for _ in range(500):
        unsteady.delay_s()
        unsteady.is_doubled()
        assert plain.lost_behind(1) == unsteady.lost_behind(1)


def test_packets_are_overtaken_and_doubled_as_often_as_asked() -> None:
    line = Line(parse_link("rate=1M,reorder=10%,duplicate=5%"), 0)
    late_s = [line.overtaken_s() for _ in range(5000)]
    assert sum(late > 0 for late in late_s) == pytest.approx(500, rel=0.15)
    assert min(late for late in late_s if late) >= 0.012
    assert max(late_s) <= 0.012 * OVERTAKEN_PACKETS
    assert sum(line.is_doubled() for _ in range(5000)) == pytest.approx(250, rel=0.2)


def test_a_plain_line_draws_no_chance() -> None:
    line = Line(THIN, 0)
    assert {line.delay_s() for _ in range(9)} == {0.05}
    assert {line.overtaken_s(100) for _ in range(9)} == {0.0}
    assert not any(line.is_doubled() for _ in range(9))
    assert line.lost_behind(10**9) is None


def test_a_sibling_is_empty_and_loses_nothing() -> None:
    line = Line(parse_link("rate=1M,loss=50%,outage=2s@1s"), 0, start_s=50.0)
    line.send(50.0, 100_000)
    alone = line.sibling()
    assert alone.send(50.0, 1250) == pytest.approx(50.01)
    assert alone.send(51.5, 1250) is None
    assert alone.lost_behind(10**9) is None
