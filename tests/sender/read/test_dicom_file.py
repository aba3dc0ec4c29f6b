from __future__ import annotations

import os
import tracemalloc
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from sender.read.dicom_file import DicomFile, open_dicom, reopen
from sender.read.dicom_values import text
from shared.errors import InputError
from tests.sender.read.files import big_endian, compressed, pixels, save, slice_of

if TYPE_CHECKING:
    from pathlib import Path

VALUES = pixels(1)


def opened(path: Path) -> tuple[DicomFile, Dataset]:
    found = open_dicom(path)
    assert found is not None
    return found


def pixel_bytes(path: Path) -> bytes:
    """The value of the pixel data element, by our positions."""
    file, _ = opened(path)
    assert file.pixels is not None
    with reopen(file) as unpacked:
        unpacked.seek(file.pixels.value)
        return unpacked.read(file.pixels.stop - file.pixels.value)


def test_positions_cut_the_pixel_element_out_exactly(tmp_path: Path) -> None:
    data_set = slice_of(VALUES)
    data_set.add_new(0xFFFCFFFC, "OB", b"padding!")
    path = save(data_set, tmp_path / "a.dcm")
    file, found = opened(path)
    whole = path.read_bytes()
    assert file.pixels is not None
    assert whole[file.pixels.start :][:6] == b"\xe0\x7f\x10\x00OW"
    assert pixel_bytes(path) == VALUES.tobytes()
    assert whole[file.pixels.stop :][:4] == b"\xfc\xff\xfc\xff"
    assert file.size_bytes == file.unpacked_bytes == len(whole)
    assert text(found, "SeriesInstanceUID") == "1.2.3.4"
    assert "PixelData" not in found


def test_every_native_syntax_gives_the_same_elements(tmp_path: Path) -> None:
    plain = slice_of(VALUES)
    for name, syntax in (("i", ImplicitVRLittleEndian), ("d", DeflatedExplicitVRLittleEndian)):
        data_set = slice_of(VALUES)
        data_set.file_meta.TransferSyntaxUID = syntax
        path = save(data_set, tmp_path / name)
        assert pixel_bytes(path) == VALUES.tobytes()
        assert opened(path)[0].deflated == (name == "d")
    path = save(big_endian(slice_of(VALUES), VALUES), tmp_path / "b")
    assert pixel_bytes(path) == VALUES.byteswap().tobytes()
    for name in "idb":
        found = opened(tmp_path / name)[1]
        assert text(found, "PhotometricInterpretation") == plain.PhotometricInterpretation
        assert text(found, "Modality") == "CT"


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("little", [True, False])
def test_a_data_set_without_preamble_is_read_by_its_look(
    tmp_path: Path, implicit: bool, little: bool
) -> None:
    if implicit and not little:
        return  # no such syntax
    data_set = slice_of(VALUES)
    del data_set.file_meta
    path = tmp_path / "bare"
    pydicom.dcmwrite(path, data_set, implicit_vr=implicit, little_endian=little)
    file, found = opened(path)
    assert text(found, "Modality") == "CT"
    assert file.pixels is not None
    assert file.pixels.stop == file.size_bytes


def test_other_files_are_not_dicom(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"text", b"\x08\x00" + b"junk" * 50, b"\x02\x00\x01")):
        path = tmp_path / str(number)
        path.write_bytes(content)
        assert open_dicom(path) is None


def test_acr_nema_is_named(tmp_path: Path) -> None:
    data_set = Dataset()
    data_set.RecognitionCode, data_set.Rows = "ACR-NEMA 2.0", 4
    path = tmp_path / "old"
    pydicom.dcmwrite(path, data_set, implicit_vr=True, little_endian=True)
    with pytest.raises(InputError, match=r"ACR-NEMA 2\.0, a format older than DICOM, is not read"):
        open_dicom(path)


def test_a_cut_between_two_elements_only_can_pass_for_a_file_without_pixels(
    tmp_path: Path,
) -> None:
    path = save(slice_of(VALUES), tmp_path / "a.dcm")
    whole = path.read_bytes()
    passed = []
    for keep in range(140, len(whole)):
        path.write_bytes(whole[:keep])
        with suppress(InputError):
            file, _ = opened(path)
            assert file.pixels is None
            passed.append(keep)
    with pydicom.dcmread(save(slice_of(VALUES), path)) as data_set:
        elements = [*data_set.file_meta, *data_set]
    assert len(passed) <= len(elements)
    assert all(whole[at + 4 : at + 6].isalpha() for at in passed)  # where a VR follows a tag


def test_nested_sequences_do_not_reach_the_stack_limit(tmp_path: Path) -> None:
    item = Dataset()
    for _ in range(600):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([item])
        outer["ReferencedSeriesSequence"].is_undefined_length = True
        item = outer
    deep = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path = save(slice_of(VALUES), tmp_path / "deep.dcm")
    whole = path.read_bytes()
    at = whole.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(whole[:at] + deep * 3000 + whole[at:])
    with pytest.raises(InputError, match="nest too deeply"):
        open_dicom(path)


def test_a_length_that_lies_costs_no_memory(tmp_path: Path) -> None:
    path = save(slice_of(VALUES), tmp_path / "a.dcm")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"\x10\x00\x10\x00PN")
    whole[at + 4 : at + 8] = b"UT\0\0"
    whole[at + 8 : at + 12] = b"\xf0\xff\xff\xff"
    path.write_bytes(whole)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="ends in the middle of its header"):
            open_dicom(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    data_set = slice_of(VALUES)
    data_set.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(data_set, tmp_path / "bomb.dcm")
    body = opened(path)[0].body
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(300 << 20)) + deflater.flush()
    path.write_bytes(path.read_bytes()[:body] + bomb)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="refused as a bomb"):
            open_dicom(path)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_changed_is_not_read_on(tmp_path: Path) -> None:
    path = save(slice_of(VALUES), tmp_path / "a.dcm")
    file, _ = opened(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="changed while it was being read"):
        reopen(file)
    path.unlink()
    with pytest.raises(InputError, match="cannot be opened"):
        reopen(file)


def test_a_warning_about_the_encoding_becomes_a_remark(tmp_path: Path) -> None:
    data_set = slice_of(VALUES)
    data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = save(data_set, tmp_path / "a.dcm")
    whole = path.read_bytes()
    said = b"1.2.840.10008.1.2\0"
    really = b"1.2.840.10008.1.2.1\0"
    at = whole.index(said)
    grown = whole[: at - 2] + bytes([len(really), 0]) + really + whole[at + len(said) :]
    length_at = 132 + 8
    length = int.from_bytes(whole[length_at : length_at + 4], "little") + len(really) - len(said)
    path.write_bytes(grown[:length_at] + length.to_bytes(4, "little") + grown[length_at + 4 :])
    file, _ = opened(path)
    assert file.remarks == (
        "Expected explicit VR, but found implicit VR - using implicit VR for reading",
    )
    assert pixel_bytes(path) == VALUES.tobytes()


def test_compressed_pixels_are_walked(tmp_path: Path) -> None:
    frames = [b"abcd", b"efgh"]
    path = save(compressed(slice_of(VALUES), "1.2.840.10008.1.2.4.90", frames), tmp_path / "a.dcm")
    file, _ = opened(path)
    assert file.pixels is not None
    assert file.pixels.fragments is not None
    assert [part.size_bytes for part in file.pixels.fragments] == [4, 4]
    assert file.pixels.offsets == (0, 12)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="its compressed pixel data has no end"):
        open_dicom(path)
