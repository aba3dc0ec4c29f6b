from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from sender.read.dicom_file import open_dicom
from sender.read.dicom_frames import Frame, frames_of
from sender.read.dicom_image import image_of
from shared.errors import InputError
from tests.sender.read.files import AXIAL, pixels, save, slice_of

if TYPE_CHECKING:
    from pathlib import Path

PLACES = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
          "RescaleIntercept", "SliceThickness")  # fmt: skip


def frames(data_set: Dataset, path: Path) -> tuple[Frame, ...]:
    opened = open_dicom(save(data_set, path))
    assert opened is not None
    return frames_of(image_of(*opened), opened[1])


def group(**sequences: dict[str, object]) -> Dataset:
    """A functional group: a sequence of one item by its keyword."""
    made = Dataset()
    for keyword, elements in sequences.items():
        item = Dataset()
        for name, value in elements.items():
            setattr(item, name, value)
        setattr(made, keyword, Sequence([item]))
    return made


def enhanced(count: int, per_frame: list[Dataset], shared: Dataset | None = None) -> Dataset:
    """A multi-frame file whose frames are described by functional groups."""
    data_set = slice_of(pixels(1, (count, 6, 5)), elements=dict.fromkeys(PLACES))
    if per_frame:
        data_set.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    if shared is not None:
        data_set.SharedFunctionalGroupsSequence = Sequence([shared])
    return data_set


def test_a_single_frame_says_it_at_its_top(tmp_path: Path) -> None:
    data_set = slice_of(pixels(1), z_mm=12.5, instance=7)
    data_set.SpacingBetweenSlices = 6
    data_set.AcquisitionNumber, data_set.EchoNumbers = 2, 3
    data_set.TemporalPositionIdentifier = 4
    (frame,) = frames(data_set, tmp_path / "a.dcm")
    assert frame.position == (-10.0, -20.0, 12.5)
    assert frame.cosines == AXIAL
    assert frame.spacing_mm == (0.5, 0.75)
    assert frame.step_mm == 6
    assert frame.rescale == (1.0, -1024.0)
    assert list(frame.order) == [2, 4, 3, 7, 0]


@pytest.mark.parametrize(
    ("elements", "rescale"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": None}, (1, 0)),
        ({"RescaleSlope": 2.5}, (2.5, -1024)),
        ({"RescaleIntercept": None}, (1, 0)),
        ({"RescaleSlope": None}, (1, -1024)),
        (
            {"RescaleSlope": None, "RescaleIntercept": None, "DoseGridScaling": "1e-4"},
            (1e-4, 0),
        ),
    ],
)
def test_missing_parts_of_the_scaling_do_nothing(
    tmp_path: Path, elements: dict[str, object], rescale: tuple[float, float]
) -> None:
    (frame,) = frames(slice_of(pixels(1), elements=elements), tmp_path / "a.dcm")
    assert frame.rescale == rescale


def test_a_cine_run_has_no_positions(tmp_path: Path) -> None:
    found = frames(slice_of(pixels(1, (4, 6, 5))), tmp_path / "a.dcm")
    assert [frame.index for frame in found] == [0, 1, 2, 3]
    assert {frame.position for frame in found} == {None}


@pytest.mark.parametrize("first", [0, 40])
def test_a_dose_grid_counts_offsets_along_its_normal(tmp_path: Path, first: float) -> None:
    offsets = [first, first + 3, first + 6.5]
    data_set = slice_of(pixels(1, (3, 6, 5)), z_mm=10, GridFrameOffsetVector=offsets)
    data_set.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
    found = frames(data_set, tmp_path / "a.dcm")
    assert [frame.position for frame in found] == [(-10, -20, 10), (-10, -20, 7), (-10, -20, 3.5)]


def test_functional_groups_place_each_frame(tmp_path: Path) -> None:
    per_frame = [
        group(
            PlanePositionSequence={"ImagePositionPatient": [0, 0, 3 * k]},
            PixelValueTransformationSequence={"RescaleSlope": k + 1, "RescaleIntercept": 0},
            FrameContentSequence={
                "FrameAcquisitionNumber": 9,
                "TemporalPositionIndex": 2,
                "DimensionIndexValues": [1, k],
            },
        )
        for k in range(3)
    ]
    shared = group(
        PlaneOrientationSequence={"ImageOrientationPatient": list(AXIAL)},
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.75], "SpacingBetweenSlices": 3},
        MREchoSequence={"EffectiveEchoTime": 80.0},
    )
    found = frames(enhanced(3, per_frame, shared), tmp_path / "a.dcm")
    for k, frame in enumerate(found):
        assert frame.position == (0.0, 0.0, 3.0 * k)
        assert frame.cosines == AXIAL
        assert frame.spacing_mm == (0.5, 0.75)
        assert frame.step_mm == 3
        assert frame.rescale == (k + 1.0, 0.0)
        assert list(frame.order) == [9, 2, 80, 1, k, 1, k]
        assert frame.image.remarks == ()


def test_frames_that_all_lie_at_one_position_are_a_run(tmp_path: Path) -> None:
    shared = group(
        PlanePositionSequence={"ImagePositionPatient": [1, 2, 3]},
        PlaneOrientationSequence={"ImageOrientationPatient": list(AXIAL)},
    )
    found = frames(enhanced(5, [], shared), tmp_path / "a.dcm")
    assert {frame.position for frame in found} == {None}
    assert "points in time" in found[0].image.remarks[0]


def test_descriptions_and_frames_must_agree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 frame descriptions for 3 frames"):
        frames(enhanced(3, [group(), group()]), tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "cosines", [[0] * 6, [1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0], [1, 0, 0, 0.1, 0.995, 0]]
)
def test_an_orientation_that_is_none_is_unknown(tmp_path: Path, cosines: list[float]) -> None:
    data_set = slice_of(pixels(1), ImageOrientationPatient=cosines)
    (frame,) = frames(data_set, tmp_path / "a.dcm")
    assert frame.cosines is None


@pytest.mark.parametrize("spacing", [[0, 0.5], [-1, 0.5], [1e-9, 0.5]])
def test_a_spacing_that_is_none_is_unknown(tmp_path: Path, spacing: list[float]) -> None:
    (frame,) = frames(slice_of(pixels(1), PixelSpacing=spacing), tmp_path / "a.dcm")
    assert frame.spacing_mm is None


def test_detector_spacing_stands_in_where_there_is_no_other(tmp_path: Path) -> None:
    data_set = slice_of(pixels(1), PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.3])
    (frame,) = frames(data_set, tmp_path / "a.dcm")
    assert frame.spacing_mm == (0.2, 0.3)


@pytest.mark.parametrize(
    "elements",
    [
        {"ImagePositionPatient": [1, 2]},
        {"ImageOrientationPatient": [1, 0, 0]},
        {"PixelSpacing": [1, 2, 3]},
    ],
)
def test_vectors_of_the_wrong_length_are_damage(
    tmp_path: Path, elements: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="belong there"):
        frames(slice_of(pixels(1), elements=elements), tmp_path / "a.dcm")


@pytest.mark.parametrize("elements", [{"SliceThickness": 0}, {"SliceThickness": "1e9"}])
def test_a_step_that_is_none_is_unknown(tmp_path: Path, elements: dict[str, object]) -> None:
    (frame,) = frames(slice_of(pixels(1), elements=elements), tmp_path / "a.dcm")
    assert frame.step_mm is None


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"ImagePositionPatient": [0, 0, "1e7"]}, "ImagePositionPatient holds"),
        (
            {"RescaleSlope": None, "RescaleIntercept": None, "DoseGridScaling": "-1e31"},
            r"no scaling by -1e\+31 and 0.0 can be meant",
        ),
        ({"RescaleSlope": "1e31"}, r"no scaling by 1e\+31 and -1024.0 can be meant"),
    ],
)
def test_numbers_beyond_all_measure_are_damage(
    tmp_path: Path, elements: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        frames(slice_of(pixels(1), elements=elements), tmp_path / "a.dcm")
