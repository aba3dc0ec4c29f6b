from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from sender.segment.mask import MaskSegmenter
from sender.segment.supplied import open_supplied
from shared.errors import InputError
from tests.sender.segment.objects import FRAME, write_seg
from tests.sender.segment.test_mask import marked_by
from tests.sender.segment.volumes import OBLIQUE, read_scan, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.volume import Volume

SHAPE = (6, 8, 10)
ONE, TWO = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)
ONE[1:3, 2:5, 3:7] = True
TWO[2, 4:6, 6:9] = True
TWO[5, 0, 0] = True


def scan(affine: NDArray[np.float64] = OBLIQUE, frame: str = FRAME) -> Volume:
    volume = volume_of(np.zeros(SHAPE, np.int16), affine=affine, label="MR FLAIR")
    identity = (("FrameOfReferenceUID", frame),) if frame else ()
    return replace(volume, header=replace(volume.header, identity=identity))


@pytest.mark.parametrize("empty", [True, False])
def test_segments_lie_where_their_frames_do_though_empty_ones_are_left_out(
    tmp_path: Path, empty: bool
) -> None:
    path = write_seg(tmp_path / "seg.dcm", {1: ONE, 2: TWO}, OBLIQUE, empty=empty)
    source = open_supplied(path)
    assert source.native(scan().header) == empty
    drawn = source.drawn_on(scan().header, None)
    np.testing.assert_array_equal(drawn.marked, ONE | TWO)
    np.testing.assert_array_equal(source.drawn_on(scan().header, frozenset({2})).marked, TWO)
    assert source.names == {1: "segment 1", 2: "segment 2"}


def test_it_is_an_roi_like_any_mask(tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", {1: ONE}, OBLIQUE)
    (answer,) = MaskSegmenter(path, margin_voxels=0).segment(scan())
    np.testing.assert_array_equal(marked_by(answer.rois, SHAPE), ONE)


def test_another_frame_of_reference_is_refused_by_name(tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", {1: ONE}, OBLIQUE, empty=True)
    misfit = MaskSegmenter(path).misfit(scan(frame="9.8.7").header)
    assert misfit is not None
    assert misfit.why == "in frame of reference 1.2.3.4, MR FLAIR is in 9.8.7"
    assert MaskSegmenter(path).misfit(scan(frame="").header) is None


def test_segments_on_a_finer_grid_of_the_frame_are_resampled(tmp_path: Path) -> None:
    finer = OBLIQUE.copy()
    finer[:3, :2] /= 2
    finer[:3, 3] -= finer[:3, :2].sum(axis=1) / 2
    marked = ONE.repeat(2, axis=1).repeat(2, axis=2)
    path = write_seg(tmp_path / "seg.dcm", {1: marked}, finer)
    drawn = open_supplied(path).drawn_on(scan().header, None)
    assert drawn.resampled
    np.testing.assert_array_equal(drawn.marked, ONE)


def test_uneven_frames_are_refused(tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", {1: ONE | TWO}, OBLIQUE)
    data_set = dcmread(path)
    data_set.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 50
    place = data_set.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(v) + d for v, d in zip(
        place.ImagePositionPatient, OBLIQUE[:3, 2] * 0.4 * (-1, -1, 1), strict=True)]  # fmt: skip
    data_set.save_as(path)
    with pytest.raises(InputError, match="not evenly spaced"):
        open_supplied(path)


@pytest.mark.parametrize(
    "keyword",
    [
        "Rows",
        "NumberOfFrames",
        "PerFrameFunctionalGroupsSequence",
        "SharedFunctionalGroupsSequence",
    ],
)
def test_a_damaged_object_is_refused(tmp_path: Path, keyword: str) -> None:
    path = write_seg(tmp_path / "seg.dcm", {1: ONE}, OBLIQUE)
    data_set = dcmread(path)
    delattr(data_set, keyword)
    data_set.save_as(path)
    with pytest.raises(InputError, match="damaged"):
        open_supplied(path)


def test_an_image_is_no_mask(scans: Path) -> None:
    with pytest.raises(InputError, match="a Segmentation or an RT Structure Set expected"):
        open_supplied(next((scans / "mr/dicom/brainix_flair").iterdir()))


def test_a_real_segmentation_lies_on_its_scan(scans: Path) -> None:
    volume = read_scan(scans / "ct/dicom/ge_abdomen_3slice")
    source = open_supplied(scans / "ct/dicom/ge_abdomen_3slice_SEG_liver.dcm")
    assert source.misfit(volume.header) is None
    drawn = source.drawn_on(volume.header, None)
    other = open_supplied(scans / "ct/dicom/ge_abdomen_3slice_liver_seg.nrrd")
    same = other.drawn_on(volume.header, None)
    assert drawn.marked.sum() > 10_000
    np.testing.assert_array_equal(drawn.marked, same.marked)
    real = volume.voxels[drawn.marked].mean()
    assert 0 < real < 1300  # liver, in stored values of this scan, is no air
