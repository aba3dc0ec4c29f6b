from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import trace as trace_module
from shared.errors import SettingsError
from shared.trace import OPPORTUNITY_BYTES, Trace, TracedBottleneck, read_trace

if TYPE_CHECKING:
    from pathlib import Path

BURSTS = Trace((0, 10, 10, 30))
"""A round of 30 ms with two opportunities at its 10th."""


def test_a_trace_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "hand-made.up"
    path.write_bytes(b"0\r\n7\n7\n1000")
    trace = read_trace(path)
    assert trace.times_ms == (0, 7, 7, 1000)
    assert trace.mean_bps == 4 * 1500 * 8


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "ends at 0 ms, expected it to last"),
        (b"0\n0\n", "ends at 0 ms, expected it to last"),
        (b"1\n\n2\n", "line 2: expected milliseconds as a whole number"),
        (b"5\n4\n", "line 2: expected milliseconds as a whole number, not before the line above"),
        (b"-1\n", "line 1: expected milliseconds"),
        (b"1.5\n", "line 1: expected milliseconds"),
        (b"1000000001\n", "line 1: expected milliseconds"),
        (b"9" * 5000, "line 1: expected milliseconds"),
        (b"\xff\xfe1\n", "line 1: expected milliseconds"),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "broken.up"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_trace(path)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_trace_that_is_missing_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the trace .*: No such file"):
        read_trace(tmp_path / "nowhere.up")
    with pytest.raises(SettingsError, match="cannot read the trace"):
        read_trace(tmp_path)
    monkeypatch.setattr(trace_module, "MAX_TRACE_BYTES", 8)
    (tmp_path / "large.up").write_text("1\n2\n3\n4\n5\n")
    with pytest.raises(SettingsError, match="too large"):
        read_trace(tmp_path / "large.up")


def test_opportunities_are_used_in_turn_and_round_after_round() -> None:
    bottleneck = TracedBottleneck(BURSTS, 0.0)
    times_ms = [round(bottleneck.send(0.0, OPPORTUNITY_BYTES) * 1000) for _ in range(9)]
    assert times_ms == [0, 10, 10, 30, 30, 40, 40, 60, 60]


def test_many_bytes_leave_as_fast_as_the_same_bytes_one_by_one() -> None:
    whole, parts = TracedBottleneck(BURSTS, 0.0), TracedBottleneck(BURSTS, 0.0)
    for _ in range(100):
        last_s = parts.send(0.0, 777)
    assert whole.send(0.0, 77_700) == last_s


def test_an_opportunity_that_finds_nothing_waiting_is_lost() -> None:
    bottleneck = TracedBottleneck(BURSTS, 5.0)
    assert bottleneck.send(5.0, 100) == 5.0
    assert bottleneck.send(5.0, 100) == 5.0  # shares the opportunity
    assert bottleneck.send(5.001, 100) == 5.01  # the rest of it is over
    assert bottleneck.send(5.011, 100) == 5.03
    assert bottleneck.send(9.001, 100) == pytest.approx(9.02)  # 4 s are 133 rounds and 10 ms


def test_the_backlog_falls_with_each_opportunity() -> None:
    bottleneck = TracedBottleneck(BURSTS, 0.0)
    bottleneck.send(0.0, 5 * OPPORTUNITY_BYTES)
    backlog = [bottleneck.backlog_bytes(ms / 1000) for ms in (0, 9, 10, 29, 30, 50)]
    assert backlog == [6000, 6000, 3000, 3000, 0, 0]


@given(
    times_ms=st.lists(st.integers(0, 500), min_size=1, max_size=20).filter(any).map(sorted),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=20),
    behind_bytes=st.integers(0, 20_000),
)
def test_when_it_is_drained_no_more_than_that_is_left(
    times_ms: list[int], sizes: list[int], behind_bytes: int
) -> None:
    bottleneck = TracedBottleneck(Trace(tuple(times_ms)), 0.0)
    for size_bytes in sizes:
        bottleneck.send(0.0, size_bytes)
    drained_s = max(0.0, bottleneck.drained_s(behind_bytes))
    assert bottleneck.backlog_bytes(drained_s) <= behind_bytes
    if drained_s > 0.001:
        assert bottleneck.backlog_bytes(drained_s - 0.0001) > behind_bytes


TRACES = {
    "ATT-LTE-driving-2016.up": (1.91, 4.1),
    "ATT-LTE-driving-2016.down": (4.56, 1.1),
    "ATT-LTE-driving.up": (0.83, 78.3),
    "TMobile-LTE-short.up": (13.32, 0.7),
    "TMobile-UMTS-driving.up": (0.94, 5.8),
    "Verizon-EVDO-driving.up": (0.84, 11.2),
    "Verizon-LTE-short.up": (5.95, 1.7),
}
"""Mean in Mbit/s and longest stall in s, as the README beside the traces has them."""


@pytest.mark.parametrize("name", TRACES)
def test_a_recorded_link_has_its_mean_rate_and_its_longest_stall(scans: Path, name: str) -> None:
    trace = read_trace(scans / "traces" / "mahimahi" / name)
    mean_mbps, stall_s = TRACES[name]
    assert trace.mean_bps / 1e6 == pytest.approx(mean_mbps, rel=0.01)
    bottleneck = TracedBottleneck(trace, 0.0)
    total_bytes, longest_s, last_s = 0, 0.0, 0.0
    while last_s < 2 * trace.times_ms[-1] / 1000:
        sent_s = bottleneck.send(last_s, OPPORTUNITY_BYTES)
        longest_s, last_s = max(longest_s, sent_s - last_s), sent_s
        total_bytes += OPPORTUNITY_BYTES
    assert longest_s == pytest.approx(stall_s, abs=0.1)
    assert total_bytes * 8 / last_s / 1e6 == pytest.approx(mean_mbps, rel=0.03)
