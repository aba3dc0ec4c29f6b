from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from sender.segment.mask import MaskSegmenter
from sender.segment.ranks import Rank, Ranks
from sender.segment.rtstruct import fill
from sender.segment.supplied import open_supplied
from shared.errors import InputError
from tests.sender.segment.objects import write_rtstruct
from tests.sender.segment.test_dicom_seg import SHAPE, scan
from tests.sender.segment.volumes import OBLIQUE, volume_of

if TYPE_CHECKING:
    from pathlib import Path

Point = tuple[float, float, float]


def outline(
    z: float,
    *corners: tuple[float, float],
    affine: np.ndarray[tuple[int, int], np.dtype[np.float64]] = OBLIQUE,
) -> list[Point]:
    """(x, y) voxel corners on a slice as LPS points."""
    points = []
    for x, y in corners:
        place = affine @ (x, y, z, 1)
        points.append((-float(place[0]), -float(place[1]), float(place[2])))
    return points


def square(z: float, low: float, high: float) -> list[Point]:
    return outline(z, (low, low), (high, low), (high, high), (low, high))


def test_voxels_are_inside_where_their_centres_are(tmp_path: Path) -> None:
    path = write_rtstruct(
        tmp_path / "rt.dcm", {"lesion": [square(2, 2.6, 6.4), square(3, 2.6, 6.4)]}
    )
    source = open_supplied(path)
    assert source.native(scan().header)
    wanted = np.zeros(SHAPE, np.bool_)
    wanted[2:4, 3:7, 3:7] = True
    np.testing.assert_array_equal(source.drawn_on(scan().header, None).marked, wanted)


def test_a_contour_within_another_cuts_a_hole(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rt.dcm", {"ring": [square(2, 0.6, 6.4), square(2, 2.6, 4.4)]})
    marked = open_supplied(path).drawn_on(scan().header, None).marked
    assert marked[2].sum() == 36 - 4
    assert not marked[2, 3:5, 3:5].any()


def test_slices_between_contours_take_the_nearest(tmp_path: Path) -> None:
    path = write_rtstruct(
        tmp_path / "rt.dcm", {"sparse": [square(1, 1.6, 4.4), square(4, 0.6, 5.4)]}
    )
    marked = open_supplied(path).drawn_on(scan().header, None).marked
    assert [int(plane.sum()) for plane in marked] == [9, 9, 9, 25, 25, 25]


def test_rois_are_ranked_by_name(tmp_path: Path) -> None:
    path = write_rtstruct(
        tmp_path / "rt.dcm", {"GTV": [square(1, 0.6, 2.4)], "cord": [square(4, 0.6, 2.4)]}
    )
    ranks = Ranks((Rank("target", frozenset(), frozenset({"GTV"})),), None)
    (answer,) = MaskSegmenter(path, 0, ranks).segment(scan())
    assert [(roi.label, roi.box.start[0]) for roi in answer.rois] == [("target", 1)]


def test_another_frame_is_refused_and_a_series_that_lies_nowhere_too(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rt.dcm", {"lesion": [square(2, 2.6, 6.4)]})
    misfit = MaskSegmenter(path).misfit(scan(frame="9.9").header)
    assert misfit is not None
    assert "frame of reference" in misfit.why
    nowhere = volume_of(np.zeros(SHAPE, np.int16), affine=None)
    misfit = MaskSegmenter(path).misfit(nowhere.header)
    assert misfit is not None
    assert "does not say where it lies" in misfit.why


def test_contours_across_the_slices_or_outside_them_are_refused(tmp_path: Path) -> None:
    tilted = [point for z, at in ((0, 1), (3, 5), (3, 8)) for point in outline(z, (at, 5))]
    path = write_rtstruct(tmp_path / "a.dcm", {"tilted": [tilted]})
    with pytest.raises(InputError, match="across the slices"):
        open_supplied(path).drawn_on(scan().header, None)
    path = write_rtstruct(tmp_path / "b.dcm", {"far": [square(40, 2, 5)]})
    with pytest.raises(InputError, match="1 of 1 contours lie outside MR FLAIR"):
        open_supplied(path).drawn_on(scan().header, None)


def test_a_set_without_contours_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rt.dcm", {"nothing": []})
    with pytest.raises(InputError, match="no closed contour"):
        open_supplied(path)
    path = write_rtstruct(tmp_path / "rt.dcm", {"lesion": [square(2, 2.6, 6.4)]})
    data_set = dcmread(path)
    data_set.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0] * 10
    data_set.save_as(path)
    with pytest.raises(InputError, match="damaged"):
        open_supplied(path)


def test_filling_agrees_with_a_crossing_count_at_every_centre() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        corners = rng.uniform(-3, 14, (rng.integers(3, 9), 2))
        filled = fill(corners, (12, 11))
        for y in range(12):
            for x in range(11):
                crossed = 0
                for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                    if (y0 <= y) != (y1 <= y):
                        crossed += x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x
                assert filled[y, x] == bool(crossed % 2)
