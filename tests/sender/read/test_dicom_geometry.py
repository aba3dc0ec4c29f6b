from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.read.dicom_file import DicomFile
from sender.read.dicom_frames import Frame
from sender.read.dicom_geometry import geometry_of, normal_of
from sender.read.dicom_image import DicomImage, PixelFormat
from tests.sender.read.files import AXIAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.header import Vector

IMAGE = DicomImage(
    file=DicomFile(Path("a.dcm"), 1, 1, 1, "1.2.840.10008.1.2.1", 1, False, None, ()),
    format=PixelFormat(6, 5, "PixelData", 16, 16, True, "MONOCHROME2"),
    frame_count=1,
    series_uid="1.2",
    series_number=1,
    instance_number=1,
    sop_class="1.3",
    sop_uid="1.4",
    modality="CT",
    localizer=False,
    padding=None,
    tilt_degrees=0.0,
    remarks=(),
)
FRAME = Frame(IMAGE, 0, (0.0, 0.0, 0.0), AXIAL, (0.5, 0.75), 5.0, (1.0, 0.0), ())


def stack(positions: Sequence[Vector], cosines: tuple[float, ...] = AXIAL) -> list[Frame]:
    return [replace(FRAME, position=position, cosines=cosines) for position in positions]


def at(depths_mm: Sequence[float]) -> list[Frame]:
    return stack([(0.0, 0.0, z) for z in depths_mm])


def remarks(depths_mm: Sequence[float]) -> tuple[str, ...]:
    return geometry_of(at(depths_mm)).remarks


def test_the_affine_takes_voxels_to_where_dicom_puts_them() -> None:
    """PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, in LPS; ours is RAS."""
    row, column = (0.8, 0.6, 0.0), (0.0, 0.0, -1.0)
    start, step = np.array([10.0, 20, 30]), np.array([1.2, -1.6, 0.1])
    frames = stack([tuple((start + k * step).tolist()) for k in range(4)], (*row, *column))
    geometry = geometry_of(frames)
    affine = np.array(geometry.affine).reshape(4, 4)
    assert geometry.affine_known
    for x, y, z in ((0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 3), (2, 3, 1)):
        lps = start + np.array(row) * 0.75 * x + np.array(column) * 0.5 * y + step * z
        assert (affine @ (x, y, z, 1))[:3] == pytest.approx(lps * (-1, -1, 1))
    assert geometry.frames.row_cosines == row
    assert geometry.frames.column_cosines == column
    assert geometry.frames.pixel_spacing_mm == (0.5, 0.75)
    assert len(geometry.frames.positions_mm) == 4


def test_the_normal_is_row_times_column() -> None:
    assert normal_of(AXIAL) == pytest.approx((0, 0, 1))


def test_even_slices_need_no_remark() -> None:
    assert remarks([0, 5, 10, 15]) == ()
    assert remarks([0, 5.004, 9.996, 15]) == ()


def test_missing_slices_are_counted_and_placed() -> None:
    assert remarks([0, 5, 10, 25, 30]) == (
        "2 slices are missing between slice 3 and 4 (gap 3 x 5.00 mm)",
    )
    assert remarks([0, 10, 15, 20]) == (
        "1 slice is missing between slice 1 and 2 (gap 2 x 5.00 mm)",
    )


def test_many_gaps_are_counted_together() -> None:
    depths = [k * 5.0 for k in range(60) if k % 3 or k < 20]
    found = remarks(depths)
    assert len(found) == 5
    assert found[-1] == "slices are missing in 9 more places"


def test_uneven_spacing_is_told_by_its_range() -> None:
    assert remarks([0, 6.96, 14, 21.07]) == ("slice spacing varies from 6.96 to 7.07 mm",)
    assert remarks([0, 1.08, 8.08, 15.08]) == ("slice spacing varies from 1.08 to 7.00 mm",)


def test_jitter_does_not_hide_a_missing_slice() -> None:
    found = remarks([0, 5, 10.1, 15, 25, 30])
    assert found == (
        "1 slice is missing between slice 4 and 5 (gap 2 x 5.00 mm)",
        "slice spacing varies from 4.90 to 5.10 mm",
    )


def test_a_tilted_gantry_is_an_angle_and_a_shear() -> None:
    tilt = math.radians(15.5)
    cosines = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), -math.sin(tilt))
    geometry = geometry_of(stack([(0.0, 0.0, 5.0 * k) for k in range(3)], cosines))
    assert geometry.remarks == ("gantry tilt 15.5 degrees",)
    affine = np.array(geometry.affine).reshape(4, 4)
    assert affine[:3, 2] == pytest.approx((0, 0, 5))


def test_a_shear_of_another_modality_is_no_gantry() -> None:
    frames = [
        replace(frame, image=replace(IMAGE, modality="MR"))
        for frame in stack([(0.0, float(k), 5.0 * k) for k in range(3)])
    ]
    assert geometry_of(frames).remarks == ("slices are sheared by 11.3 degrees",)


def test_a_single_slice_is_tilted_if_the_scanner_says_so() -> None:
    frame = replace(FRAME, image=replace(IMAGE, tilt_degrees=-12.0))
    geometry = geometry_of([frame])
    assert geometry.remarks == ("gantry tilt 12.0 degrees",)
    assert geometry.affine[10] == 5


def test_slices_beside_their_line_are_remarked() -> None:
    frames = stack([(0.0, 0.0, 0.0), (2.0, 0.0, 5.0), (0.0, 0.0, 10.0)])
    assert geometry_of(frames).remarks == ("slices are shifted in their plane by up to 2.00 mm",)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([replace(FRAME, position=None)], ("position unknown",)),
        ([replace(FRAME, cosines=None)], ("position unknown",)),
        (
            [replace(FRAME, position=None)] * 2,
            ("position unknown: slices in the order of their instance numbers",),
        ),
        (
            [replace(FRAME, position=None, image=replace(IMAGE, frame_count=2))] * 2,
            ("position unknown: slices in the order of the file",),
        ),
        ([replace(FRAME, spacing_mm=None)], ("spacing unknown",)),
        (
            [replace(FRAME, position=None, spacing_mm=None)],
            ("position unknown", "spacing unknown"),
        ),
    ],
)
def test_what_is_not_known_is_said(frames: list[Frame], expected: tuple[str, ...]) -> None:
    geometry = geometry_of(frames)
    assert not geometry.affine_known
    assert geometry.remarks == expected
    spacing = frames[0].spacing_mm or (1, 1)
    sizes = (spacing[1], spacing[0], 5)
    assert np.array(geometry.affine).reshape(4, 4) == pytest.approx(np.diag([*sizes, 1]))


def test_scaling_shared_by_all_slices_is_the_headers() -> None:
    frames = [replace(frame, rescale=(2.5, -3.0)) for frame in at([0, 5, 10])]
    geometry = geometry_of(frames)
    assert (geometry.slope, geometry.intercept) == (2.5, -3)
    assert geometry.frames.rescale == ((2.5, -3.0),)
    assert geometry.remarks == ()


def test_scaling_of_each_slice_is_in_the_frames() -> None:
    frames = [replace(frame, rescale=(k + 1.0, 0.0)) for k, frame in enumerate(at([0, 5, 10]))]
    geometry = geometry_of(frames)
    assert (geometry.slope, geometry.intercept) == (1, 0)
    assert geometry.frames.rescale == ((1.0, 0.0), (2.0, 0.0), (3.0, 0.0))
    assert geometry.remarks == ("each slice has its own rescale slope and intercept",)


def test_a_slope_of_zero_is_not_applied() -> None:
    geometry = geometry_of([replace(FRAME, rescale=(0.0, 7.0))])
    assert (geometry.slope, geometry.intercept) == (1, 0)
    assert geometry.frames.rescale == ((0.0, 7.0),)
    assert "slope is 0" in geometry.remarks[0]
