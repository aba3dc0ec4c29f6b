"""Voxels of stacks, made here: every slice in its place, whatever its encoding."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from sender.read.dicom import find_series
from sender.read.dicom_pixels import read_voxels, refuse_undecodable
from shared.errors import InputError
from tests.sender.read.files import (
    big_endian,
    compressed,
    pixels,
    pydicom_pixels,
    save,
    series,
    slice_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sender.read.dicom_frames import Frame


def frames_in(*paths: Path) -> Sequence[Frame]:
    (stack,) = find_series(paths).stacks
    return stack.frames


def voxels(*paths: Path) -> NDArray[Any]:
    frames = frames_in(*paths)
    refuse_undecodable(frames)
    return read_voxels(frames)[0]


def test_slices_lie_in_the_order_of_their_places(tmp_path: Path) -> None:
    written = series(tmp_path / "s", [10, 0, 25, 5])
    found = voxels(*(tmp_path / "s").iterdir())
    assert found.dtype == np.dtype("<i2")
    assert found.flags.c_contiguous
    assert np.array_equal(found, np.stack([written[z] for z in (0, 5, 10, 25)]))


@pytest.mark.parametrize("dtype", ["<u1", "<i1", "<u2", "<i2", "<u4", "<i4"])
@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3), (4, 5)])
def test_native_syntaxes_of_either_order_are_pydicoms(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    values = pixels(1, shape, dtype)
    expected = values.reshape(-1, *shape[-2:])
    for name, syntax in (("i", ImplicitVRLittleEndian), ("d", DeflatedExplicitVRLittleEndian)):
        data_set = slice_of(values)
        data_set.file_meta.TransferSyntaxUID = syntax
        path = save(data_set, tmp_path / name)
        assert np.array_equal(voxels(path), expected)
    path = save(big_endian(slice_of(values), values), tmp_path / "b")
    found = voxels(path)
    assert np.array_equal(found, expected)
    assert np.array_equal(found, pydicom_pixels(path))
    assert found.dtype.str[0] in "<|"


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3), (2, 4, 5)])
def test_bytes_written_as_big_endian_words_are_swapped_back(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    values = pixels(1, shape, "<u1")
    data_set = big_endian(slice_of(values), values)
    even = values.tobytes() + b"\0" * (values.size % 2)
    data_set.PixelData = np.frombuffer(even, "<u2").byteswap().tobytes()
    data_set["PixelData"].VR = "OW"
    path = save(data_set, tmp_path / "a.dcm")
    assert np.array_equal(voxels(path), values.reshape(-1, *shape[-2:]))
    assert np.array_equal(voxels(path), pydicom_pixels(path))


def test_float_pixels_stay_float(tmp_path: Path) -> None:
    for dtype, keyword in (("<f4", "FloatPixelData"), ("<f8", "DoubleFloatPixelData")):
        values = pixels(1, dtype=dtype)
        values[0, 0] = np.nan
        data_set = slice_of(values, PixelData=None, BitsStored=None, HighBit=None)
        setattr(data_set, keyword, values.tobytes())
        found = voxels(save(data_set, tmp_path / keyword))
        assert found.tobytes() == values.tobytes()


def j2k(values: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True))


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("count", [1, 7])
def test_compressed_frames_find_their_slices(
    tmp_path: Path, count: int, table: bool, fragments: int
) -> None:
    values = pixels(1, (count, 32, 32), "<u2")
    data_set = slice_of(values)
    frames = [j2k(frame) for frame in values]
    syntax = "1.2.840.10008.1.2.4.90"
    path = save(
        compressed(data_set, syntax, frames, fragments=fragments, table=table), tmp_path / "a.dcm"
    )
    assert np.array_equal(voxels(path), values)


def test_a_stack_may_mix_syntaxes(tmp_path: Path) -> None:
    first, second = pixels(1, (32, 32), "<u2"), pixels(2, (32, 32), "<u2")
    paths = [
        save(slice_of(first, z_mm=0, instance=1), tmp_path / "a.dcm"),
        save(
            compressed(
                slice_of(second, z_mm=5, instance=2), "1.2.840.10008.1.2.4.90", [j2k(second)]
            ),
            tmp_path / "b.dcm",
        ),
    ]
    assert np.array_equal(voxels(*paths), np.stack([first, second]))


@pytest.mark.parametrize("name", ["4.53", "4.55", "4.100"])
def test_a_syntax_that_nobody_decodes_is_named(tmp_path: Path, name: str) -> None:
    syntax = f"1.2.840.10008.1.2.{name}"
    path = save(compressed(slice_of(pixels(1)), syntax, [b"abcd"]), tmp_path / "a.dcm")
    with pytest.raises(InputError, match="its transfer syntax is not decoded: "):
        voxels(path)


def test_pixels_that_are_not_as_the_syntax_says_are_damage(tmp_path: Path) -> None:
    path = save(slice_of(pixels(1)), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    with pytest.raises(InputError, match="its pixels are not as its transfer syntax says"):
        voxels(path)


def test_a_damaged_frame_refuses_the_stack(tmp_path: Path) -> None:
    values = pixels(1, (4, 32, 32), "<u2")
    frames = [j2k(frame) for frame in values]
    frames[2] = frames[2][: len(frames[2]) // 2]
    path = save(compressed(slice_of(values), "1.2.840.10008.1.2.4.90", frames), tmp_path / "a.dcm")
    with pytest.raises(InputError, match="damaged") as caught:
        voxels(path)
    assert caught.value.where == str(path)


def test_a_file_cut_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 5, 10])
    frames = frames_in(*(tmp_path / "s").iterdir())
    path = frames[1].image.file.path
    path.write_bytes(path.read_bytes()[:-10])
    os.utime(path, ns=(0, frames[1].image.file.changed_ns))
    with pytest.raises(InputError, match="changed while it was being read"):
        read_voxels(frames)


def test_bits_above_those_stored_are_remarked(tmp_path: Path) -> None:
    values = pixels(1, dtype="<u2")
    path = save(slice_of(values, BitsStored=12, HighBit=11), tmp_path / "a.dcm")
    found, remarks = read_voxels(frames_in(path))
    assert np.array_equal(found[0], values & 0x0FFF)
    assert np.array_equal(found, pydicom_pixels(path))
    assert remarks == (
        "bits above those that are stored held something else, which is not sent as voxels",
    )


@pytest.mark.parametrize("multi_frame", [False, True])
def test_memory_is_one_volume_and_a_little(tmp_path: Path, multi_frame: bool) -> None:
    slices = pixels(1, (40, 256, 256))
    if multi_frame:
        paths = [save(slice_of(slices), tmp_path / "all.dcm")]
    else:
        paths = [
            save(slice_of(one, z_mm=z, instance=z), tmp_path / f"{z}.dcm")
            for z, one in enumerate(slices)
        ]
    frames = frames_in(*paths)
    tracemalloc.start()
    try:
        found, _ = read_voxels(frames)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, slices)
    assert peak < found.nbytes + (1 << 20)


def test_memory_of_compressed_frames_is_a_few_frames_more(tmp_path: Path) -> None:
    slices = pixels(1, (40, 256, 256), "<u2") >> 6
    frames = [bytes(imagecodecs.jpegls_encode(one)) for one in slices]
    data_set = compressed(slice_of(slices), "1.2.840.10008.1.2.4.80", frames)
    path = save(data_set, tmp_path / "a.dcm")
    stack = frames_in(path)
    tracemalloc.start()
    try:
        found, _ = read_voxels(stack)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, slices)
    assert peak < found.nbytes + 3 * 8 * 2 * slices[0].nbytes
