from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING

from tests.bench import latency, table
from tests.bench.__main__ import split
from tests.bench.compare import Compared
from tests.bench.latency import THIN, main
from tests.bench.peers.course import Outcome, Point
from tests.bench.peers.scans import small_scan

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RAW, NIFTI = "storescu, raw", "HTTPS, .nii.gz"


def compared(link: str, *outcomes: Outcome) -> Compared:
    report = {"times_s": {"roi_exact": 2.0, "connected": 1.0}, "bytes": {"roi_exact": 50_000}}
    own = Outcome("medroi", roi_exact_s=2.0, first_whole_s=1.5, whole_exact_s=9.0)
    return Compared(link, "tun", [own, *outcomes], [report] * 3)


def test_what_is_asked_over_the_thin_link_is_met_or_missed() -> None:
    slow, late = (
        Outcome(RAW, roi_exact_s=80.0, whole_exact_s=seconds) for seconds in (150.0, 99.0)
    )
    told, good, roi = latency._rows(compared(THIN, slow))
    assert (told.got, told.good) == ("40.0 x", None)
    assert (good.got, good.good) == ("75.0 x", True)
    # 50 kB and four round trips are 0.8 s of the link; a second was taken.
    assert (roi.got, roi.good) == ("1.25 (1.25..1.25)", True)
    _, bad, _ = latency._rows(compared(THIN, late))
    assert bad.good is False


def test_over_other_links_figures_are_only_told() -> None:
    (row,) = latency._rows(compared("lte", Outcome(RAW, roi_exact_s=10.0)))
    assert (row.got, row.good) == ("5.0 x", None)


def test_a_peer_that_is_missing_is_named_in_rows_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Outcome("STOW-RS to Orthanc, raw", note="left out: Orthanc is not on this machine")
    found = compared("lte", absent)
    (row,) = latency._rows(found)
    assert row.got == "left out: Orthanc is not on this machine"
    latency.print_table(found, tmp_path / "head.nii")
    assert "left out: Orthanc is not on this machine" in capsys.readouterr().out


def test_a_report_names_no_path_of_the_machine() -> None:
    link = "trace:/home/somebody/data/LTE.up,rtt=100ms"
    assert latency._short(link) == "trace:LTE.up,rtt=100ms"
    assert latency._file_name(link) == "trace-LTE.up-rtt-100ms"


def test_a_course_is_thinned_to_a_few_hundred_points_and_keeps_its_last() -> None:
    points = [Point(float(n), n, 10.0, 10.0) for n in range(1000)] + [Point(1000.0, 1, inf, inf)]
    content = latency._outcome_content(Outcome("anyone", points=points))
    kept = content["points"]
    assert isinstance(kept, list)
    assert len(kept) <= 300
    assert kept[-1] == [1000.0, 1, 999.0, 999.0]


def test_the_command_compares_and_leaves_table_json_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "ROOT", tmp_path)
    scan = small_scan(tmp_path)
    study = ["--study", str(scan.path), "--roi", "box:4:7,20:40,10:30"]
    link = "rate=8M,rtt=20ms"
    how = ["--link", link, "--runs", "1", "--main-job-runs", "0", "--only", "JPEG XL"]
    assert main([*study, *how]) == 0
    assert "medroi" in capsys.readouterr().out
    folder = tmp_path / "out" / "bench"
    content = json.loads((folder / "latency.json").read_text())
    own, other = content["links"][0]["outcomes"]
    assert own["name"] == "medroi"
    assert 0 < own["roi_exact_s"] <= own["whole_exact_s"]
    assert own["points"][-1][2:] == [999.0, 999.0]
    assert other["whole_exact_s"] or other["note"]
    assert (folder / "latency-rate-8M-rtt-20ms.png").stat().st_size > 10_000


def test_benchmarks_are_told_apart_by_commas() -> None:
    words = ["latency", "--all,", "goodput", "--all", "--outages,", "window,", "memory"]
    assert split(words) == [
        ["latency", "--all"],
        ["goodput", "--all", "--outages"],
        ["window"],
        ["memory"],
    ]
    assert split(["window"]) == [["window"]]
