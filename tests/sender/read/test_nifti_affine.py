"""Sform and qform against nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sender.read.nifti_header import parse_header, series_header
from tests.sender.read.files import nibabel, nibabel_header, nifti

if TYPE_CHECKING:
    from shared.geometry import Affine

PATH = Path("a.nii")
UNIT = st.floats(-1, 1, width=32)


def affine_of(**fields: object) -> tuple[Affine, bool, tuple[str, ...]]:
    content = nifti(np.zeros((2, 3, 4), "<i2"), version=1, **fields)
    header = parse_header(content[:348], PATH)
    return header.affine, header.affine_known, header.remarks


@settings(max_examples=60, deadline=None)
@given(UNIT, UNIT, UNIT, UNIT, st.sampled_from([-1.0, 0.0, 1.0]))
def test_a_qform_is_what_nibabel_makes_of_it(
    w: float, x: float, y: float, z: float, qfac: float
) -> None:
    length = np.linalg.norm([w, x, y, z])
    if length < 1e-3:
        return
    turn = [float(part / length) * (1 if w >= 0 else -1) for part in (x, y, z)]
    fields: dict[str, Any] = {
        "sform_code": 0,
        "qform_code": 1,
        "quatern": turn,
        "qoffset": [5.0, -6.0, 7.0],
        "pixdim": [qfac, 0.5, 0.75, 3.0, 0, 0, 0, 0],
    }
    ours, known, remarks = affine_of(**fields)
    other = nibabel_header(nifti(np.zeros((2, 3, 4), "<i2"), **fields)[:348])
    other["pixdim"][0] = qfac or 1
    assert known
    assert remarks == ()
    assert ours == pytest.approx(
        other.get_qform().ravel(), abs=5e-3
    )  # the fourth is a root, near a half turn of a difference of float32s


def test_a_half_turn_stored_a_little_too_long_is_still_a_rotation() -> None:
    ours, known, _ = affine_of(sform_code=0, qform_code=1, quatern=[0.0, 1.0000001, 0.0])
    assert known
    assert ours[:3] == pytest.approx((-0.5, 0, 0), abs=1e-5)


def test_the_sform_wins() -> None:
    ours, known, _ = affine_of(qform_code=1, sform_code=4, quatern=[1.0, 0.0, 0.0])
    assert known
    assert ours[:4] == (0.5, 0, 0, -10)


@pytest.mark.parametrize("codes", [{"sform_code": 0}, {"sform_code": -1}, {"sform_code": 17}])
def test_no_known_form_means_sizes_and_a_remark(codes: dict[str, int]) -> None:
    ours, known, remarks = affine_of(**codes, pixdim=[1.0, -0.5, 0.0, float("nan"), 0, 0, 0, 0])
    assert not known
    assert remarks == ("orientation unknown",)
    assert ours == (0.5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)


def test_a_singular_sform_is_no_orientation() -> None:
    ours, known, remarks = affine_of(srow=[0.0] * 12)
    assert not known
    assert remarks == ("orientation unknown: the affine is singular",)
    assert ours[0] == 0.5


@pytest.mark.parametrize(("units", "scale"), [(1, 1000.0), (3, 0.001), (2, 1), (0, 1), (10, 1)])
def test_the_affine_is_in_millimetres_whatever_the_units(units: int, scale: float) -> None:
    ours, _, remarks = affine_of(xyzt_units=units)
    assert ours[0] == pytest.approx(0.5 * scale)
    assert ours[15] == 1
    assert len(remarks) == (scale != 1)


def of_series(matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> bytes:
    return series_header(
        (2, 3, 4),
        np.dtype("<i2"),
        tuple(matrix.ravel()),
        affine_known=True,
        slope=1,
        intercept=0,
        description="",
    )


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float64, (3, 3), elements=st.floats(-1, 1)),
    st.tuples(*[st.floats(0.1, 9)] * 3),
    st.booleans(),
)
def test_a_written_rotation_reads_back_as_sform_and_qform(
    start: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    sizes: tuple[float, float, float],
    mirrored: bool,
) -> None:
    rotation, _ = np.linalg.qr(start + np.eye(3) * 1e-3)
    if (np.linalg.det(rotation) < 0) != mirrored:
        rotation[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation * sizes, (1, -2, 3)
    other = nibabel.Nifti1Header(of_series(matrix))
    assert other.get_sform() == pytest.approx(matrix, abs=1e-5)
    # near a half turn the quaternion's first part is the root of a float32's last digit
    assert other.get_qform() == pytest.approx(matrix, abs=1e-3 * max(sizes))
    assert other["pixdim"][0] == (-1 if mirrored else 1)


def test_a_shear_has_no_qform() -> None:
    matrix = np.diag([1.0, 1, 2, 1])
    matrix[1, 2] = 0.3
    other = nibabel.Nifti1Header(of_series(matrix))
    assert (other["sform_code"], other["qform_code"]) == (1, 0)
    assert other.get_sform() == pytest.approx(matrix)
