"""Headers against nibabel, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol import limits
from sender.read.nifti_header import (
    UnsupportedKind,
    header_bytes,
    header_of_one_volume,
    parse_header,
    series_header,
)
from shared.errors import InputError
from tests.sender.read.files import nibabel, nibabel_header, nifti

PATH = Path("a.nii")
TYPES = ["<u1", "<i2", ">i2", "<i4", "<f4", ">f4", "<f8", "<i1", "<u2", ">u2", "<u4", "<i8", ">u8"]


def raw(
    shape: tuple[int, ...] = (2, 3, 4), dtype: str = "<i2", version: int = 1, **fields: object
) -> bytes:
    """A header alone."""
    content = nifti(np.zeros(shape, dtype), version=version, **fields)
    return content[: 348 if version == 1 else 540]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", TYPES)
def test_shape_type_and_offset_are_those_of_nibabel(dtype: str, version: int) -> None:
    header = raw((2, 3, 4), dtype, version=version)
    ours, other = parse_header(header, PATH), nibabel_header(header)
    assert ours.shape == other.get_data_shape()[::-1]
    assert ours.dtype == other.get_data_dtype()
    assert ours.dtype.str[0] == ("|" if dtype[1:] in ("u1", "i1") else dtype[0])
    assert ours.voxel_offset == other.get_data_offset()
    assert ours.raw == header
    assert ours.volume_bytes == 24 * np.dtype(dtype).itemsize
    assert header_bytes(header[:4], PATH) == len(header)


@pytest.mark.parametrize(
    ("slope", "intercept"), [(2.5, -1024.0), (1, 0), (0, 7), (float("nan"), 1), (float("inf"), 1)]
)
def test_scaling_follows_nifti(slope: float, intercept: float) -> None:
    header = raw(scl_slope=slope, scl_inter=intercept)
    ours = parse_header(header, PATH)
    expected = nibabel_header(header).get_slope_inter()
    assert (ours.slope, ours.intercept) == ((1.0, 0.0) if expected == (None, None) else expected)


@pytest.mark.parametrize(
    ("shape", "ours", "volumes"),
    [
        ((4,) * 2, (1, 4, 4), 1),
        ((5, 2, 3, 4), (2, 3, 4), 5),
        ((1, 2, 3, 4), (2, 3, 4), 1),
        ((1, 1, 1, 2, 3, 4), (2, 3, 4), 1),
        ((1, 6, 2, 3, 4), (2, 3, 4), 6),
        ((1, 1, 4), (1, 1, 4), 1),
    ],
)
def test_dimensions_are_three_and_volumes(
    shape: tuple[int, ...], ours: tuple[int, ...], volumes: int
) -> None:
    header = parse_header(raw(shape), PATH)
    assert (header.shape, header.volumes) == (ours, volumes)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
def test_one_volume_of_many_has_a_header_of_its_own(version: int, dtype: str) -> None:
    header = raw((5, 2, 3, 4), dtype, version=version, pixdim=[-1.0, 0.5, 0.75, 3, 2.2, 0, 0, 0])
    patched = header_of_one_volume(parse_header(header, PATH))
    other = nibabel_header(patched)
    assert other.get_data_shape() == (4, 3, 2)
    assert other.get_zooms() == pytest.approx((0.5, 0.75, 3))
    assert other["pixdim"][0] == -1
    before = nibabel_header(header)
    for field in set(before.keys()) - {"dim", "pixdim"}:
        assert before[field].tobytes() == other[field].tobytes(), field


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"magic": b"abc\0"}, "not a NIfTI file: its magic"),
        ({"magic": b"\0\0\0\0"}, "not a NIfTI file: its magic"),
        ({"datatype": 99}, "no NIfTI datatype has the number 99"),
        ({"bitpix": 8}, "8 bits per voxel do not fit its type int16"),
        ({"dim": [0, 4, 3, 2, 1, 1, 1, 1]}, "0 dimensions"),
        ({"dim": [9, 4, 3, 2, 1, 1, 1, 1]}, "9 dimensions"),
        ({"dim": [3, 4, 0, 2, 1, 1, 1, 1]}, "size 4x0x2: each axis has 1 to"),
        ({"dim": [3, 4, -3, 2, 1, 1, 1, 1]}, "size 4x-3x2"),
        ({"dim": [3, 4, 20_000, 2, 1, 1, 1, 1]}, "each axis has 1 to 16384"),
        ({"dim": [7, *[32767] * 7]}, "each axis has 1 to 16384"),
        ({"dim": [4, 4, 3, 2, -1, 1, 1, 1]}, "size 4x3x2x-1"),
        ({"dim": [3, 16384, 16384, 16384, 1, 1, 1, 1]}, "voxels; 2147483648 are the most"),
        ({"vox_offset": 0.0}, "voxels cannot begin at byte 0"),
        ({"vox_offset": 348.0}, "voxels cannot begin at byte 348"),
        ({"vox_offset": 352.5}, "voxels cannot begin at byte 352.5"),
        ({"vox_offset": float("nan")}, "voxels cannot begin at byte nan"),
        ({"vox_offset": 1e30}, r"voxels cannot begin at byte 1e\+30"),
        ({"vox_offset": -352.0}, "voxels cannot begin at byte -352"),
        ({"srow": [float("nan"), *[0.0] * 11]}, "affine holds values that are no numbers"),
        ({"srow": [float("inf"), *[1.0] * 11]}, "affine holds values that are no numbers"),
        ({"version": 2, "srow": [1e200, *[1.0] * 11]}, "affine holds values that are no numbers"),
        ({"scl_inter": float("nan")}, "it has a slope, but its intercept is nan"),
        ({"sform_code": 0, "qform_code": 1, "quatern": [0.9, 0.9, 0.9]}, "is no rotation"),
        ({"sform_code": 0, "qform_code": 1, "quatern": [float("nan"), 0.0, 0.0]}, "no rotation"),
    ],
)
def test_damaged_headers_are_refused_in_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        parse_header(raw(**fields), PATH)
    assert not isinstance(caught.value, UnsupportedKind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"datatype": 1, "bitpix": 1}, "single bits"),
        ({"datatype": 32, "bitpix": 64}, "complex numbers"),
        ({"datatype": 128, "bitpix": 24}, "RGB colours"),
        ({"datatype": 1536, "bitpix": 128}, "128-bit floats"),
        ({"datatype": 1792, "bitpix": 128}, "complex numbers"),
        ({"datatype": 2048, "bitpix": 256}, "complex numbers"),
        ({"datatype": 2304, "bitpix": 32}, "RGBA colours"),
        ({"magic": b"ni1\0"}, "half of a .hdr/.img pair"),
        ({"version": 2, "magic": b"ni2\0\r\n\x1a\n"}, "half of a .hdr/.img pair"),
        ({"dim": [1, 4, 1, 1, 1, 1, 1, 1]}, "1-D"),
        ({"dim": [5, 4, 3, 2, 2, 3, 1, 1]}, "5-D"),
    ],
)
def test_sound_kinds_that_are_not_sent_are_told_apart(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UnsupportedKind, match=sentence):
        parse_header(raw(**fields), PATH)


def test_a_volume_over_the_byte_limit_is_refused_before_it_is_multiplied() -> None:
    header = raw(dtype="<f8", dim=[3, 1024, 1024, 1024, 1, 1, 1, 1])
    assert limits.MAX_VOXELS > 1024**3
    with pytest.raises(InputError, match="more than 4 GiB"):
        parse_header(header, PATH)


def test_a_file_that_begins_otherwise_has_no_header() -> None:
    with pytest.raises(InputError, match="does not begin with its size"):
        header_bytes(b"\0\0\0\0", PATH)


@pytest.mark.parametrize("dtype", ["|u1", "<i2", "<u2", "<i4", "<u4", "<f4", "<f8"])
def test_the_header_of_a_series_is_one_that_nibabel_likes(dtype: str) -> None:
    affine = (0.0, 0, 3, 5, -0.5, 0, 0, 6, 0, 0.75, 0, 7, 0, 0, 0, 1)
    header = series_header(
        (2, 3, 4),
        np.dtype(dtype),
        affine,
        affine_known=True,
        slope=2.5,
        intercept=-1024,
        description="MR Kopf ä, series 3",
    )
    image = nibabel.Nifti1Image.from_bytes(header + bytes(4) + np.arange(24, dtype=dtype).tobytes())
    other = image.header
    assert other.get_data_shape() == (4, 3, 2)
    assert np.array_equal(image.dataobj.get_unscaled().T.ravel(), np.arange(24))
    assert nibabel_header(header).get_slope_inter() == (2.5, -1024)
    assert other.get_xyzt_units()[0] == "mm"
    assert bytes(other["descrip"]).rstrip(b"\0") == b"MR Kopf ?, series 3"
    for matrix, code in (other.get_sform(coded=True), other.get_qform(coded=True)):
        assert code == 1
        assert matrix.ravel() == pytest.approx(affine, abs=1e-5)
    assert parse_header(header, PATH).affine == pytest.approx(affine)


def test_the_header_of_a_series_without_a_place_has_sizes_only() -> None:
    header = series_header(
        (2, 3, 4),
        np.dtype("<i2"),
        (0.5, 0, 0, 0, 0, 0.75, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1),
        affine_known=False,
        slope=1,
        intercept=0,
        description="",
    )
    other = nibabel_header(header)
    assert (other["sform_code"], other["qform_code"]) == (0, 0)
    assert other.get_zooms() == pytest.approx((0.5, 0.75, 3))
    assert not parse_header(header, PATH).affine_known
