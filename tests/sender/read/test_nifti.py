"""NIfTI files: read, rebuilt, refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.read.nifti import is_nifti, open_nifti, pick_volume, read_nifti
from shared.errors import InputError, SettingsError
from shared.header import Source
from tests.sender.read.files import nifti, packed, pixels

if TYPE_CHECKING:
    from pathlib import Path

    from shared.volume import Volume

EXTENSION = b"\1\0\0\0" + (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"a comment" * 3
EXTENSION = EXTENSION[:36]


def read(path: Path, volume: int | None = None) -> Volume:
    return read_nifti(open_nifti(path), volume=volume)


def rebuilt(volume: Volume) -> bytes:
    """The file as the receiver writes it."""
    header = volume.header
    between = volume.attachment() or bytes(header.voxel_offset - len(header.file_header))
    return header.file_header + between + volume.voxels.tobytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["|u1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f8", "|i1", ">u8"])
def test_a_volume_comes_back_byte_for_byte(
    tmp_path: Path, dtype: str, version: int, suffix: str
) -> None:
    values = pixels(1, (3, 4, 5), dtype)
    content = nifti(values, version=version, scl_slope=2.5, scl_inter=-3.0)
    path = tmp_path / f"head{suffix}"
    path.write_bytes(packed(content) if suffix == ".nii.gz" else content)
    volume = read(path)
    header = volume.header
    assert volume.voxels.dtype == np.dtype(dtype)
    assert header.dtype == np.dtype(dtype).str
    assert np.array_equal(volume.voxels, values, equal_nan=True)
    assert volume.voxels.flags.c_contiguous
    assert volume.voxels.shape == header.shape == (3, 4, 5)
    assert (header.slope, header.intercept) == (2.5, -3)
    assert (header.label, header.modality, header.source) == ("head", "", Source.NIFTI)
    assert header.affine_known
    assert header.affine[:4] == (0.5, 0, 0, -10)
    assert rebuilt(volume) == content


def test_extensions_are_the_attachment(tmp_path: Path) -> None:
    content = nifti(pixels(1, (2, 3, 4)), vox_offset=352 - 4 + len(EXTENSION), extension=EXTENSION)
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    volume = read(path)
    assert volume.attachment() == EXTENSION == content[348 : volume.header.voxel_offset]
    assert rebuilt(volume) == content
    assert pickle.loads(pickle.dumps(volume.attachment))() == EXTENSION


def test_zeros_before_the_voxels_are_not_an_attachment(tmp_path: Path) -> None:
    content = nifti(pixels(1, (2, 3, 4)), vox_offset=416, extension=bytes(68))
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    volume = read(path)
    assert volume.attachment() == b""
    assert rebuilt(volume) == content


def test_nan_and_infinity_stay_what_they_are(tmp_path: Path) -> None:
    values = np.array([np.nan, np.inf, -0.0, 1], "<f4").reshape(1, 2, 2)
    (tmp_path / "a.nii").write_bytes(nifti(values))
    assert read(tmp_path / "a.nii").voxels.tobytes() == values.tobytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("index", [0, 1, 4])
def test_one_volume_of_a_4d_file_is_picked(tmp_path: Path, suffix: str, index: int) -> None:
    values = pixels(1, (5, 2, 3, 4), ">i2")
    content = nifti(values)
    path = tmp_path / f"bold{suffix}"
    path.write_bytes(packed(content) if suffix == ".nii.gz" else content)
    volume = read(path, index)
    assert np.array_equal(volume.voxels, values[index])
    assert volume.header.label == f"bold, volume {index}"
    (tmp_path / "again.nii").write_bytes(rebuilt(volume))
    assert np.array_equal(read(tmp_path / "again.nii").voxels, values[index])


def test_a_4d_file_asks_which_volume(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(nifti(pixels(1, (5, 2, 3, 4))))
    with pytest.raises(InputError, match=r"holds 5 volumes: name one with --volume 0\.\.4"):
        read(path)
    for wrong in (-1, 5):
        with pytest.raises(SettingsError, match=rf"--volume {wrong}: .*0\.\.4"):
            read(path, wrong)


def test_a_3d_file_has_volume_0_only(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(nifti(pixels(1, (2, 3, 4))))
    assert pick_volume(open_nifti(path), 0) == 0
    with pytest.raises(SettingsError, match="it is 3-D"):
        read(path, 1)


def test_a_flat_image_is_one_slice(tmp_path: Path) -> None:
    values = pixels(1, (3, 4))
    (tmp_path / "a.nii").write_bytes(nifti(values))
    assert read(tmp_path / "a.nii").voxels.shape == (1, 3, 4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bytes_behind_the_voxels_are_remarked(tmp_path: Path, suffix: str) -> None:
    content = nifti(pixels(1, (2, 3, 4))) + b"more"
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed(content) if suffix == ".nii.gz" else content)
    assert read(path).header.remarks == ("4 bytes behind the last voxel are not sent",)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0, 3, 200, 350, 360, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    content = nifti(pixels(1, (2, 3, 4)))[:keep]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed(content) if suffix == ".nii.gz" else content)
    with pytest.raises(InputError, match="truncated") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_4d_file_is_refused_even_behind_the_picked_volume(tmp_path: Path) -> None:
    for suffix, wrap in ((".nii", bytes), (".nii.gz", packed)):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(wrap(nifti(pixels(1, (5, 2, 3, 4)))[:-1]))
        with pytest.raises(InputError, match="truncated"):
            read(path, 0)


def test_a_small_file_that_claims_a_huge_volume_costs_no_memory(tmp_path: Path) -> None:
    header = nifti(np.zeros((1, 1, 1), "<i2"), dim=[3, 1024, 1024, 1024, 1, 1, 1, 1])
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(packed(header + bytes(1 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="claims 2048 MiB of voxels in a file of"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_an_honest_file_just_below_the_bomb_limit_is_only_as_large_as_its_voxels(
    tmp_path: Path,
) -> None:
    """A mask packs 1000 to 1 and is no bomb; reading it holds one volume, not two."""
    content = nifti(np.zeros((64, 512, 512), "|u1"))
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(packed(content))
    assert len(content) > 200 * path.stat().st_size
    tracemalloc.start()
    try:
        volume = read(path)
        assert tracemalloc.get_traced_memory()[1] < volume.voxels.nbytes + (4 << 20)
    finally:
        tracemalloc.stop()


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    content = nifti(pixels(1, (2, 3, 4)))
    for name, wrap in (("a.nii", packed), ("b.nii.gz", bytes), ("c", packed), ("d", bytes)):
        (tmp_path / name).write_bytes(wrap(content))
        assert is_nifti(tmp_path / name)
        assert read(tmp_path / name).header.shape == (2, 3, 4)
    (tmp_path / "e").write_bytes(b"not at all")
    assert not is_nifti(tmp_path / "e")
    assert not is_nifti(tmp_path / "none")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        open_nifti(tmp_path / "none.nii")


def test_reading_nifti_imports_neither_nibabel_nor_pydicom(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed(nifti(pixels(1, (2, 3, 4)))))
    code = (
        "import sys; from pathlib import Path; from sender.read.source import read_study;"
        f"read_study([Path({str(path)!r})], series=None, volume=None);"
        "print([m for m in ('nibabel', 'pydicom') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
