from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.errors import SettingsError
from shared.link import MAX_EVENTS, PRESETS, LinkProfile, Outage, parse_link

if TYPE_CHECKING:
    from pathlib import Path


def test_the_default_queue_is_200_ms_and_at_least_30_kb() -> None:
    assert LinkProfile("fast", rate_bps=100e6).queue_limit_bytes == 2_500_000
    assert LinkProfile("slow", rate_bps=64e3).queue_limit_bytes == 30_000
    assert parse_link("rate=1M,queue=60kB").queue_limit_bytes == 60_000


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
        (
            "rate=1M,",
            "expected each of rate=1M, rtt=100ms, loss=1%, jitter=20ms, queue=60kB, reorder=1%, "
            "duplicate=1% at most once, outage=5s@10s or reset@20s, got ''",
        ),
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
        ("rate=1M,jitter=20", "expected a value as in jitter=20ms, got 'jitter=20'"),
        ("rate=1M,reorder=60%", "expected reorder from 0% to 50%"),
        ("rate=1M,duplicate=1", "expected a value as in duplicate=1%"),
        ("rate=1M,outage=5s", "expected a value as in outage=5s@10s, got 'outage=5s'"),
        ("rate=1M,outage=5@10s", "expected a value as in outage=5s@10s"),
        ("rate=1M,outage=@10s", "expected a value as in outage=5s@10s"),
        ("rate=1M,outage=0s@10s", "expected an outage from 1ms to 86400s"),
        ("rate=1M,outage=1s@-1s", "expected a value as in outage=5s@10s"),
        ("rate=1M,outage=1s@9999999s", "expected the moment from 0s to 604800s"),
        ("rate=1M,reset@", "expected a value as in outage=5s@10s, got 'reset@'"),
        ("rate=1M,reset=20s", "expected each of rate=1M"),
        ("rate=1M" + ",reset@1s" * (MAX_EVENTS + 1), "expected at most 64 outages and resets"),
        ("outage=5s@10s", "expected a rate, such as rate=1M"),
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


def test_what_befalls_a_link_is_read_in_order_and_as_often_as_it_is_named() -> None:
    profile = parse_link(
        "rate=1M,reset@20s,jitter=20ms,outage=5s@60s,outage=500ms@10s,reset@3s,reorder=1%,"
        "duplicate=0.5%"
    )
    assert profile.outages == (Outage(10.0, 10.5), Outage(60.0, 65.0))
    assert profile.resets_s == (3.0, 20.0)
    assert (profile.jitter_s, profile.reorder, profile.duplicate) == (0.02, 0.01, 0.005)


def test_outages_that_touch_are_one() -> None:
    profile = parse_link("3g,outage=2s@4s,outage=5s@1s,outage=1s@6s,outage=1s@2s,outage=1s@8s")
    assert profile.outages == (Outage(1.0, 7.0), Outage(8.0, 9.0))


def test_a_trace_may_have_outages(tmp_path: Path) -> None:
    path = tmp_path / "steady.up"
    path.write_text("1\n2\n")
    assert parse_link(f"trace:{path},outage=1s@0s").outages == (Outage(0.0, 1.0),)
