"""What one DICOM file holds: whether it is an image that is sent, and how its pixels are stored.

Everything about the format is checked here, nothing that is missing is guessed, and every size is
held against the limits before anybody allocates from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol import limits
from sender.read.dicom_values import (
    code,
    integer,
    number,
    ordinal,
    refusing_damage,
    short,
    shown,
    stored,
    text,
    texts,
)
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom.dataset import Dataset

    from sender.read.dicom_file import DicomFile

_TYPES: Mapping[tuple[str, int, int], str] = {
    ("PixelData", 8, 0): "<u1", ("PixelData", 8, 1): "<i1",
    ("PixelData", 16, 0): "<u2", ("PixelData", 16, 1): "<i2",
    ("PixelData", 32, 0): "<u4", ("PixelData", 32, 1): "<i4",
    ("FloatPixelData", 32, 0): "<f4", ("DoubleFloatPixelData", 64, 0): "<f8",
}  # fmt: skip
"""(element, Bits Allocated, Pixel Representation) that are sent, as numpy names them."""
_SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_LOSSY_SYNTAXES = frozenset(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 81, 91, 203))
"""JPEG baseline and extended, JPEG-LS near-lossless, JPEG 2000, HTJ2K (PS3.6 table A-1). The
last two may be exact all the same; a reader had better be told too often."""
_IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyDescription",
    "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How pixels are stored; all slices of a volume share it."""

    rows: int
    columns: int
    keyword: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, little-endian whatever the file's byte order."""
        return np.dtype(_TYPES[self.keyword, self.bits_allocated, int(self.signed)])

    @property
    def frame_bytes(self) -> int:
        """Of one frame that is not compressed."""
        return self.rows * self.columns * self.bits_allocated // 8


@dataclass(frozen=True, slots=True)
class DicomImage:
    """A file with pixels that can be sent."""

    file: DicomFile
    format: PixelFormat
    frame_count: int
    series_uid: str
    series_number: int
    instance_number: int
    sop_class: str
    sop_uid: str
    modality: str
    localizer: bool
    padding: tuple[float, float] | None
    tilt_degrees: float
    """Gantry/Detector Tilt, 0 where not said."""
    remarks: tuple[str, ...]


def why_not_sent(file: DicomFile, data_set: Dataset) -> str | None:
    """Why a file is none of ours; None where it is an image that is sent."""
    with refusing_damage(file.path):
        if file.pixels is None or not short(data_set, "Rows") or not short(data_set, "Columns"):
            modality = code(data_set, "Modality")
            return f"holds no image ({modality})" if modality else "holds no image"
        if (
            text(data_set, "SOPClassUID") == _SEGMENTATION_CLASS
            or text(data_set, "Modality") == "SEG"
            or short(data_set, "BitsAllocated") == 1
        ):
            return "a segmentation, not an image"
        photometric = text(data_set, "PhotometricInterpretation")
        if (short(data_set, "SamplesPerPixel") or 1) != 1 or (
            photometric and not photometric.startswith("MONOCHROME")
        ):
            return "colour images are not sent"
    return None


def image_of(file: DicomFile, data_set: Dataset) -> DicomImage:
    """The image of a file that `why_not_sent` has no objection to.

    Raises:
        InputError: it is damaged, or its pixels are of a format or size that is not sent.
    """
    with refusing_damage(file.path):
        pixel_format = _format(file, data_set)
        count = max(1, integer(data_set, "NumberOfFrames") or 1)
        image = DicomImage(
            file=file,
            format=pixel_format,
            frame_count=count,
            series_uid=text(data_set, "SeriesInstanceUID"),
            series_number=ordinal(data_set, "SeriesNumber"),
            instance_number=ordinal(data_set, "InstanceNumber"),
            sop_class=text(data_set, "SOPClassUID"),
            sop_uid=text(data_set, "SOPInstanceUID"),
            modality=code(data_set, "Modality"),
            localizer="LOCALIZER" in texts(data_set, "ImageType")[2:3],
            padding=_padding(data_set, pixel_format),
            tilt_degrees=number(data_set, "GantryDetectorTilt") or 0.0,
            remarks=file.remarks + _remarks(file, data_set, pixel_format, count),
        )
        _check_size(image)
    return image


def identity_of(data_set: Dataset) -> tuple[tuple[str, str], ...]:
    """Whose study it is: (keyword, value) of those that are there. PHI, never logged."""
    pairs = ((keyword, shown(data_set, keyword)) for keyword in _IDENTITY)
    return tuple((keyword, value) for keyword, value in pairs if value)


def _format(file: DicomFile, data_set: Dataset) -> PixelFormat:
    """The pixel format, every part of it checked; nothing that is missing is guessed."""
    assert file.pixels is not None, "why_not_sent has looked"
    keyword = file.pixels.keyword
    missing = [
        name
        for name in ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
        if not stored(data_set, name)
    ]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    allocated = short(data_set, "BitsAllocated") or 0
    is_integer = keyword == "PixelData"
    used = short(data_set, "BitsStored") if is_integer else allocated
    signed = short(data_set, "PixelRepresentation") if is_integer else 0
    if used is None or signed is None:
        raise ValueError("BitsStored or PixelRepresentation is missing")
    if (keyword, allocated, signed) not in _TYPES:
        raise ValueError(f"{allocated} bits allocated ({keyword}, sign {signed}) are not read")
    if not 1 <= used <= allocated:
        raise ValueError(f"{used} bits stored in {allocated} allocated")
    if is_integer and short(data_set, "HighBit") not in (None, used - 1):
        # PS3.5 8.1.1: "The High Bit ... shall be one less than the Value of Bits Stored"
        raise ValueError(f"HighBit is {short(data_set, 'HighBit')} where {used} bits are stored")
    rows, columns = short(data_set, "Rows") or 0, short(data_set, "Columns") or 0
    photometric = text(data_set, "PhotometricInterpretation")
    return PixelFormat(rows, columns, keyword, allocated, used, bool(signed), photometric)


def _check_size(image: DicomImage) -> None:
    """Hold what the file claims against the limits, and against the bytes it has.

    Raises:
        InputError: a limit is broken.
        ValueError: there are fewer bytes than the frames need.
    """
    path, count, form = image.file.path, image.frame_count, image.format
    if max(form.rows, form.columns) > limits.MAX_AXIS:
        size = f"{form.rows}x{form.columns}"
        raise InputError(path, f"size {size}: an axis has {limits.MAX_AXIS} pixels at most")
    if count > limits.MAX_FRAMES:
        raise InputError(path, f"{count} frames; {limits.MAX_FRAMES} are the most")
    if count * form.frame_bytes > limits.MAX_VOLUME_BYTES:
        raise InputError(path, f"its pixels take {count * form.frame_bytes >> 20} MiB, too many")
    pixels = image.file.pixels
    assert pixels is not None
    if pixels.fragments is None and pixels.stop - pixels.value < count * form.frame_bytes:
        have, need = pixels.stop - pixels.value, count * form.frame_bytes
        raise ValueError(f"its pixel data has {have} bytes, its frames need {need}")


def _is_lossy(file: DicomFile, data_set: Dataset) -> bool:
    """PS3.3 C.7.6.1.1.5: once "01", Lossy Image Compression never goes back to "00"."""
    return file.syntax in _LOSSY_SYNTAXES or text(data_set, "LossyImageCompression") == "01"


def _padding(data_set: Dataset, form: PixelFormat) -> tuple[float, float] | None:
    """Stored values that mean "no pixel here"; an unreadable padding value pads nothing."""
    try:
        value = short(data_set, "PixelPaddingValue", signed=form.signed)
        end = short(data_set, "PixelPaddingRangeLimit", signed=form.signed)
    except ValueError:
        return None
    if value is None:
        return None
    both = (float(value), float(value if end is None else end))
    return min(both), max(both)


def _remarks(file: DicomFile, data_set: Dataset, form: PixelFormat, count: int) -> tuple[str, ...]:
    pixels = file.pixels
    assert pixels is not None
    remarks = []
    if _is_lossy(file, data_set):
        remarks.append("was compressed with loss before it came to us")
    if "ModalityLUTSequence" in data_set:
        remarks.append("real values come from a modality table, which travels with the headers")
    if "MOSAIC" in texts(data_set, "ImageType"):
        remarks.append("a mosaic: several slices lie side by side in each image")
    if not stored(data_set, "PixelSpacing") and stored(data_set, "ImagerPixelSpacing"):
        remarks.append("pixel spacing is that at the detector, not in the patient")
    spare = pixels.stop - pixels.value - count * form.frame_bytes
    if pixels.fragments is None and spare > 1:  # one byte makes the length even
        remarks.append(f"{spare} bytes behind the last frame are not sent as voxels")
    return tuple(remarks)
