from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from sender.segment.base import Segmentation
from sender.segment.grow import Marks, rois_of
from sender.segment.mask import MaskSegmenter
from sender.write.rois import check_roi_out, write_rois
from shared.errors import SettingsError
from tests.sender.segment.test_mask import marked_by
from tests.sender.segment.volumes import OBLIQUE, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from shared.volume import Volume

SHAPE = (6, 8, 10)
CORE, EDGE = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)
CORE[2, 3:5, 3:5] = True
EDGE[1:4, 2:6, 2:7] = True


def found(volume: Volume) -> tuple[Volume, Segmentation]:
    grown = rois_of([Marks("core", CORE), Marks("edge", EDGE)], (0, 0, 0))
    return volume, Segmentation(grown.rois, "Two ranks.", "mask")


def scan() -> Volume:
    return volume_of(np.arange(480, dtype=np.int16).reshape(SHAPE), affine=OBLIQUE)


@pytest.mark.parametrize("name", ["roi.nii", "roi.nii.gz"])
def test_a_label_map_holds_the_ranks_where_the_series_lies(tmp_path: Path, name: str) -> None:
    (path,) = write_rois(tmp_path / name, [found(scan())])
    image = nibabel.nifti1.Nifti1Image.from_filename(path)
    labels = np.asarray(image.dataobj).T
    np.testing.assert_array_equal(labels == 1, CORE)
    np.testing.assert_array_equal(labels == 2, EDGE & ~CORE)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("name", ["roi.nii.gz", "roi.dcm"])
def test_what_was_written_is_the_same_roi_when_it_is_supplied(tmp_path: Path, name: str) -> None:
    (path,) = write_rois(tmp_path / name, [found(scan())])
    (answer,) = MaskSegmenter(path, margin_voxels=0).segment(scan())
    np.testing.assert_array_equal(marked_by(answer.rois, SHAPE), EDGE)


def test_a_name_without_a_kind_gets_both_and_later_series_their_number(tmp_path: Path) -> None:
    nothing = (scan(), Segmentation((), "None.", "mask"))
    written = write_rois(tmp_path / "roi", [found(scan()), nothing, found(scan())])
    names = [path.name for path in written]
    assert names == ["roi.nii.gz", "roi.dcm", "roi-3.nii.gz", "roi-3.dcm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_no_roi_is_an_empty_map_and_not_no_file(tmp_path: Path) -> None:
    nothing = (scan(), Segmentation((), "No lesion found.", "unet"))
    for name in ("roi.nii", "roi.dcm"):
        (path,) = write_rois(tmp_path / name, [nothing])
        (answer,) = MaskSegmenter(path).segment(scan())
        assert answer.rois == ()


def test_where_nothing_can_be_put_is_refused(tmp_path: Path) -> None:
    assert check_roi_out(tmp_path / "roi.nii") == tmp_path / "roi.nii"
    for path in (tmp_path, tmp_path / "none" / "roi.nii"):
        with pytest.raises(SettingsError, match="--roi-out"):
            check_roi_out(path)
