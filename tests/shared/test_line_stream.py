from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.line import Line
from shared.line_stream import RTO_MIN_S, LineStream
from shared.link import SEGMENT_BYTES, LinkProfile, parse_link

if TYPE_CHECKING:
    from pathlib import Path

THIN = LinkProfile("thin", rate_bps=1e6, rtt_s=0.1)
BROKEN = parse_link("rate=1M,rtt=100ms,outage=5s@1s")


def stream_over(profile: LinkProfile, seed: int = 0, start_s: float = 0.0) -> LineStream:
    return LineStream(Line(profile, seed, start_s=start_s))


def goodput(profile: LinkProfile, seed: int, *, packets: int = 60_000) -> float:
    """Of a sender that keeps the link full, as a part of the rate."""
    stream = stream_over(profile, seed)
    for _ in range(packets):
        end_s = stream.deliver(0.0, SEGMENT_BYTES)
    return packets * SEGMENT_BYTES * 8 / (end_s - profile.rtt_s / 2) / profile.rate_bps


def test_bytes_take_their_time_at_the_rate_and_half_a_round_trip() -> None:
    assert stream_over(THIN).deliver(5.0, 1250) == pytest.approx(5.0 + 0.01 + 0.05)


def test_bytes_wait_for_those_before_them() -> None:
    stream = stream_over(THIN)
    assert stream.deliver(0.0, 12_500) == pytest.approx(0.15)
    assert stream.deliver(0.0, 125) == pytest.approx(0.151)


def test_an_idle_link_owes_nothing() -> None:
    stream = stream_over(THIN)
    stream.deliver(0.0, 125_000)
    assert stream.deliver(10.0, 1250) == pytest.approx(10.06)


def test_a_lost_packet_costs_a_round_trip_and_its_bytes_again() -> None:
    # A seed whose first packet is lost once, at even odds.
    profile = LinkProfile("half", rate_bps=1e6, rtt_s=0.1, loss=0.5)
    packet_s = SEGMENT_BYTES * 8 / 1e6
    times_s = {
        round(stream_over(profile, seed).deliver(0.0, SEGMENT_BYTES), 9) for seed in range(60)
    }
    expected = {round(0.05 + packet_s + tries * (0.1 + packet_s), 9) for tries in range(20)}
    assert times_s < expected
    assert {round(0.05 + packet_s + tries * (0.1 + packet_s), 9) for tries in range(3)} < times_s


def test_everything_waits_behind_a_lost_packet() -> None:
    profile = LinkProfile("lossy", rate_bps=1e6, rtt_s=0.5, loss=0.01)
    stream = stream_over(profile, 3)
    arrivals_s = [stream.deliver(0.0, SEGMENT_BYTES) for _ in range(300)]
    stalls = [b - a for a, b in pairwise(arrivals_s) if b - a > 0.4]
    together = sum(b == a for a, b in pairwise(arrivals_s))
    assert stalls
    assert together >= len(stalls) * 0.4 * 1e6 / 8 / SEGMENT_BYTES / 2


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.1, 0.3])
def test_a_full_lossy_link_carries_its_rate_less_what_is_sent_again(loss: float) -> None:
    profile = LinkProfile("lossy", rate_bps=20e6, rtt_s=0.1, loss=loss)
    mean = sum(goodput(profile, seed) for seed in range(5)) / 5
    assert mean == pytest.approx(1 - loss, rel=0.02)


def test_losses_do_not_depend_on_how_many_packets_go_at_once() -> None:
    profile = LinkProfile("lossy", rate_bps=1e6, rtt_s=0.1, loss=0.02)
    single, batched = stream_over(profile, 7), stream_over(profile, 7)
    for _ in range(2000):
        single_s = single.deliver(0.0, SEGMENT_BYTES)
    for _ in range(200):
        batched_s = batched.deliver(0.0, 10 * SEGMENT_BYTES)
    assert single.backlog_bytes(0.0) == batched.backlog_bytes(0.0)
    assert abs(single_s - batched_s) <= 4 * profile.rtt_s


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    profile = LinkProfile("lossy", rate_bps=1e6, rtt_s=0.1, loss=0.05)

    def times_s(seed: int) -> list[float]:
        stream = stream_over(profile, seed)
        return [stream.deliver(index * 0.01, 2000) for index in range(500)]

    assert times_s(1) == times_s(1)
    assert times_s(1) != times_s(2)


@given(
    steps=st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 20_000)), max_size=60),
    loss=st.sampled_from([0.0, 0.02, 0.5]),
    seed=st.integers(0, 1000),
)
def test_bytes_arrive_in_order_and_never_before_light_would(
    steps: list[tuple[float, int]], loss: float, seed: int
) -> None:
    profile = LinkProfile("any", rate_bps=1e6, rtt_s=0.2, loss=loss)
    stream, now_s, last_s = stream_over(profile, seed), 0.0, -math.inf
    for pause_s, size_bytes in steps:
        now_s += pause_s
        arrives_s = stream.deliver(now_s, size_bytes)
        assert arrives_s >= last_s
        assert arrives_s >= now_s + 0.1 + size_bytes * 8 / 1e6 - 1e-9
        last_s = arrives_s


def test_a_traced_link_delivers_at_its_opportunities(tmp_path: Path) -> None:
    path = tmp_path / "slow.up"
    path.write_text("100\n200\n")
    stream = stream_over(parse_link(f"trace:{path},rtt=80ms"), start_s=50.0)
    arrivals_s = [stream.deliver(50.0, 1500) for _ in range(3)]
    assert arrivals_s == [pytest.approx(50 + due_s + 0.04) for due_s in (0.1, 0.2, 0.3)]


def tries_s(sent_s: float, wait_s: float) -> list[float]:
    """When a packet that was sent then is sent again: RFC 6298 doubles each time."""
    return [sent_s + wait_s * (2**tries - 1) for tries in range(1, 9)]


def test_what_an_outage_takes_arrives_with_the_first_try_behind_it() -> None:
    stream = stream_over(BROKEN)
    first_s = next(at_s for at_s in tries_s(3.0, 0.1 + RTO_MIN_S) if at_s >= 6.0)
    assert stream.deliver(3.0, 1250) == pytest.approx(first_s + 0.01 + 0.05)


def test_the_wait_counts_from_the_first_that_was_lost() -> None:
    stream = stream_over(BROKEN)
    arrives_s = [stream.deliver(now_s, 1250) for now_s in (0.999, 1.5, 2.0, 5.9)]
    first_s = next(at_s for at_s in tries_s(1.0, 0.1 + RTO_MIN_S) if at_s >= 6.0)
    assert arrives_s == [pytest.approx(first_s + 0.05 + 0.01 * place) for place in (1, 2, 3, 4)]


def test_a_stream_is_not_ready_before_it_has_sent_again() -> None:
    stream = stream_over(BROKEN)
    assert stream.ready_s(0.5) == 0.5
    arrives_s = stream.deliver(2.0, 1250)
    assert stream.ready_s(2.0) == pytest.approx(arrives_s - 0.06)
    assert stream.ready_s(arrives_s) == arrives_s


def test_a_stream_that_is_silent_in_an_outage_does_not_notice_it() -> None:
    stream = stream_over(BROKEN)
    assert stream.deliver(0.5, 1250) == pytest.approx(0.56)
    assert stream.ready_s(6.0) == 6.0
    assert stream.deliver(6.0, 1250) == pytest.approx(6.06)


def test_a_new_stream_does_not_wait_for_what_another_one_lost() -> None:
    line = Line(parse_link("rate=1M,rtt=100ms,outage=20s@1s"), 0)
    old, new = LineStream(line), LineStream(line)
    old_s = old.deliver(1.0, 30_000)
    assert old_s > 30
    assert new.open(21.0) == pytest.approx(21.05)
    assert new.deliver(21.1, 1250) == pytest.approx(21.16)


def test_a_connection_asked_for_in_an_outage_is_asked_for_again_after_1_2_4_s() -> None:
    for asked_s, answered_s in ((1.0, 8.0), (2.5, 9.5), (5.5, 6.5), (6.0, 6.0)):
        assert stream_over(BROKEN).open(asked_s) == pytest.approx(answered_s + 0.05)


def test_outages_behind_each_other_are_waited_out_one_by_one() -> None:
    stream = stream_over(parse_link("rate=1M,outage=1s@1s,outage=1s@2.1s,outage=1s@60s"))
    assert stream.deliver(1.0, 1250) == pytest.approx(1.0 + 0.2 * 15 + 0.01)
    assert stream.deliver(30.0, 1250) == pytest.approx(30.01)


def test_the_doubling_of_waits_ends_at_two_minutes() -> None:
    stream = stream_over(parse_link("rate=1M,outage=3600s@0s"))
    assert 3600 <= stream.deliver(0.0, 100) < 3720.1


@given(
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 40_000)), min_size=1, max_size=40),
    loss=st.sampled_from(["0%", "5%"]),
    seed=st.integers(0, 1000),
)
def test_nothing_arrives_out_of_order_or_in_an_outage(
    steps: list[tuple[float, int]], loss: str, seed: int
) -> None:
    text = f"rate=1M,rtt=0ms,loss={loss},outage=3s@2s,outage=1s@6s,outage=200ms@7.5s"
    stream, now_s, last_s = stream_over(parse_link(text), seed), 0.0, 0.0
    for pause_s, size_bytes in steps:
        now_s = max(now_s + pause_s, stream.ready_s(now_s + pause_s))
        arrives_s = stream.deliver(now_s, size_bytes)
        assert arrives_s >= max(last_s, now_s + size_bytes * 8 / 1e6 - 1e-9)
        assert not any(start < arrives_s < stop for start, stop in ((2, 5), (6, 7), (7.5, 7.7)))
        last_s = arrives_s


def test_jitter_and_reordering_make_a_stream_late_and_keep_it_in_order() -> None:
    for more in ("jitter=40ms", "reorder=20%"):
        stream = stream_over(parse_link(f"rate=10M,rtt=100ms,{more}"), 2)
        arrivals_s = [stream.deliver(n * 0.01, SEGMENT_BYTES) for n in range(500)]
        late_s = [at_s - n * 0.01 - 0.05 for n, at_s in enumerate(arrivals_s)]
        assert all(b >= a for a, b in pairwise(arrivals_s))
        assert min(late_s) < 0.006
        assert 0.008 < max(late_s) < 0.06
