from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from sender.segment.base import Segmentation
from sender.segment.grow import Marks, rois_of
from sender.segment.mask import MaskSegmenter
from sender.segment.supplied import open_supplied
from sender.write.seg import seg_of
from tests.sender.segment.volumes import read_scan, volume_of
from tests.sender.write.test_rois import CORE, EDGE, SHAPE, found, scan

if TYPE_CHECKING:
    from pathlib import Path

    from shared.volume import Volume


def saved(path: Path, volume: Volume, segmentation: Segmentation) -> Path:
    path.write_bytes(seg_of(segmentation, volume))
    return path


@pytest.fixture(scope="module")
def flair(scans: Path) -> tuple[Volume, Segmentation]:
    """A DICOM series and the ROIs of the mask that was drawn on it."""
    volume = read_scan(scans / "mr/dicom/brainix_flair")
    mask = scans / "mr/dicom/brainix_flair_tumour_mask.nii.gz"
    (answer,) = MaskSegmenter(mask).segment(volume)
    return volume, answer


def test_an_independent_reader_finds_the_segments_where_they_are(
    tmp_path: Path, flair: tuple[Volume, Segmentation]
) -> None:
    volume, answer = flair
    path = saved(tmp_path / "seg.dcm", volume, answer)
    read = highdicom.seg.segread(path)
    assert read.number_of_segments == len(answer.rois)
    assert read.get_segment_description(1).segment_label == "lesion"
    assert read.FrameOfReferenceUID == volume.header.frame_of_reference
    space = read.get_volume(combine_segments=True, relabel=True)
    drawn = open_supplied(path).drawn_on(volume.header, None)
    assert int((space.array > 0).sum()) == int(drawn.marked.sum())


def test_it_refers_to_the_images_that_it_derives_from(
    tmp_path: Path, flair: tuple[Volume, Segmentation]
) -> None:
    volume, answer = flair
    data_set = dcmread(saved(tmp_path / "seg.dcm", volume, answer))
    assert data_set.StudyInstanceUID == dict(volume.header.identity)["StudyInstanceUID"]
    instances = data_set.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(instances) == volume.header.shape[0]
    frame = data_set.PerFrameFunctionalGroupsSequence[0]
    z = frame.FrameContentSequence[0].DimensionIndexValues[1] - 1
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == instances[z].ReferencedSOPInstanceUID


def test_the_same_rois_make_the_same_bytes(flair: tuple[Volume, Segmentation]) -> None:
    volume, answer = flair
    assert seg_of(answer, volume) == seg_of(answer, volume)


def test_a_series_without_dicom_has_a_segmentation_too(tmp_path: Path) -> None:
    path = saved(tmp_path / "seg.dcm", *found(scan()))
    source = open_supplied(path)
    np.testing.assert_array_equal(source.drawn_on(scan().header, frozenset({1})).marked, CORE)
    np.testing.assert_array_equal(
        source.drawn_on(scan().header, frozenset({2})).marked, EDGE & ~CORE
    )
    assert highdicom.seg.segread(path).number_of_segments == 2


def test_many_rois_are_many_segments(tmp_path: Path) -> None:
    groups = []
    for z in range(6):
        marked = np.zeros(SHAPE, np.bool_)
        marked[z, z, :3] = True
        groups.append(Marks(f"lesion {z}", marked))
    rois = rois_of(groups, (0, 0, 0)).rois
    path = saved(tmp_path / "seg.dcm", scan(), Segmentation(rois, "Six.", "mask"))
    assert highdicom.seg.segread(path).number_of_segments == 6


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("source", ["dicom", "nifti"])
def test_the_validator_finds_no_error(
    tmp_path: Path, flair: tuple[Volume, Segmentation], source: str
) -> None:
    upright = volume_of(np.zeros(SHAPE, np.int16), affine=np.diag([-0.8, -0.8, 6.0, 1.0]))
    path = saved(tmp_path / "seg.dcm", *(flair if source == "dicom" else found(upright)))
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, timeout=60)
    lines = (run.stdout + run.stderr).decode("latin-1").splitlines()
    assert "Segmentation" in "".join(lines)
    assert [line for line in lines if line.startswith("Error")] == []
