from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from sender.read.dicom_file import open_dicom
from sender.read.dicom_image import DicomImage, identity_of, image_of, why_not_sent
from shared.errors import InputError
from tests.sender.read.files import compressed, pixels, save, slice_of

if TYPE_CHECKING:
    from pathlib import Path


def reason(data_set: Dataset, path: Path) -> str | None:
    opened = open_dicom(save(data_set, path))
    assert opened is not None
    return why_not_sent(*opened)


def image(data_set: Dataset, path: Path) -> DicomImage:
    opened = open_dicom(save(data_set, path))
    assert opened is not None
    assert why_not_sent(*opened) is None
    return image_of(*opened)


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"Rows": None, "Modality": "SR"}, "holds no image (SR)"),
        ({"Columns": 0, "Modality": None}, "holds no image"),
        ({"PixelData": None}, "holds no image (CT)"),
        ({"Modality": "SEG"}, "a segmentation, not an image"),
        ({"BitsAllocated": 1}, "a segmentation, not an image"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"},
            "a segmentation, not an image",
        ),
        ({"SamplesPerPixel": 3}, "colour images are not sent"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour images are not sent"),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, "colour images are not sent"),
        ({"PhotometricInterpretation": "RGB"}, "colour images are not sent"),
        ({}, None),
        ({"PhotometricInterpretation": "MONOCHROME1"}, None),
    ],
)
def test_what_is_not_ours_has_a_reason(
    tmp_path: Path, elements: dict[str, object], why: str | None
) -> None:
    assert reason(slice_of(pixels(1), elements=elements), tmp_path / "a.dcm") == why


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"BitsAllocated": 12}, r"12 bits allocated \(PixelData, sign 1\) are not read"),
        ({"BitsAllocated": 64}, "64 bits allocated"),
        ({"BitsStored": 17}, "17 bits stored in 16 allocated"),
        ({"BitsStored": 0}, "0 bits stored in 16 allocated"),
        ({"BitsStored": 12}, "HighBit is 15 where 12 bits are stored"),
        ({"BitsStored": None}, "BitsStored or PixelRepresentation is missing"),
        ({"PixelRepresentation": None}, "BitsStored or PixelRepresentation is missing"),
        ({"SamplesPerPixel": None}, "SamplesPerPixel is missing"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation is missing"),
        ({"Rows": 7}, "its pixel data has 60 bytes, its frames need 70"),
        ({"NumberOfFrames": 2}, "its pixel data has 60 bytes, its frames need 120"),
        ({"Columns": 16385}, "an axis has 16384 pixels at most"),
        ({"NumberOfFrames": 10_001}, "10001 frames; 10000 are the most"),
        (
            {"Rows": 16384, "Columns": 16384, "NumberOfFrames": 9},
            "its pixels take 4608 MiB, too many",
        ),
    ],
)
def test_a_format_that_is_wrong_or_too_large_is_refused(
    tmp_path: Path, elements: dict[str, object], sentence: str
) -> None:
    opened = open_dicom(save(slice_of(pixels(1), elements=elements), tmp_path / "a.dcm"))
    assert opened is not None
    with pytest.raises(InputError, match=sentence):
        image_of(*opened)


def test_rle_that_asks_for_800_gib_is_refused_by_its_header(tmp_path: Path) -> None:
    data_set = slice_of(pixels(1), Rows=65535, Columns=65535, NumberOfFrames=100)
    path = save(compressed(data_set, "1.2.840.10008.1.2.5", [bytes(100)]), tmp_path / "a.dcm")
    opened = open_dicom(path)
    assert opened is not None
    with pytest.raises(InputError, match="an axis has 16384 pixels at most"):
        image_of(*opened)


@pytest.mark.parametrize(
    ("dtype", "keyword", "ours"),
    [
        ("<u1", "PixelData", "|u1"),
        ("<i1", "PixelData", "|i1"),
        ("<u2", "PixelData", "<u2"),
        ("<i2", "PixelData", "<i2"),
        ("<u4", "PixelData", "<u4"),
        ("<i4", "PixelData", "<i4"),
        ("<f4", "FloatPixelData", "<f4"),
        ("<f8", "DoubleFloatPixelData", "<f8"),
    ],
)
def test_types_follow_bits_and_sign(tmp_path: Path, dtype: str, keyword: str, ours: str) -> None:
    values = pixels(1, dtype=dtype)
    data_set = slice_of(values)
    if keyword != "PixelData":
        del data_set.PixelData, data_set.BitsStored, data_set.HighBit
        setattr(data_set, keyword, values.tobytes())
    form = image(data_set, tmp_path / "a.dcm").format
    assert form.dtype == np.dtype(ours)
    assert form.frame_bytes == values.nbytes


@pytest.mark.parametrize(
    ("dtype", "elements", "padding"),
    [
        ("<i2", {"PixelPaddingValue": 63536}, (-2000, -2000)),
        ("<u2", {"PixelPaddingValue": 63536}, (63536, 63536)),
        ("<i2", {"PixelPaddingValue": 63536, "PixelPaddingRangeLimit": 64536}, (-2000, -1000)),
        ("<u2", {"PixelPaddingValue": 30, "PixelPaddingRangeLimit": 0}, (0, 30)),
        ("<u2", {}, None),
    ],
)
def test_padding_is_in_stored_values(
    tmp_path: Path,
    dtype: str,
    elements: dict[str, int],
    padding: tuple[float, float] | None,
) -> None:
    data_set = slice_of(pixels(1, dtype=dtype))
    for keyword, value in elements.items():
        data_set.add_new(keyword, "US", value)
    assert image(data_set, tmp_path / "a.dcm").padding == padding


def test_what_a_reader_must_know_becomes_remarks(tmp_path: Path) -> None:
    data_set = slice_of(
        pixels(1),
        LossyImageCompression="01",
        ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"],
        PixelSpacing=None,
        ImagerPixelSpacing=[0.2, 0.2],
    )
    data_set.ModalityLUTSequence = Sequence([Dataset()])
    data_set.PixelData += bytes(128)
    remarks = image(data_set, tmp_path / "a.dcm").remarks
    assert remarks == (
        "was compressed with loss before it came to us",
        "real values come from a modality table, which travels with the headers",
        "a mosaic: several slices lie side by side in each image",
        "pixel spacing is that at the detector, not in the patient",
        "128 bytes behind the last frame are not sent as voxels",
    )


@pytest.mark.parametrize(
    ("ending", "lossy"),
    [
        ("4.50", True),
        ("4.51", True),
        ("4.81", True),
        ("4.91", True),
        ("4.203", True),
        ("4.90", False),
        ("4.201", False),
        ("5", False),
    ],
)
def test_a_lossy_transfer_syntax_is_remarked(tmp_path: Path, ending: str, lossy: bool) -> None:
    data_set = compressed(slice_of(pixels(1)), f"1.2.840.10008.1.2.{ending}", [b"abcd"])
    assert bool(image(data_set, tmp_path / "a.dcm").remarks) == lossy


def test_one_byte_of_padding_is_not_worth_a_remark(tmp_path: Path) -> None:
    assert image(slice_of(pixels(1, (3, 3), "<u1")), tmp_path / "a.dcm").remarks == ()


def test_the_third_image_type_says_localizer(tmp_path: Path) -> None:
    for value, expected in (
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], True),
        (["ORIGINAL", "PRIMARY", "AXIAL", "LOCALIZER"], False),
        (["ORIGINAL", "PRIMARY"], False),
    ):
        data_set = slice_of(pixels(1), ImageType=value)
        assert image(data_set, tmp_path / "a.dcm").localizer == expected


def test_identity_is_what_is_there_decoded_and_cut(tmp_path: Path) -> None:
    data_set = slice_of(pixels(1), AccessionNumber="", StudyDescription="x" * 64)
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.PatientName = "Müller^Jörg\r\n"
    opened = open_dicom(save(data_set, tmp_path / "a.dcm"))
    assert opened is not None
    identity = dict(identity_of(opened[1]))
    assert identity == {
        "PatientName": "Müller^Jörg",
        "PatientID": "4711",
        "StudyDescription": "x" * 64,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
    }
