from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from sender.segment.grid import Grid
from sender.segment.labelmap import open_labels
from shared.errors import InputError
from tests.sender.segment.volumes import OBLIQUE, write_labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

LABELS = np.zeros((3, 4, 5), np.uint8)
LABELS[1, 2, 3], LABELS[2, 0, 0] = 4, 1


def written(path: Path, labels: NDArray[Any], **header: object) -> Path:
    """A label map whose header fields are set by hand afterwards."""
    write_labels(path, labels)
    image: Any = nibabel.nifti1.Nifti1Image.from_filename(path)
    raw = bytearray(path.read_bytes())
    fields = image.header.__class__(bytes(raw[:348]), check=False)
    for name, value in header.items():
        fields[name] = value
    raw[:348] = fields.binaryblock
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_any_integer_or_float_type_marks_what_is_not_0(
    tmp_path: Path, dtype: str, suffix: str
) -> None:
    file = open_labels(write_labels(tmp_path / f"lesion{suffix}", LABELS.astype(dtype)))
    np.testing.assert_array_equal(file.load(None), LABELS > 0)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
def test_both_formats_and_byte_orders_are_read(tmp_path: Path, version: int, order: str) -> None:
    kind: Any = nibabel.nifti1.Nifti1Image if version == 1 else nibabel.nifti2.Nifti2Image
    image = kind(LABELS.T, OBLIQUE, kind.header_class(endianness=order))
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "lesion.nii")
    file = open_labels(tmp_path / "lesion.nii")
    np.testing.assert_array_equal(file.load(None), LABELS > 0)


def test_a_negative_label_is_a_label(tmp_path: Path) -> None:
    file = open_labels(write_labels(tmp_path / "lesion.nii", -LABELS.astype(np.int16)))
    np.testing.assert_array_equal(file.load(None), LABELS > 0)


def test_it_lies_where_its_affine_says(tmp_path: Path) -> None:
    grid = open_labels(write_labels(tmp_path / "lesion.nii", LABELS)).grid
    assert grid.shape == (3, 4, 5)
    np.testing.assert_allclose(grid.affine or (), OBLIQUE.ravel(), atol=1e-5)


def test_without_an_affine_it_lies_nowhere(tmp_path: Path) -> None:
    path = written(tmp_path / "lesion.nii", LABELS, sform_code=0, qform_code=0)
    assert open_labels(path).grid == Grid((3, 4, 5), None)


def test_labels_that_are_wanted_are_marked_and_others_not(tmp_path: Path) -> None:
    file = open_labels(write_labels(tmp_path / "lesion.nii", LABELS))
    np.testing.assert_array_equal(file.load(frozenset({4})), LABELS == 4)
    np.testing.assert_array_equal(file.load(frozenset({1, 4})), LABELS > 0)
    assert not file.load(frozenset()).any()


def test_scaled_labels_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    stored = np.where(LABELS > 0, 255, 0).astype(np.uint8)
    path = written(tmp_path / "lesion.nii", stored, scl_slope=1 / 255, scl_inter=0)
    np.testing.assert_array_equal(open_labels(path).load(None), LABELS > 0)


def test_an_intercept_may_make_0_of_another_value(tmp_path: Path) -> None:
    path = written(tmp_path / "lesion.nii", LABELS, scl_slope=1, scl_inter=-4)
    np.testing.assert_array_equal(open_labels(path).load(None), LABELS != 4)


@pytest.mark.parametrize("value", [0.5, 1.0001, np.nan, np.inf, -np.inf])
def test_what_is_no_whole_number_is_refused_with_its_voxel(tmp_path: Path, value: float) -> None:
    labels = LABELS.astype(np.float32)
    labels[1, 3, 4] = value
    file = open_labels(write_labels(tmp_path / "chance.nii", labels))
    with pytest.raises(InputError, match=r"not a label map: voxel \(z, y, x\) = \(1, 3, 4\) is"):
        file.load(None)


def test_scaled_fractions_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "chance.nii", LABELS, scl_slope=0.25, scl_inter=0)
    with pytest.raises(InputError, match="not a label map"):
        open_labels(path).load(None)


def test_a_fourth_axis_of_one_is_dropped_and_a_longer_one_refused(tmp_path: Path) -> None:
    one, two = LABELS[np.newaxis], np.stack([LABELS, LABELS])
    file = open_labels(write_labels(tmp_path / "one.nii", one))
    np.testing.assert_array_equal(file.load(None), LABELS > 0)
    with pytest.raises(InputError, match="three axes, this is 2 volumes"):
        open_labels(write_labels(tmp_path / "two.nii", two))


@pytest.mark.parametrize("dtype", ["c8", np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, dtype: DTypeLike) -> None:
    with pytest.raises(InputError):
        open_labels(write_labels(tmp_path / "lesion.nii", np.zeros((3, 4, 5), dtype)))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"\x1f\x8b" + bytes(80), b"PNG" * 400])
def test_what_is_no_nifti_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lesion.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        open_labels(path)
    assert raised.value.where == str(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.nii", tmp_path):
        with pytest.raises(InputError):
            open_labels(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, packed: bool) -> None:
    content = write_labels(tmp_path / "whole.nii", LABELS).read_bytes()
    content = gzip.compress(content)[:-9] if packed else content[:-1]
    (tmp_path / "cut.nii").write_bytes(content)
    with pytest.raises(InputError):
        open_labels(tmp_path / "cut.nii").load(None)
