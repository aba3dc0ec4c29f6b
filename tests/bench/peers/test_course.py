from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from tests.bench.peers.course import Piece, judge
from tests.bench.peers.scans import small_scan

if TYPE_CHECKING:
    from pathlib import Path


def test_the_roi_is_exact_with_its_last_plane_and_the_whole_with_the_last_of_all(
    tmp_path: Path,
) -> None:
    scan = small_scan(tmp_path)
    pieces = [Piece(1.0 + z, 100, {z: plane}) for z, plane in enumerate(scan.voxels)]
    outcome = judge("anyone", scan, reversed(pieces))
    assert (outcome.roi_exact_s, outcome.whole_exact_s) == (7.0, 12.0)
    assert outcome.first_whole_s == 12.0
    assert outcome.size_bytes == 1200
    assert [point.size_bytes for point in outcome.points] == [100 * n for n in range(1, 13)]
    assert outcome.points[-1].whole_db == inf


def test_empty_planes_are_not_exact_before_they_have_come(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    scan.voxels[0] = scan.voxels[11] = 0
    pieces = [Piece(float(z), 1, {z: scan.voxels[z]}) for z in range(11)]
    outcome = judge("anyone", scan, pieces)
    assert outcome.whole_exact_s is None
    assert outcome.points[-1].whole_db == 99.0
    assert judge("anyone", scan, [*pieces, Piece(20.0, 1, {11: scan.voxels[11]})]).whole_exact_s


def test_a_coarse_picture_counts_when_all_of_it_is_there_and_is_good_enough(
    tmp_path: Path,
) -> None:
    scan = small_scan(tmp_path)
    off_by = int(scan.value_range * 10 ** (-31 / 20))  # 31 dB
    coarse = scan.voxels + off_by
    first = [Piece(1.0 + z, 10, {z: plane}) for z, plane in enumerate(coarse)]
    then = [Piece(20.0 + z, 10, {z: plane}) for z, plane in enumerate(scan.voxels)]
    outcome = judge("anyone", scan, first + then)
    assert outcome.first_whole_s == 12.0
    assert outcome.whole_exact_s == 31.0
    too_coarse = scan.voxels + 2 * off_by
    pieces = [Piece(1.0, 10, dict(enumerate(too_coarse)))]
    assert judge("anyone", scan, pieces).first_whole_s is None


def test_one_voxel_off_is_not_exact(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    wrong = scan.voxels.copy()
    wrong[5, 25, 15] += 1
    outcome = judge("anyone", scan, [Piece(1.0, 10, dict(enumerate(wrong)))])
    assert outcome.first_whole_s == 1.0
    assert outcome.roi_exact_s is None
    assert outcome.whole_exact_s is None


def test_nothing_that_came_is_an_outcome_too(tmp_path: Path) -> None:
    outcome = judge("anyone", small_scan(tmp_path), [])
    assert (outcome.size_bytes, outcome.points, outcome.first_whole_s) == (0, [], None)


def test_planes_of_any_type_are_compared_by_value(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    planes = dict(enumerate(scan.voxels.astype(np.uint16)))
    assert judge("anyone", scan, [Piece(1.0, 1, planes)]).whole_exact_s == 1.0
