from __future__ import annotations

from itertools import pairwise

import pytest

from shared.line import OVERTAKEN_PACKETS, Line
from shared.line_datagrams import LineDatagrams
from shared.link import parse_link

PACKET_S = 1500 * 8 / 1e6


def datagrams_over(link: str, seed: int = 0, start_s: float = 0.0) -> LineDatagrams:
    return LineDatagrams(Line(parse_link(link), seed, start_s=start_s))


def sent_one_by_one(line: LineDatagrams, count: int, every_s: float) -> list[tuple[float, ...]]:
    return [line.arrivals_s(number * every_s, 1500) for number in range(count)]


def test_a_datagram_takes_its_time_at_the_rate_and_half_a_round_trip() -> None:
    line = datagrams_over("rate=1M,rtt=100ms")
    assert list(line.arrivals_s(3.0, 1500)) == [pytest.approx(3.0 + PACKET_S + 0.05)]
    assert list(line.arrivals_s(3.0, 1500)) == [pytest.approx(3.0 + 2 * PACKET_S + 0.05)]
    assert line.fates.carried_bytes == 3000


def test_what_the_queue_has_no_room_for_is_dropped() -> None:
    line = datagrams_over("rate=1M,queue=6kB")
    arrived = [line.arrivals_s(0.0, 1500) for _ in range(9)]
    assert [len(times_s) for times_s in arrived] == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert line.fates.dropped == 5
    assert len(line.arrivals_s(PACKET_S, 1500)) == 1


def test_losses_come_as_often_as_asked_and_have_spent_their_time_on_the_line() -> None:
    line = datagrams_over("rate=1M,loss=5%", seed=1)
    arrived = sent_one_by_one(line, 4000, PACKET_S)
    assert line.fates.lost == pytest.approx(200, rel=0.25)
    assert line.fates.lost == sum(not times_s for times_s in arrived)
    busy = datagrams_over("rate=1M,loss=50%", seed=1)
    last_s = max(
        times_s[0] for times_s in (busy.arrivals_s(0.0, 1500) for _ in range(20)) if times_s
    )
    assert last_s > 15 * PACKET_S


def test_an_outage_silences_what_waits_and_what_comes() -> None:
    line = datagrams_over("rate=1M,outage=1s@1s", start_s=10.0)
    due_s = (10.98, 10.995, 11.5, 12.0)
    assert [len(line.arrivals_s(now_s, 1500)) for now_s in due_s] == [1, 0, 0, 1]
    assert line.fates.silenced == 2


def test_jitter_keeps_the_order() -> None:
    arrived = sent_one_by_one(datagrams_over("rate=10M,rtt=20ms,jitter=50ms"), 500, 0.002)
    times_s = [at_s for (at_s,) in arrived]
    assert all(a <= b for a, b in pairwise(times_s))
    late_s = [at_s - number * 0.002 - 0.0112 for number, at_s in enumerate(times_s)]
    assert min(late_s) >= -1e-9
    assert 0.03 < max(late_s) <= 0.05


def test_a_datagram_is_overtaken_by_a_few_at_most() -> None:
    line = datagrams_over("rate=1M,rtt=20ms,reorder=5%", seed=2)
    times_s = [at_s for (at_s,) in sent_one_by_one(line, 1000, PACKET_S)]
    overtakers = [
        sum(later_s < at_s for later_s in times_s[place + 1 : place + 40])
        for place, at_s in enumerate(times_s)
    ]
    assert sum(count > 0 for count in overtakers) == pytest.approx(50, rel=0.4)
    assert max(overtakers) in range(2, OVERTAKEN_PACKETS + 1)


def test_a_doubled_datagram_arrives_twice() -> None:
    line = datagrams_over("rate=1M,duplicate=20%", seed=2)
    arrived = sent_one_by_one(line, 500, PACKET_S)
    twice = [times_s for times_s in arrived if len(times_s) == 2]
    assert len(twice) == line.fates.doubled == pytest.approx(100, rel=0.3)
    assert all(first_s == second_s for first_s, second_s in twice)


def test_the_same_seed_gives_the_same_fates() -> None:
    link = "rate=1M,rtt=20ms,loss=3%,jitter=9ms,reorder=3%,duplicate=3%"
    first, again, other = (
        sent_one_by_one(datagrams_over(link, seed), 300, PACKET_S / 2) for seed in (4, 4, 5)
    )
    assert first == again
    assert first != other
