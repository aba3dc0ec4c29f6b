from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsError
from shared.link import PRESETS, SEGMENT_BYTES, LinkModel, LinkProfile, parse_link

if TYPE_CHECKING:
    from pathlib import Path

THIN = LinkProfile("thin", rate_bps=1e6, rtt_s=0.1)


def goodput(profile: LinkProfile, seed: int, *, packets: int = 60_000) -> float:
    """Of a sender that keeps the link full, as a part of the rate."""
    model = LinkModel(profile, seed)
    for _ in range(packets):
        end_s = model.deliver(0.0, SEGMENT_BYTES)
    return packets * SEGMENT_BYTES * 8 / (end_s - profile.rtt_s / 2) / profile.rate_bps


def test_bytes_take_their_time_at_the_rate_and_half_a_round_trip() -> None:
    assert LinkModel(THIN, 0).deliver(5.0, 1250) == pytest.approx(5.0 + 0.01 + 0.05)


def test_bytes_wait_for_those_before_them() -> None:
    model = LinkModel(THIN, 0)
    assert model.deliver(0.0, 12_500) == pytest.approx(0.15)
    assert model.deliver(0.0, 125) == pytest.approx(0.151)


def test_an_idle_link_owes_nothing() -> None:
    model = LinkModel(THIN, 0)
    model.deliver(0.0, 125_000)
    assert model.deliver(10.0, 1250) == pytest.approx(10.06)


def test_the_backlog_drains_at_the_rate() -> None:
    model = LinkModel(THIN, 0)
    model.deliver(0.0, 50_000)
    assert [model.backlog_bytes(now_s) for now_s in (0.0, 0.2, 0.4, 9.0)] == [50_000, 25_000, 0, 0]


def test_the_queue_is_ready_when_the_next_bytes_fit() -> None:
    model = LinkModel(THIN, 0)  # its queue holds 30 kB
    assert model.ready_s(1.0) == 1.0
    model.deliver(1.0, 50_000)
    ready_s = model.ready_s(1.0, 10_000)
    assert ready_s == pytest.approx(1.24)
    assert model.backlog_bytes(ready_s) == 20_000


def test_what_is_larger_than_the_queue_waits_until_it_is_empty() -> None:
    model = LinkModel(THIN, 0)
    model.deliver(0.0, 12_500)
    assert model.ready_s(0.0, 10**9) == pytest.approx(0.1)


def test_the_default_queue_is_200_ms_and_at_least_30_kb() -> None:
    assert LinkProfile("fast", rate_bps=100e6).queue_limit_bytes == 2_500_000
    assert LinkProfile("slow", rate_bps=64e3).queue_limit_bytes == 30_000
    assert parse_link("rate=1M,queue=60kB").queue_limit_bytes == 60_000


def test_a_lost_packet_costs_a_round_trip_and_its_bytes_again() -> None:
    # A seed whose first packet is lost once, at even odds.
    profile = LinkProfile("half", rate_bps=1e6, rtt_s=0.1, loss=0.5)
    packet_s = SEGMENT_BYTES * 8 / 1e6
    times_s = {round(LinkModel(profile, seed).deliver(0.0, SEGMENT_BYTES), 9) for seed in range(60)}
    expected = {round(0.05 + packet_s + tries * (0.1 + packet_s), 9) for tries in range(20)}
    assert times_s < expected
    assert {round(0.05 + packet_s + tries * (0.1 + packet_s), 9) for tries in range(3)} < times_s


def test_everything_waits_behind_a_lost_packet() -> None:
    profile = LinkProfile("lossy", rate_bps=1e6, rtt_s=0.5, loss=0.01)
    model = LinkModel(profile, 3)
    arrivals_s = [model.deliver(0.0, SEGMENT_BYTES) for _ in range(300)]
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
    single, batched = LinkModel(profile, 7), LinkModel(profile, 7)
    for _ in range(2000):
        single_s = single.deliver(0.0, SEGMENT_BYTES)
    for _ in range(200):
        batched_s = batched.deliver(0.0, 10 * SEGMENT_BYTES)
    assert single.backlog_bytes(0.0) == batched.backlog_bytes(0.0)
    assert abs(single_s - batched_s) <= 4 * profile.rtt_s


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    profile = LinkProfile("lossy", rate_bps=1e6, rtt_s=0.1, loss=0.05)

    def times_s(seed: int) -> list[float]:
        model = LinkModel(profile, seed)
        return [model.deliver(index * 0.01, 2000) for index in range(500)]

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
    model, now_s, last_s = LinkModel(profile, seed), 0.0, -math.inf
    for pause_s, size_bytes in steps:
        now_s += pause_s
        arrives_s = model.deliver(now_s, size_bytes)
        assert arrives_s >= last_s
        assert arrives_s >= now_s + 0.1 + size_bytes * 8 / 1e6 - 1e-9
        last_s = arrives_s


@given(waits=st.lists(st.integers(1, 30_000), max_size=80), seed=st.integers(0, 100))
def test_a_caller_that_waits_keeps_the_backlog_in_the_queue(waits: list[int], seed: int) -> None:
    profile = LinkProfile("any", rate_bps=1e6, rtt_s=0.1)
    model, now_s, rng = LinkModel(profile, seed), 0.0, Random(seed)
    for size_bytes in waits:
        now_s = model.ready_s(now_s + rng.random() * 0.01, size_bytes)
        model.deliver(now_s, size_bytes)
        assert model.backlog_bytes(now_s) <= profile.queue_limit_bytes + 1


def test_a_link_is_read_from_its_options() -> None:
    profile = parse_link(" rate=1.5M, rtt=100ms ,loss=0.5% ")
    assert (profile.rate_bps, profile.rtt_s, profile.loss) == (1.5e6, 0.1, 0.005)
    assert profile.name == "rate=1.5M, rtt=100ms ,loss=0.5%"


@pytest.mark.parametrize(
    ("text", "rate_bps", "rtt_s"),
    [
        ("rate=64000", 64e3, 0),
        ("rate=64k,rtt=2s", 64e3, 2),
        ("rate=1G,rtt=0ms", 1e9, 0),
        ("rtt=0.25s,rate=2M", 2e6, 0.25),
        ("vsat-384k", 384e3, 0.715),
    ],
)
def test_suffixes_are_decimal(text: str, rate_bps: float, rtt_s: float) -> None:
    assert (parse_link(text).rate_bps, parse_link(text).rtt_s) == (rate_bps, rtt_s)


def test_a_preset_may_be_changed_in_part() -> None:
    profile = parse_link("3g,loss=2%,rate=1M")
    assert (profile.rate_bps, profile.rtt_s, profile.loss) == (1e6, PRESETS["3g"].rtt_s, 0.02)
    assert profile.name == "3g,loss=2%,rate=1M"


def test_every_preset_is_read_by_its_name() -> None:
    assert set(PRESETS) == {"vsat-384k", "2g", "3g", "lte", "leo", "dsl", "lan"}
    for name, profile in PRESETS.items():
        assert parse_link(name) == profile
        assert 1e3 <= profile.rate_bps <= 1e11
        assert 0 < profile.rtt_s < 1


def test_a_link_says_what_it_is() -> None:
    assert str(parse_link("3g,loss=1%")) == "3g,loss=1% (0.768 Mbit/s, 300 ms RTT, 1 % loss)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected rate=1M,rtt=100ms,loss=1%, trace:FILE or one of vsat-384k, 2g, 3g"),
        ("5g", "expected rate=1M,rtt=100ms,loss=1%, trace:FILE or one of vsat-384k, 2g, 3g"),
        ("rtt=100ms", "expected a rate, such as rate=1M"),
        ("rate=1M,", "expected each of rate=1M, rtt=100ms, loss=1%, queue=60kB at most once"),
        ("rate=1M,delay=3ms", "expected each of rate=1M, rtt=100ms"),
        ("rate=1M,lan", "expected each of rate=1M, rtt=100ms"),
        ("rate=1M,rate=2M", "expected each of rate=1M, rtt=100ms"),
        ("rate=", "expected a value as in rate=1M, got 'rate='"),
        ("rate=fast", "expected a value as in rate=1M, got 'rate=fast'"),
        ("rate=1m", "expected a value as in rate=1M"),
        ("rate=-1M", "expected a value as in rate=1M"),
        ("rate=1e6", "expected a value as in rate=1M"),
        ("rate=\u0661M", "expected a value as in rate=1M"),
        ("rate=1M,rtt=100", "expected a value as in rtt=100ms, got 'rtt=100'"),
        ("rate=1M,loss=0.01", "expected a value as in loss=1%, got 'loss=0.01'"),
        ("rate=1M,queue=60", "expected a value as in queue=60kB"),
        ("rate=0", "expected rate from 1k to 100G bit/s, got 'rate=0'"),
        ("rate=999G", "expected rate from 1k to 100G bit/s"),
        ("rate=1M,rtt=61s", "expected rtt from 0ms to 60s"),
        ("rate=1M,loss=100%", "expected loss from 0% to 90%"),
        ("rate=1M,queue=1B", "expected queue from 1500B to 1000MB"),
    ],
)
def test_what_is_no_link_is_answered_with_what_was_expected(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_link(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_takes_options_but_no_rate(tmp_path: Path) -> None:
    path = tmp_path / "steady.up"
    path.write_text("1\n2\n3\n4\n")
    profile = parse_link(f"trace:{path},rtt=80ms,loss=1%")
    assert (profile.rate_bps, profile.rtt_s, profile.loss) == (12e6, 0.08, 0.01)
    assert "traced, mean 12 Mbit/s" in str(profile)
    with pytest.raises(SettingsError, match="expected no rate beside a trace"):
        parse_link(f"trace:{path},rate=1M")


def test_a_traced_link_delivers_at_its_opportunities(tmp_path: Path) -> None:
    path = tmp_path / "slow.up"
    path.write_text("100\n200\n")
    model = LinkModel(parse_link(f"trace:{path},rtt=80ms"), 0, start_s=50.0)
    arrivals_s = [model.deliver(50.0, 1500) for _ in range(3)]
    assert arrivals_s == [pytest.approx(50 + due_s + 0.04) for due_s in (0.1, 0.2, 0.3)]
