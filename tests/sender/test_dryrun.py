from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from sender.dryrun import dry_run
from sender.settings import Background, SendSettings
from sender.transfer import Transfer
from shared.errors import ExitCode, InputError, SettingsError
from tests.sender.read.files import nifti
from tests.sender.studies import brain

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE_4D = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
"""A real brain, 128 x 96 x 24, two volumes, with an extension."""


def transfer_of(
    *paths: Path,
    link: str = "",
    volume: int | None = None,
    series: int | None = None,
    settings: SendSettings | None = None,
) -> Transfer:
    return Transfer(
        paths=paths,
        url="",
        settings=settings or SendSettings(),
        link=link,
        series=series,
        volume=volume,
        report=None,
        quiet=False,
    )


def rows(text: str) -> list[dict[str, str]]:
    """The lines of the table."""
    found = re.finditer(
        r"^ +(?P<series>\d+)  (?P<stage>\w+) +(?P<codec>\w+) +(?P<layers>\d+) +"
        r"(?P<bytes>[\d,]+)  +(?P<after>-|[\d.]+ s)$",
        text,
        re.MULTILINE,
    )
    return [match.groupdict() for match in found]


def sizes(table: list[dict[str, str]]) -> list[int]:
    return [int(row["bytes"].replace(",", "")) for row in table]


@pytest.fixture
def head(tmp_path: Path) -> Path:
    path = tmp_path / "head.nii"
    path.write_bytes(nifti(brain()))
    return path


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[Transfer], str]:
    def run(transfer: Transfer) -> str:
        assert dry_run(transfer) is ExitCode.OK
        return capsys.readouterr().out

    return run


def test_a_real_scan_is_shown_stage_by_stage(printed: Callable[[Transfer], str]) -> None:
    text = printed(transfer_of(EXAMPLE_4D, link="rate=1M,rtt=100ms", volume=0))
    assert "example4d, volume 0: 128 x 96 x 24 int16" in text
    assert "ROI: MedROI's tissue box" in text
    table = rows(text)
    assert [row["stage"] for row in table] == [
        "roi_preview",
        "roi_exact",
        "whole_preview",
        "background_exact",
        "headers",
    ]
    assert [row["codec"] for row in table] == ["hevc", "jpegxl", "hevc", "jpegxl", "zstd"]
    assert f"{sum(sizes(table)):,}" in text.splitlines()[-2]
    assert text.splitlines()[-1] == "link: rate=1M,rtt=100ms (1 Mbit/s, 100 ms RTT, 0 % loss)"


def test_times_are_those_of_a_link_that_is_never_idle(
    printed: Callable[[Transfer], str],
) -> None:
    table = rows(printed(transfer_of(EXAMPLE_4D, link="rate=100k,rtt=400ms", volume=1)))
    greeted_s, way_s = 3 * 0.4, 0.2
    sent = 0
    for row, size in zip(table, sizes(table), strict=True):
        sent += size
        after_s = float(row["after"].removesuffix(" s"))
        least_s = greeted_s + way_s + sent * 8 / 100e3
        assert least_s - 0.006 <= after_s <= least_s * 1.01 + 0.01


def test_without_a_link_there_are_no_times(printed: Callable[[Transfer], str], head: Path) -> None:
    text = printed(transfer_of(head))
    assert {row["after"] for row in rows(text)} == {"-"}
    assert text.splitlines()[-1] == "name a --link to see times"


def test_two_series_stand_below_each_other_and_what_is_left_out_behind(
    printed: Callable[[Transfer], str], head: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.nii").write_bytes(nifti(brain((4, 16, 16), seed=3)))
    (tmp_path / "notes.txt").write_text("nothing to send")
    text = printed(transfer_of(tmp_path, settings=SendSettings(roi="none")))
    assert {row["series"] for row in rows(text)} == {"1", "2"}
    assert [row["stage"] for row in rows(text)][:2] == ["whole_preview", "tissue_exact"]
    assert f"left out: {tmp_path / 'notes.txt'}: neither DICOM nor NIfTI" in text


def test_the_boxes_of_the_roi_are_named(printed: Callable[[Transfer], str], head: Path) -> None:
    text = printed(transfer_of(head, settings=SendSettings(roi="box:2:4,3:9,5:20")))
    assert "  roi0 2:4,3:9,5:20 box" in text


def test_a_discarded_background_costs_nothing(
    printed: Callable[[Transfer], str], head: Path
) -> None:
    kept = rows(printed(transfer_of(head)))
    less = rows(printed(transfer_of(head, settings=SendSettings(background=Background.DISCARD))))
    assert "background_exact" in {row["stage"] for row in kept}
    assert "background_exact" not in {row["stage"] for row in less}


def test_what_cannot_be_sent_is_refused_as_in_earnest(head: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        dry_run(transfer_of(tmp_path / "nothing.nii"))
    with pytest.raises(InputError, match="name one with --volume"):
        dry_run(transfer_of(EXAMPLE_4D))
    with pytest.raises(SettingsError, match="link: expected"):
        dry_run(transfer_of(head, link="fast"))
    with pytest.raises(SettingsError, match="--series 2"):
        dry_run(transfer_of(head, series=2))


def test_a_volume_of_one_voxel_has_a_plan(
    printed: Callable[[Transfer], str], tmp_path: Path
) -> None:
    path = tmp_path / "voxel.nii"
    path.write_bytes(nifti(np.full((1, 1, 1), 7, "<i2")))
    assert [row["stage"] for row in rows(printed(transfer_of(path)))] == [
        "roi_preview",
        "roi_exact",
    ]
