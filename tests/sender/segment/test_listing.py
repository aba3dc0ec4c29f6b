from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from sender.cli import main
from sender.segment.listing import COLUMNS, list_boxes
from sender.segment.tissue import TissueRule, tissue_box
from shared.geometry import Box
from shared.roi import RoiRecord
from tests.sender.read.files import nifti
from tests.sender.segment.test_tissue import head, mammogram
from tests.sender.segment.volumes import read_scan

RULES = list(TissueRule)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def box_of(row: dict[str, str]) -> Box:
    z0, z1, y0, y1, x0, x1 = (int(row[name]) for name in COLUMNS[6:12])
    return Box((z0, y0, x0), (z1, y1, x1))


def test_a_file_has_a_row_for_each_rule_and_its_record(tmp_path: Path) -> None:
    (tmp_path / "head.nii").write_bytes(nifti(head()))
    assert list_boxes([tmp_path / "head.nii"], RULES, tmp_path / "boxes.csv") == 2
    found = rows(tmp_path / "boxes.csv")
    volume = read_scan(tmp_path / "head.nii")
    assert [row["rule"] for row in found] == ["paper", "code"]
    for row, rule in zip(found, RULES, strict=True):
        assert box_of(row) == tissue_box(volume, rule)
        assert RoiRecord.unpack(bytes.fromhex(row["record"])).box == box_of(row)
        assert float(row["share"]) == pytest.approx(box_of(row).voxels / head().size, abs=1e-6)


def test_a_folder_is_searched_and_what_is_damaged_hides_nothing(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    (scans / "deeper").mkdir(parents=True)
    (scans / "a.nii").write_bytes(nifti(head()))
    (scans / "b.nii").write_bytes(nifti(head())[:400])
    (scans / "notes.txt").write_text("nothing to see")
    (scans / "deeper" / "c.nii").write_bytes(nifti(np.zeros((3, 9, 9), np.int16)))
    assert list_boxes([scans], [TissueRule.PAPER], tmp_path / "boxes.csv") == 2
    one, broken, empty = rows(tmp_path / "boxes.csv")
    assert Path(one["source"]).name == "a.nii"
    assert broken["remark"]
    assert not broken["rule"]
    assert box_of(empty) == Box.whole((3, 9, 9))
    assert "whole volume" in empty["remark"]


def test_slices_of_one_series_are_one_volume_and_single_images_stay_apart(
    tmp_path: Path, scans: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for file in sorted((scans / "mr/dicom/brainix_flair").iterdir())[:9]:
        shutil.copy(file, folder)
    for name in ("xr/cr_monochrome1_j2k_lossless_RG3.dcm", "xr/mg_jpegll_12bit.dcm"):
        shutil.copy(scans / name, folder)
    list_boxes([folder], RULES, tmp_path / "boxes.csv")
    found = rows(tmp_path / "boxes.csv")
    sizes = {Path(row["source"]).name: row["slices"] for row in found}
    assert sizes["mixed"] == "9"
    assert sizes["mg_jpegll_12bit.dcm"] == "1"
    breast = [row for row in found if row["source"].endswith("mg_jpegll_12bit.dcm")]
    assert all(0.05 < float(row["share"]) < 0.95 for row in breast)


def test_the_command_lists_by_the_rule_of_roi_and_sends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "image.nii").write_bytes(nifti(mammogram(0)))
    target = tmp_path / "boxes.csv"
    arguments = [str(tmp_path / "image.nii"), "--roi-csv", str(target), "--roi", "tissue:code"]
    assert main(arguments) == 0
    assert "1 boxes" in capsys.readouterr().out
    (row,) = rows(target)
    assert box_of(row) == Box((0, 19, 0), (1, 43, 23))
    assert main([str(tmp_path), "--roi-csv", str(tmp_path / "none" / "boxes.csv")]) == 2
