from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from sender.segment.grow import grow, reach_of
from sender.segment.mask import MaskSegmenter
from sender.segment.ranks import read_ranks
from shared.errors import InputError, SettingsError
from shared.geometry import Box
from shared.mask import unpack_mask
from shared.roi import Roi
from tests.contracts.segmenter import SegmenterContract
from tests.sender.segment.volumes import (
    OBLIQUE,
    ORIENTATIONS,
    read_scan,
    volume_of,
    write_labels,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.volume import Volume

MNI = np.diag([-0.8, 0.8, 6.0, 1.0])
LABELS = np.zeros((6, 8, 10), np.uint8)
LABELS[1:3, 2:5, 3:7] = 1
LABELS[2, 3, 4:6] = 4
LABELS[4, 7, 0] = 2
LESION = Roi(Box((1, 2, 3), (3, 5, 7)), "lesion", 0)
SPECK = Roi(Box((4, 7, 0), (5, 8, 1)), "lesion", 1)
"""Without a margin; the first fills its box."""


def marked_by(rois: tuple[Roi, ...], shape: tuple[int, ...] = LABELS.shape) -> NDArray[np.bool_]:
    """Which voxels ROIs hold."""
    found = np.zeros(shape, np.bool_)
    for roi in rois:
        part = unpack_mask(roi.mask, roi.box.shape)
        assert not (found[roi.box.slices] & part).any()
        found[roi.box.slices] |= part
    return found


def scan(affine: NDArray[Any] | None = OBLIQUE, label: str = "") -> Volume:
    return volume_of(np.zeros(LABELS.shape, np.int16), affine=affine, label=label)


class TestMaskSegmenter(SegmenterContract):
    @pytest.fixture
    def segmenter(self, tmp_path: Path) -> MaskSegmenter:
        return MaskSegmenter.parse(str(write_labels(tmp_path / "lesion.nii.gz", LABELS)))

    @pytest.fixture
    def volume(self) -> Volume:
        return scan()

    @pytest.fixture(params=["outside", "of another shape, nowhere", "nowhere"])
    def foreign(self, request: pytest.FixtureRequest) -> Volume:
        match request.param:
            case "outside":
                moved = scan(affine=MNI, label="MR T1")
                form = bytearray(348)
                form[0:4] = (348).to_bytes(4, "little")
                form[254:256] = (4).to_bytes(2, "little")
                return replace(moved, header=replace(moved.header, file_header=bytes(form)))
            case "of another shape, nowhere":
                return volume_of(np.zeros((6, 8, 11), np.int16), affine=None)
            case _:
                return scan(affine=None)

    def test_each_part_is_an_roi_the_largest_first(
        self, segmenter: MaskSegmenter, volume: Volume
    ) -> None:
        bare = replace(segmenter, margin_voxels=0)
        (answer,) = bare.segment(volume)
        assert answer.rois == (LESION, SPECK)
        assert answer.reason == "The mask marks 25 voxels in 2 parts: 2 ROIs, 5.2% of the volume."

    def test_a_margin_is_grown_around_what_is_marked(
        self, segmenter: MaskSegmenter, volume: Volume
    ) -> None:
        (answer,) = segmenter.segment(volume)
        held = marked_by(answer.rois)
        reach = reach_of(volume.header, 3)
        assert reach == (1, 3, 3)  # slices of 6 mm, pixels of 0.8
        assert np.array_equal(held, grow(LABELS > 0, reach))
        assert "with 3 voxels of margin" in answer.reason


def test_no_file_is_refused() -> None:
    for argument in (None, ""):
        with pytest.raises(SettingsError, match="no file is named"):
            MaskSegmenter.parse(argument)


def test_an_empty_mask_gives_no_roi_and_says_so(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "empty.nii", np.zeros(LABELS.shape, np.uint8))
    (answer,) = MaskSegmenter(path).segment(scan())
    assert answer.rois == ()
    assert "mask is empty" in answer.reason


def test_a_mask_in_any_of_48_orders_gives_the_same_rois(tmp_path: Path) -> None:
    make: Any = nibabel.nifti1.Nifti1Image
    image = make(LABELS.T, OBLIQUE)
    for number, orientation in enumerate(ORIENTATIONS):
        path = tmp_path / f"{number}.nii"
        image.as_reoriented(np.array(orientation, float)).to_filename(path)
        (answer,) = MaskSegmenter(path, margin_voxels=0).segment(scan())
        assert answer.rois == (LESION, SPECK)


def test_a_mask_off_by_a_hundredth_of_a_millimetre_is_resampled(tmp_path: Path) -> None:
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.01
    segmenter = MaskSegmenter(write_labels(tmp_path / "moved.nii", LABELS, moved), margin_voxels=0)
    assert segmenter.misfit(scan().header) is None
    assert not segmenter.native(scan().header)
    (answer,) = segmenter.segment(scan())
    assert answer.rois == (LESION, SPECK)
    assert answer.reason.endswith("; drawn on another grid, resampled.")


def test_a_mask_whose_marks_lie_outside_the_scan_is_refused(tmp_path: Path) -> None:
    moved = OBLIQUE.copy()
    moved[:3, 3] += 500
    segmenter = MaskSegmenter(write_labels(tmp_path / "far.nii", LABELS, moved))
    with pytest.raises(InputError, match="100% of its marks lie outside the series"):
        next(segmenter.segment(scan(label="MR FLAIR")))


def test_labels_come_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "lesion.nii", LABELS)
    toml = tmp_path / "ranks.toml"
    toml.write_text('[[roi]]\nlabel = "core"\nvalues = [4]\n[[roi]]\nvalues = [2, 9]\n')
    (answer,) = MaskSegmenter(path, 0, read_ranks(toml)).segment(scan())
    assert [roi.label for roi in answer.rois] == ["core", "rank 1", "other"]
    assert [marked_by((roi,)).sum() for roi in answer.rois] == [2, 1, 22]
    assert np.array_equal(marked_by(answer.rois), LABELS > 0)
    toml.write_text('others = "ignore"\n' + toml.read_text())
    (answer,) = MaskSegmenter(path, 0, read_ranks(toml)).segment(scan())
    assert [roi.label for roi in answer.rois] == ["core", "rank 1"]


def test_a_mask_of_everything_is_the_whole_volume_and_says_so(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "ones.nii", np.ones(LABELS.shape, np.uint8))
    (answer,) = MaskSegmenter(path).segment(scan())
    assert marked_by(answer.rois).all()
    assert "marks every voxel" in answer.reason


def test_a_mask_that_cannot_be_read_is_a_misfit(tmp_path: Path) -> None:
    misfit = MaskSegmenter(tmp_path / "none.nii").misfit(scan().header)
    assert isinstance(misfit, InputError)
    assert misfit.where == str(tmp_path / "none.nii")


def test_a_probability_map_is_refused_when_its_voxels_are_read(tmp_path: Path) -> None:
    segmenter = MaskSegmenter(write_labels(tmp_path / "chance.nii", LABELS / np.float32(8)))
    assert segmenter.misfit(scan().header) is None
    with pytest.raises(InputError, match="not a label map"):
        next(segmenter.segment(scan()))


# Real scans and their masks.

PAIRS = [
    ("tumour/brats_unknown/flair.nii.gz", "tumour/brats_unknown/truth.nii.gz"),
    ("mr/open_ms/patient19_MNI_FLAIR.nii.gz", "mr/open_ms/patient19_MNI_lesionmask.nii.gz"),
    ("mr/open_ms/patient26_MNI_FLAIR.nii.gz", "mr/open_ms/patient26_MNI_lesionmask.nii.gz"),
    ("ct/totalseg/example_ct_sm.nii.gz", "ct/totalseg/example_ct_sm_organs.nii.gz"),
    ("ct/totalseg/example_ct_sm.nii.gz", "ct/totalseg/example_ct_fast_liver.nii.gz"),
    ("ct/totalseg/example_ct_sm.nii.gz", "ct/totalseg/example_ct_fast_aorta.nii.gz"),
    (
        "tumour/brats2013_pat0005/Flair_subtrMeanDivStd.nii.gz",
        "tumour/brats2013_pat0005/OTMultiClass.nii.gz",
    ),
]


@pytest.mark.parametrize(("scan_name", "mask_name"), PAIRS)
def test_a_real_mask_lies_on_its_scan_and_is_covered(
    scans: Path, scan_name: str, mask_name: str
) -> None:
    (answer,) = MaskSegmenter(scans / mask_name).segment(read_scan(scans / scan_name))
    marked = read_scan(scans / mask_name).voxels > 0
    assert 1 <= len(answer.rois) <= 16
    assert all(one.box.distance_to(two.box) > 0 for one, two in combinations(answer.rois, 2))
    assert not (marked & ~marked_by(answer.rois, marked.shape)).any()


def test_a_real_nifti_mask_fits_the_dicom_series_it_was_drawn_on(scans: Path) -> None:
    mask = scans / "mr/dicom/brainix_flair_tumour_mask.nii.gz"
    bare = MaskSegmenter(mask, margin_voxels=0)
    (answer,) = bare.segment(read_scan(scans / "mr/dicom/brainix_flair"))
    labels = read_scan(mask).voxels[:, ::-1]  # its y runs to the front, DICOM's rows to the back
    z, y, x = np.nonzero(labels)
    boxes = [roi.box for roi in answer.rois]
    assert min(box.start for box in boxes)[0] == z.min()
    assert min(box.start[1] for box in boxes) == y.min()
    assert max(box.stop[1] for box in boxes) == y.max() + 1
    assert max(box.stop[2] for box in boxes) == x.max() + 1


def test_a_real_mask_of_another_patient_is_refused(scans: Path) -> None:
    other = MaskSegmenter(scans / "tumour/brats_unknown/truth.nii.gz")
    with pytest.raises(
        InputError, match=r"its shape .* is 155x240x240, that of the series 182x218"
    ):
        next(other.segment(read_scan(scans / PAIRS[1][0])))


def test_a_real_mask_of_a_part_of_the_scan_lies_where_it_lies_in_the_whole(scans: Path) -> None:
    mask = scans / "ct/totalseg/example_ct_fast_liver.nii.gz"
    whole = read_scan(scans / "ct/totalseg/example_ct.nii.gz")
    (answer,) = MaskSegmenter(mask, margin_voxels=0).segment(whole)
    held = marked_by(answer.rois, whole.voxels.shape)
    part = read_scan(scans / "ct/totalseg/example_ct_sm.nii.gz")
    labels = read_scan(mask).voxels > 0
    assert held.sum() == labels.sum()
    height = round((part.header.affine[11] - whole.header.affine[11]) / whole.header.affine[10])
    assert np.array_equal(held[height : height + len(labels)], labels)
