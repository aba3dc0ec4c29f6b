from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from shared import trace_csv
from shared.errors import SettingsError
from shared.link import parse_link
from shared.trace import read_trace
from shared.trace_csv import parse_bitrates

if TYPE_CHECKING:
    from pathlib import Path


def table(*kbps: object) -> bytes:
    rows = [f"2020.01.16_12.10.{second:02},{rate},7" for second, rate in enumerate(kbps)]
    return "\n".join(["Timestamp,DL_bitrate,UL_bitrate", *rows, ""]).encode()


def test_a_second_delivers_its_bits_evenly() -> None:
    assert list(parse_bitrates(table(48, 12), "a.csv")) == [250, 500, 750, 1000, 2000]


def test_bits_that_fill_no_packet_count_in_the_next_second() -> None:
    assert list(parse_bitrates(table(6, 6, 18), "a.csv")) == [2000, 2667]


def test_a_second_without_bits_is_a_stall() -> None:
    times_ms = list(parse_bitrates(table(120, 0, 0, 120), "a.csv"))
    assert max(b - a for a, b in pairwise(times_ms)) == 2100
    assert len(times_ms) == 20


def test_a_link_is_made_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "drive.csv"
    path.write_bytes(table(1000, 3000))
    profile = parse_link(f"trace:{path},rtt=50ms")
    assert profile.rate_bps == pytest.approx(2e6, rel=0.01)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected a column DL_bitrate"),
        (b"Timestamp,rate\n1,2\n", "expected a column DL_bitrate"),
        (table(12, "fast"), "line 3: expected a bitrate in kbit/s as a whole number, got 'fast'"),
        (table("-12"), "line 2: expected a bitrate"),
        (table("1.5"), "line 2: expected a bitrate"),
        (table("9" * 400), "line 2: expected a bitrate"),
        (table(999_999_999), "line 2: expected up to 100000000 kbit/s"),
        (b"DL_bitrate,x\n\n", "line 2: expected a bitrate in kbit/s as a whole number, got ''"),
        (table(0, 0, 0), "delivers nothing"),
        (table(11), "delivers nothing"),
        (table(), "delivers nothing"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(content: bytes, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_bitrates(content, "a.csv")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_table_that_delivers_too_much_is_refused_before_it_is_unrolled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace_csv, "MAX_OPPORTUNITIES", 1000)
    with pytest.raises(SettingsError, match="delivers too much"):
        parse_bitrates(table(100_000_000), "a.csv")


RECORDED = {
    "B_2019.12.16_11.49.59.csv": (7.13, 6),
    "B_2020.02.14_12.58.17.csv": (4.45, 20),
    "B_2020.02.27_17.30.15.csv": (2.89, 8),
}
"""Mean in Mbit/s and longest stall in whole seconds, as the README beside the tables has them."""


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_table_has_its_mean_rate_and_its_longest_stall(scans: Path, name: str) -> None:
    trace = read_trace(scans / "traces" / "uccmisl-5g" / name)
    mean_mbps, stall_s = RECORDED[name]
    assert trace.mean_bps / 1e6 == pytest.approx(mean_mbps, rel=0.01)
    per_second = [0] * (trace.times_ms[-1] // 1000 + 1)
    for time_ms in trace.times_ms:
        per_second[(time_ms - 1) // 1000] += 12_000
    stalls = "".join("." if bits < 48_000 else "x" for bits in per_second).split("x")
    assert max(map(len, stalls)) == pytest.approx(stall_s, abs=1)
