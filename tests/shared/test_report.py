from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import pytest

from shared.errors import ExitCode
from shared.geometry import Box
from shared.report import (
    NO_ERROR_DB,
    TIMES,
    Report,
    RoiReport,
    SeriesReport,
    box_rows,
    decibels,
    dtype_name,
    times_of,
    total_bytes,
    write_report,
)
from shared.software import SOFTWARE

if TYPE_CHECKING:
    from pathlib import Path

SERIES = SeriesReport(
    label="MR T1",
    shape=[3, 4, 5],
    dtype="int16",
    exact=True,
    sha256="ab" * 32,
    roi=RoiReport([[[0, 1], [1, 2], [2, 4]]], 2, ["lesion"], "as asked"),
    remarks=["gantry tilt"],
    discarded_voxels=0,
    psnr_db={"roi_preview": 41.5},
    max_error={"roi_preview": None},
)
REPORT = Report(
    end="sender",
    outcome="stored",
    exit_code=int(ExitCode.OK),
    study="cd" * 32,
    exact=True,
    sha256="ab" * 32,
    bytes=total_bytes({"roi_exact": 10, "headers": 0}, 99),
    times_s=times_of({"connected": 0.123456, "roi_exact": 2.0, "made_up": 3.0}),
    link={"rate_bps": 1e6, "congestion": None},
    codecs={"roi_exact": "jpegxl"},
    series=[SERIES, replace(SERIES, label="MR T2", shape=[9, 9, 9])],
)


def test_a_report_is_json_of_version_1_that_names_the_software() -> None:
    content = json.loads(REPORT.as_json())
    assert (content["version"], content["software"]) == (1, SOFTWARE)
    assert content["end"] == "sender"
    assert content["exit_code"] == 0
    assert content["left_out"] == []
    assert [each["label"] for each in content["series"]] == ["MR T1", "MR T2"]


def test_the_first_series_stands_at_the_top_as_well() -> None:
    content = json.loads(REPORT.as_json())
    for name in ("shape", "dtype", "roi", "psnr_db"):
        assert content[name] == content["series"][0][name]


def test_what_is_not_known_is_null_and_never_left_out() -> None:
    empty = replace(
        REPORT,
        study=None,
        sha256=None,
        times_s=times_of({}),
        bytes=total_bytes({}, 0),
        series=[],
        codecs={},
    )
    content = json.loads(empty.as_json())
    assert set(json.loads(REPORT.as_json())) == set(content)
    for name in ("study", "sha256", "shape", "dtype", "roi", "psnr_db"):
        assert content[name] is None
    assert content["times_s"] == dict.fromkeys(TIMES)
    assert content["bytes"] == {"total": 0, "wire": 0}


def test_times_are_of_every_mark_a_report_names_and_no_other() -> None:
    times = times_of({"connected": 0.123456, "roi_exact": 2.0, "made_up": 3.0})
    assert tuple(times) == TIMES
    assert times["connected"] == 0.1235
    assert times["whole_exact"] is None


def test_bytes_are_summed_without_those_on_the_wire() -> None:
    assert total_bytes({"a": 3, "b": 4}, 50) == {"a": 3, "b": 4, "total": 7, "wire": 50}


def test_an_infinity_that_would_not_be_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        replace(REPORT, link={"rate_bps": inf}).as_json()


@pytest.mark.parametrize(("psnr_db", "said"), [(41.567, 41.57), (inf, NO_ERROR_DB), (-inf, None)])
def test_decibels_are_rounded_and_never_infinite(psnr_db: float, said: float | None) -> None:
    assert decibels(psnr_db) == said


@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
def test_a_type_is_named_without_its_byte_order(dtype: str) -> None:
    assert dtype_name(dtype) == "int16"
    assert dtype_name("|u1") == "uint8"
    assert dtype_name(">f4") == "float32"


def test_a_box_is_a_row_of_two_for_each_axis() -> None:
    assert box_rows(Box((0, 1, 2), (3, 4, 5))) == [[0, 3], [1, 4], [2, 5]]


def test_a_report_is_written_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("an older one")
    write_report(replace(REPORT, outcome="Größe"), path)
    assert json.loads(path.read_text())["outcome"] == "Größe"
    assert path.read_text().endswith("}\n")
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_said_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("an older one")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_report(replace(REPORT, link={"rate_bps": inf}), path)
    assert path.read_text() == "an older one"
