"""One DICOM file up to its pixels: its elements, and where the pixel data element lies.

    preamble | meta (group 2) | data set ... | pixel data element | what follows it
    0                         body             start    value      stop

Positions count in the file as it would be without deflate: for the deflated syntax, ``body`` is
where the inflated data set begins and everything behind it counts in inflated bytes. Pixels are
not read here, and no value longer than `MAX_VALUE_BYTES`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from sender.read.dicom_fragments import Fragment, walk_fragments
from sender.read.dicom_values import code, refusing_damage, text, very_longs
from sender.read.magic import START_BYTES, has_preamble, may_be_bare
from sender.read.streams import inflate_data_set, open_file
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

MAX_VALUE_BYTES = 64 << 20
"""Of one element that is read: the functional groups of ten thousand frames need a third of it."""
UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_KEYWORDS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_WANTED = [
    Tag(tag)
    for keyword in (
        "SpecificCharacterSet", "RecognitionCode", "ImageType", "SOPClassUID", "SOPInstanceUID",
        "StudyDate", "AccessionNumber", "Modality", "StudyDescription", "SeriesDescription",
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "SliceThickness",
        "EchoNumbers", "SpacingBetweenSlices", "GantryDetectorTilt", "ImagerPixelSpacing",
        "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber",
        "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
        "TemporalPositionIdentifier", "SamplesPerPixel", "PhotometricInterpretation",
        "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
        "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
        "RescaleIntercept", "RescaleSlope", "LossyImageCompression", "ModalityLUTSequence",
        "GridFrameOffsetVector", "DoseGridScaling", "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
    )
    if (tag := tag_for_keyword(keyword)) is not None
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data element lies, header and value."""

    keyword: str
    vr: str
    start: int
    value: int
    stop: int
    offsets: tuple[int, ...] = ()
    """Where each frame's first item begins, by the basic or the extended table; often empty."""
    fragments: tuple[Fragment, ...] | None = None
    """None where the pixels are not compressed."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file whose header has been read. Its elements stand apart: they are dropped once they have
    been looked at, or they would add up over thousands of slices."""

    path: Path
    size_bytes: int
    """Of the file on disk."""
    unpacked_bytes: int
    """Without deflate; the same for other syntaxes."""
    changed_ns: int
    syntax: str
    """Transfer Syntax UID."""
    body: int
    deflated: bool
    pixels: PixelElement | None
    remarks: tuple[str, ...]


def open_dicom(path: Path) -> tuple[DicomFile, Dataset] | None:
    """Read a file's header: where things lie, and its elements.

    Returns:
        None where the file is not DICOM at all.

    Raises:
        InputError: it is DICOM, but damaged or older than DICOM.
    """
    with open_file(path) as file:
        start = file.read(START_BYTES)
        if has_preamble(start):
            with refusing_damage(path):
                return _read(file, path)
        if not may_be_bare(start):
            return None
        file.seek(0)
        try:
            with refusing_damage(path):
                found, data_set = _read(file, path)
                recognition = code(data_set, "RecognitionCode")
                sop_class = text(data_set, "SOPClassUID")
        except InputError:  # not even a preamble: it may be anything
            return None
    if recognition.startswith("ACR-NEMA"):
        raise InputError(path, f"{recognition}, a format older than DICOM, is not read")
    return (found, data_set) if sop_class else None


def reopen(file: DicomFile) -> BinaryIO:
    """The file to seek in, inflated where it has to be; positions are those of `DicomFile`.

    Raises:
        InputError: it has changed since its header was read.
    """
    opened = open_file(file.path)
    state = os.fstat(opened.fileno())
    if (state.st_size, state.st_mtime_ns) != (file.size_bytes, file.changed_ns):
        opened.close()
        raise InputError(file.path, "changed while it was being read")
    if not file.deflated:
        return opened
    with opened:
        return _inflated(opened, file.body, file.path)


def _read(file: BinaryIO, path: Path) -> tuple[DicomFile, Dataset]:
    """The header, from the first byte behind the preamble."""
    state = os.fstat(file.fileno())
    unpacked_bytes = state.st_size
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        meta = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=_behind_meta
        )
        syntax = text(meta, "TransferSyntaxUID")
        body = file.tell()
        if deflated := syntax == DeflatedExplicitVRLittleEndian:
            file = _inflated(file, body, path)
            unpacked_bytes = len(file.getbuffer())
        syntax = syntax or _guess_syntax(file)
        finder = _PixelFinder(file)
        data_set = read_dataset(
            file,
            is_implicit_VR=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
            stop_when=finder,
            defer_size=MAX_VALUE_BYTES,
            specific_tags=list(_WANTED),
        )
    remarks = tuple(dict.fromkeys(str(warning.message) for warning in heard))
    pixels = finder.element(unpacked_bytes, very_longs(data_set, "ExtendedOffsetTable"))
    ended = body >= unpacked_bytes or any("End of file" in remark for remark in remarks)
    if ended or (pixels is None and finder.cut_short(unpacked_bytes)):
        raise ValueError("it ends in the middle of its header")
    found = DicomFile(
        path=path,
        size_bytes=state.st_size,
        unpacked_bytes=unpacked_bytes,
        changed_ns=state.st_mtime_ns,
        syntax=syntax,
        body=body,
        deflated=deflated,
        pixels=pixels,
        remarks=remarks,
    )
    return found, data_set


def _inflated(file: BinaryIO, body: int, path: Path) -> BytesIO:
    """The whole file without deflate, positioned at its data set."""
    file.seek(0)
    unpacked = BytesIO(file.read(body) + inflate_data_set(file.read(), path))
    unpacked.seek(body)
    return unpacked


def _behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _guess_syntax(file: BinaryIO) -> str:
    """The native syntax of a data set that does not name one, from its first element."""
    start = file.read(6)
    file.seek(-len(start), os.SEEK_CUR)
    if not start[4:6].isalpha() or not start[4:6].isupper():
        return ImplicitVRLittleEndian
    # a first group of 8 or so, read in the wrong byte order, is at least 0x0100
    return ExplicitVRLittleEndian if start[1] == 0 else ExplicitVRBigEndian


class _PixelFinder:
    """Stops pydicom at the pixel data element and remembers where that is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._keyword = ""
        self._value, self._length = file.tell(), 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        """Called for every element, when its header has been read; pydicom goes back over that of
        the pixel data."""
        self._value, self._length = self._file.tell(), length
        if tag not in _PIXEL_KEYWORDS:
            return False
        self._keyword, self._vr = _PIXEL_KEYWORDS[tag], vr or "OW"
        return True

    def cut_short(self, size_bytes: int) -> bool:
        """Whether a file without pixels ends inside its last element, or inside the header of what
        would have been the next."""
        if self._length == UNDEFINED_LENGTH:
            return False  # pydicom has seen its end
        end = self._value + self._length
        self._file.seek(min(end, size_bytes))
        return end > size_bytes or any(self._file.read(8)[:7])

    def element(self, size_bytes: int, extended_offsets: tuple[int, ...]) -> PixelElement | None:
        """The element, its fragments walked; None where the file has no pixels."""
        if not self._keyword:
            return None
        start, stop = self._file.tell(), self._value + self._length
        if self._length != UNDEFINED_LENGTH:
            if stop > size_bytes:
                raise ValueError(f"its pixel data ends {stop - size_bytes} bytes too early")
            return PixelElement(self._keyword, self._vr, start, self._value, stop)
        offsets, fragments, stop = walk_fragments(self._file, self._value, size_bytes)
        offsets = extended_offsets or offsets
        return PixelElement(self._keyword, self._vr, start, self._value, stop, offsets, fragments)
