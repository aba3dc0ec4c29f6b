from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import simulate, simulated
from tests.emulator.namespaces import missing_for_tun
from tests.simulate import main
from tests.simulated import Moment, Simulated

if TYPE_CHECKING:
    from pathlib import Path

LINK = "rate=1M,rtt=100ms"


def simulated_with(link: str, times_s: dict[str, float], **more: object) -> Simulated:
    sender = {"times_s": times_s, "course": [[1.0, 0.0, 0.0, 100], [2.0, 1.0, 0.5, 900]], **more}
    return Simulated("relay", link, 0, sender, {}, line_up_s=0.5)


def test_a_mark_shows_where_the_transfer_stood_at_the_next_look() -> None:
    moments = simulated_with(LINK, {"connected": 0.7, "roi_exact": 1.4}).moments()
    assert moments == [
        Moment(0.7, "connected", 100, 0.0, 0.0),
        Moment(1.4, "ROI exact", 900, 1.0, 0.5),
    ]


def test_events_of_the_line_stand_among_the_marks_in_the_senders_time() -> None:
    link = f"{LINK},outage=700ms@300ms,reset@1s,reset@60s"
    moments = simulated_with(link, {"roi_exact": 1.4}).moments()
    assert [(moment.at_s, moment.what) for moment in moments] == [
        (0.8, "the line goes away"),
        (1.4, "ROI exact"),
        (1.5, "the line is back"),
        (1.5, "the line resets"),
    ]


def test_a_preview_says_how_good_it_is() -> None:
    moments = simulated_with(LINK, {"roi_preview": 1.0}, psnr_db={"roi_preview": 40.66}).moments()
    assert moments[0].what == "ROI preview (40.7 dB)"


@pytest.mark.parametrize("mode", tuple(simulate.MODES))
def test_a_study_crosses_in_every_mode_and_leaves_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    if mode == "tun" and (reason := missing_for_tun()):
        pytest.skip(reason)
    link = "rate=4M,rtt=40ms,loss=0.5%"
    assert main(["--mode", mode, "--link", link, "--out", str(tmp_path), "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert f"{mode}, seed 3" in shown
    assert "ROI exact" in shown
    timeline = json.loads((tmp_path / "timeline.json").read_text())
    assert timeline["exact"] is True
    at_s = {moment["what"].partition(" (")[0]: moment["at_s"] for moment in timeline["moments"]}
    assert at_s["connected"] < at_s["ROI exact"] < at_s["whole exact"]
    for end in ("send", "recv"):
        assert json.loads((tmp_path / f"{end}.json").read_text())["exact"] is True


def test_a_seed_gives_the_same_course_each_time(tmp_path: Path) -> None:
    courses = []
    for seed in ("5", "5", "6"):
        out = ["--out", str(tmp_path), "--seed", seed, "--link", "rate=1M,rtt=100ms,loss=3%"]
        assert main(out) == 0
        courses.append(json.loads((tmp_path / "timeline.json").read_text())["moments"])
    assert courses[0] == courses[1] != courses[2]


def test_a_session_that_breaks_is_told_and_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = "rate=64k,rtt=100ms,outage=1s@500ms,reset@2s"
    code = main(["--link", link, "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    timeline = json.loads((tmp_path / "timeline.json").read_text())
    assert "the line goes away" in shown
    # A session that survives a reset ends exact; one that does not says why.
    assert (code == 0) == timeline["exact"]
    assert timeline["exact"] or "the line was cut" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--link", "5g"], "expected rate=1M"),
        (["--link", "rate=1M,outage=5s"], "expected a value as in outage=5s@10s"),
        (["--study", "nowhere.nii"], "nowhere.nii"),
        (["--roi", "box:1"], "box"),
    ],
)
def test_what_cannot_be_simulated_is_one_clear_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(arguments) in (2, 3)
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_without_root_a_tun_link_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulated, "missing_for_tun", lambda: "a TUN link needs root rights")
    assert main(["--mode", "tun"]) == 2
    assert "a TUN link needs root rights; MODE=relay needs none of it" in capsys.readouterr().err
