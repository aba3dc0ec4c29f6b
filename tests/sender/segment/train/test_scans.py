from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from sender.segment.train.scans import FOLDS, SCANS, Kind, held_out_by, learnt_by, read_scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("fold", range(FOLDS))
def test_no_fold_learns_from_a_subject_that_it_is_tested_on(fold: int) -> None:
    learnt = {scan.subject for scan in learnt_by(fold)}
    tested = {scan.subject for scan in held_out_by(fold)}
    assert learnt
    assert tested
    assert not learnt & tested


def test_a_subject_stands_in_one_fold_with_all_of_its_scans() -> None:
    folds = defaultdict(set)
    for scan in SCANS:
        folds[scan.subject].add(scan.fold)
    assert all(len(each) == 1 for each in folds.values())


def test_every_brats_flair_is_held_out_by_one_fold() -> None:
    flairs = [scan for scan in SCANS if scan.kind is Kind.FLAIR]
    tested = [scan for fold in range(FOLDS) for scan in held_out_by(fold) if scan in flairs]
    assert sorted(scan.name for scan in tested) == sorted(scan.name for scan in flairs)


def test_non_commercial_scans_and_ms_never_enter_any_weights() -> None:
    for fold in (None, *range(FOLDS)):
        learnt = learnt_by(fold)
        assert not [scan for scan in learnt if scan.kind in (Kind.FOREIGN, Kind.MS)]
        assert not [scan for scan in learnt if "2013" in scan.image or "open_ms" in scan.image]
    assert any("brats2013" in scan.image for scan in SCANS)


def test_every_scan_is_there_and_its_labels_lie_on_it(scans: Path) -> None:
    for scan in SCANS:
        assert (scans / scan.image).exists()
        assert scan.labels is None or (scans / scan.labels).is_file()
    brainix = next(scan for scan in SCANS if scan.name == "brainix_flair")
    volume, marked = read_scan(brainix, scans)
    assert marked.shape == volume.voxels.shape
    assert 0 < marked.mean() < 0.02
