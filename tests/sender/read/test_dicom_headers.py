from __future__ import annotations

import io
import os
import pickle
import zipfile
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from protocol import limits
from sender.read.dicom import find_series, read_series
from sender.read.dicom_headers import HeadersZip, headers_of
from shared.errors import InputError
from tests.sender.read.files import big_endian, compressed, pixels, save, series, slice_of

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset


def headers(*paths: Path) -> HeadersZip:
    (stack,) = find_series(paths).stacks
    return headers_of(stack.frames)


def unpacked(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def without_pixels(data_set: Dataset) -> Dataset:
    del data_set.PixelData
    return data_set


def test_headers_come_back_whole_in_slice_order(tmp_path: Path) -> None:
    series(tmp_path / "s", [10, 0, 5])
    paths = list((tmp_path / "s").iterdir())
    entries = unpacked(headers(*paths)())
    assert list(entries) == ["0001.dcm", "0002.dcm", "0003.dcm"]
    originals = sorted(map(pydicom.dcmread, paths), key=lambda d: d.ImagePositionPatient[2])
    for content, original in zip(entries.values(), originals, strict=True):
        kept = pydicom.dcmread(io.BytesIO(content))
        assert kept == without_pixels(original)
        assert kept.file_meta == original.file_meta


def test_every_byte_around_the_pixels_stays(tmp_path: Path) -> None:
    """The comment of an entry says where the element was, so the file can be put together."""
    values = pixels(1)
    sources = {
        "little": slice_of(values),
        "big": big_endian(slice_of(values), values),
        "implicit": slice_of(values),
        "packed": compressed(slice_of(values), "1.2.840.10008.1.2.4.90", [b"abcd", b"efgh"]),
    }
    sources["implicit"].file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for name, data_set in sources.items():
        data_set.preamble = b"II*\0" + bytes(124)
        data_set.add_new(0xFFFCFFFC, "OB", b"what follows the pixels.")
        path = save(data_set, tmp_path / name)
        zipped = headers(path)
        packed = zipped()
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            (entry,) = archive.infolist()
            kept, comment = archive.read(entry), entry.comment.decode()
        keyword, vr, *_, at, size, _ = comment.replace(",", "").split()
        start, length = int(at), int(size)
        whole = path.read_bytes()
        assert (keyword, vr) == ("PixelData", "OB" if name == "packed" else "OW")
        assert kept[:start] + whole[start : start + length] + kept[start:] == whole
        assert len(packed) <= zipped.size_bytes


def test_a_deflated_file_is_kept_inflated_and_says_so(tmp_path: Path) -> None:
    data_set = slice_of(pixels(1))
    data_set.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(data_set, tmp_path / "a.dcm")
    (stack,) = find_series([path]).stacks
    volume = read_series(stack)
    assert "headers of deflated files are kept inflated" in volume.header.remarks
    with zipfile.ZipFile(io.BytesIO(volume.attachment())) as archive:
        (entry,) = archive.infolist()
        assert entry.comment.endswith(b"data set inflated")
        kept = archive.read(entry)
    said, really = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"
    inflated = pydicom.dcmread(io.BytesIO(kept.replace(said, really)))
    assert inflated == without_pixels(pydicom.dcmread(path))


def test_a_file_of_many_slices_is_kept_once(tmp_path: Path) -> None:
    path = save(slice_of(pixels(1, (5, 6, 5))), tmp_path / "a.dcm")
    assert len(unpacked(headers(path)())) == 1


def test_equal_files_give_equal_zips(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 5])
    paths = list((tmp_path / "s").iterdir())
    first = headers(*paths)()
    for path in paths:
        os.utime(path)
    assert headers(*paths)() == first


def test_the_zip_can_be_made_in_another_process(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 5])
    made = headers(*(tmp_path / "s").iterdir())
    assert pickle.loads(pickle.dumps(made))() == made()


def test_headers_over_the_limit_are_dropped_with_a_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(slice_of(pixels(1)), tmp_path / "a.dcm")
    monkeypatch.setattr(limits, "MAX_ATTACHMENT_BYTES", 100)
    (stack,) = find_series([path]).stacks
    volume = read_series(stack)
    assert volume.attachment() == b""
    assert "headers of more than 256 MiB are not sent" in volume.header.remarks[-1]


def test_a_file_that_changed_has_no_headers(tmp_path: Path) -> None:
    path = save(slice_of(pixels(1)), tmp_path / "a.dcm")
    made = headers(path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(InputError, match="changed while it was being read"):
        made()
