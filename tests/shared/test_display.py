from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from shared.display import BarDisplay, PlainDisplay, Progress, open_display

HALF = Progress(
    stage="tissue_exact",
    roi_fraction=1.0,
    whole_fraction=0.5,
    rate_bps=1.25e6,
    roi_eta_s=0.0,
    whole_eta_s=83.4,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def without_colours(text: str) -> str:
    """What a terminal would show, line by line, over and over."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_a_terminal_gets_bars_and_anything_else_lines() -> None:
    assert isinstance(open_display(stream=Terminal()), BarDisplay)
    assert isinstance(open_display(stream=io.StringIO()), PlainDisplay)
    assert isinstance(open_display(quiet=True, stream=Terminal()), PlainDisplay)


def test_output_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display() as display:
        display.say("here")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "here\n")


def test_a_line_says_where_things_stand() -> None:
    stream = io.StringIO()
    with PlainDisplay(stream) as display:
        display.show(HALF, 100.0)
        display.show(HALF, 106.0)
    assert stream.getvalue().splitlines()[-1] == (
        "tissue_exact: ROI 100% (exact), whole 50% (exact in 1:23), 1.25 Mbit/s"
    )


def test_lines_come_every_few_seconds_and_no_oftener() -> None:
    stream = io.StringIO()
    with PlainDisplay(stream) as display:
        for tick in range(300):
            display.show(HALF, 1000 + tick * 0.2)
    assert 10 <= len(stream.getvalue().splitlines()) <= 13  # 60 s


def test_quiet_says_nothing_at_all() -> None:
    stream = Terminal()
    with open_display(quiet=True, stream=stream) as display:
        display.say("a mark")
        display.show(HALF, 100.0)
        display.show(HALF, 200.0)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("eta_s", "words"),
    [
        (None, ""),
        (0.0, " (exact)"),
        (0.4, " (exact in 0:00)"),
        (59.6, " (exact in 1:00)"),
        (3725.0, " (exact in 62:05)"),
    ],
)
def test_times_to_come_are_minutes_and_seconds(eta_s: float | None, words: str) -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    for now_s in (100.0, 106.0):
        display.show(replace(HALF, whole_eta_s=eta_s), now_s)
    assert stream.getvalue().splitlines()[-1].endswith(f"whole 50%{words}, 1.25 Mbit/s")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["lines", "bars"])
def test_nothing_reads_100_percent_before_all_of_it_is_exact(stream: io.StringIO) -> None:
    nearly = replace(HALF, roi_fraction=0.9999, whole_fraction=0.996)
    with open_display(stream=stream) as display:
        display.show(nearly, 100.0)
        display.show(nearly, 106.0)
    shown = without_colours(stream.getvalue())
    assert re.search(r"99 ?%", shown)
    assert not re.search(r"100 ?%", shown)


@pytest.mark.parametrize("share", [0.0, 0.07, 0.29, 0.57, 0.58, 1.0])
def test_a_whole_percentage_is_shown_as_it_is(share: float) -> None:
    stream = Terminal()
    with open_display(stream=stream) as display:
        display.show(replace(HALF, roi_fraction=share), 100.0)
    assert f"{round(share * 100):>4} %" in without_colours(stream.getvalue())


def test_two_bars_show_roi_and_whole_with_rate_and_stage() -> None:
    stream = Terminal()
    with open_display(stream=stream) as display:
        display.say("connected [to] a clinic")
        display.show(HALF, 100.0)
    shown = without_colours(stream.getvalue())
    assert "connected [to] a clinic" in shown
    last = shown.rstrip().splitlines()[-2:]
    assert re.fullmatch(r"\s*ROI .* 100 % exact now\s*", last[0])
    assert re.fullmatch(r"whole .* 50 % exact in 1:23 1.25 Mbit/s  tissue_exact\s*", last[1])


def test_bars_that_are_not_up_show_nothing() -> None:
    stream = Terminal()
    display = BarDisplay(stream)
    display.say("too early")
    display.show(HALF, 100.0)
    display.__exit__(None, None, None)
    assert stream.getvalue() == ""
