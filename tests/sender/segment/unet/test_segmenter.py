from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.registry import segmenter_for
from sender.segment.unet.segmenter import NOTHING, UnetSegmenter
from shared.errors import SettingsError
from tests.contracts.segmenter import SegmenterContract
from tests.sender.segment.test_mask import marked_by
from tests.sender.segment.volumes import read_scan, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.volume import Volume

SHAPE = (40, 80, 64)


def head_with_a_lesion() -> tuple[Volume, NDArray[np.bool_]]:
    """Something like a FLAIR of a brain that was cut out, 2 mm, with one bright ball in it."""
    z, y, x = np.indices(SHAPE)
    away = ((z - 20) / 18) ** 2 + ((y - 40) / 36) ** 2 + ((x - 32) / 28) ** 2
    noise = np.random.default_rng(0).normal(0, 12, SHAPE)
    lesion = (z - 22) ** 2 + (y - 50) ** 2 + (x - 42) ** 2 < 7**2
    bright = np.where(away < 1, 300 + noise + 240 * lesion, 0)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    return volume_of(bright.astype(np.int16), affine=affine, modality="MR"), lesion & (away < 1)


class TestUnetSegmenter(SegmenterContract):
    @pytest.fixture
    def segmenter(self) -> UnetSegmenter:
        return UnetSegmenter.parse(None)

    @pytest.fixture
    def volume(self) -> Volume:
        return head_with_a_lesion()[0]

    def test_a_coarse_answer_comes_before_the_fine_one(
        self, segmenter: UnetSegmenter, volume: Volume
    ) -> None:
        assert len(list(segmenter.segment(volume))) == 2


def test_nothing_is_found_in_nothing_and_that_is_said() -> None:
    (answer,) = UnetSegmenter().segment(volume_of(np.zeros(SHAPE, np.int16)))
    assert answer.rois == ()
    assert answer.reason == NOTHING


def test_it_takes_nothing_behind_its_name_and_the_margin_is_the_users() -> None:
    with pytest.raises(SettingsError, match="--roi unet expected"):
        segmenter_for("unet:big")
    assert isinstance(segmenter_for("unet"), UnetSegmenter)


@pytest.mark.parametrize("name", ["brats2013_pat0001", "brats2013_pat0002"])
def test_a_tumour_that_nobody_learnt_from_is_in_the_roi(scans: Path, name: str) -> None:
    folder = scans / "tumour" / name
    volume = read_scan(folder / "Flair_subtrMeanDivStd.nii.gz")
    marked = read_scan(folder / "OTMultiClass.nii.gz").voxels > 0
    *_, answer = UnetSegmenter().segment(volume)
    held = marked_by(answer.rois, marked.shape)
    assert (held & marked).sum() > 0.95 * marked.sum()
    assert held.mean() < 0.06
    assert "ml" in answer.reason


def test_a_satellite_that_looks_like_the_lesion_beside_it_is_a_later_roi() -> None:
    volume, lesion = head_with_a_lesion()
    z, y, x = np.indices(SHAPE)
    satellite = (z - 22) ** 2 + (y - 50) ** 2 + (x - 22) ** 2 < 2**2
    volume.voxels[satellite] = 540
    *_, answer = UnetSegmenter().segment(volume)
    held = marked_by(answer.rois, SHAPE)
    assert held[satellite].all()
    assert held[lesion].all()
    assert {roi.label for roi in answer.rois} == {"lesion", "possible lesion"}


def test_neither_torch_nor_a_dicom_reader_is_needed_to_find_a_lesion(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from sender.segment.unet.segmenter import UnetSegmenter\n"
        "import onnxruntime\n"
        "print(sorted({'torch', 'onnx', 'safetensors', 'pydicom'} & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"
