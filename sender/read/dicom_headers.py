"""The headers of a DICOM series, whole: a zip of its files with only their pixels cut out.

    0001.dcm, 0002.dcm, ...   in slice order, a file that holds several slices once
    comment of an entry       where the pixel data element was cut out, so that it can go back

Each entry is the file byte for byte, without its pixel data element: preamble, meta information
and everything before and behind it come back as they were. Of a deflated file the inflated data set
is kept, and the comment says so. Nothing is compressed here: the headers layer has its own codec.

Made when the ROI is on its way, so files are opened again; one that has changed since is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING
from zipfile import ZipFile, ZipInfo

from protocol import limits
from sender.read.dicom_file import DicomFile, reopen
from sender.read.dicom_values import refusing_damage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sender.read.dicom_frames import Frame

_STEP_BYTES = 1 << 20
_ENTRY_BYTES = 256
"""What a zip spends on an entry: two headers, the name twice, the comment."""
TOO_LARGE = (
    f"headers of more than {limits.MAX_ATTACHMENT_BYTES >> 20} MiB are not sent: the rebuilt series"
    " has none"
)
INFLATED = "headers of deflated files are kept inflated"


@dataclass(frozen=True, slots=True)
class HeadersZip:
    """Makes the zip when it is called; can be sent to another process before that."""

    files: tuple[DicomFile, ...]

    @property
    def size_bytes(self) -> int:
        """About how large the zip will be."""
        return sum(_kept_bytes(file) + _ENTRY_BYTES for file in self.files)

    def __call__(self) -> bytes:
        """The zip.

        Raises:
            InputError: a file has gone or changed since its voxels were read.
        """
        packed = BytesIO()
        with ZipFile(packed, "w") as archive:
            for number, file in enumerate(self.files, start=1):
                entry = ZipInfo(f"{number:04}.dcm")  # dated 1980: zips of equal files are equal
                entry.comment = _comment(file).encode()
                with refusing_damage(file.path):
                    archive.writestr(entry, _without_pixels(file))
        return packed.getvalue()


def headers_of(frames: Iterable[Frame]) -> HeadersZip:
    """The headers of a stack's files, in slice order."""
    return HeadersZip(tuple(dict.fromkeys(frame.image.file for frame in frames)))


def _kept_bytes(file: DicomFile) -> int:
    assert file.pixels is not None
    return file.unpacked_bytes - (file.pixels.stop - file.pixels.start)


def _comment(file: DicomFile) -> str:
    pixels = file.pixels
    assert pixels is not None
    size = pixels.stop - pixels.start
    cut = f"{pixels.keyword} {pixels.vr} cut at byte {pixels.start}, {size} bytes"
    return f"{cut}; data set inflated" if file.deflated else cut


def _without_pixels(file: DicomFile) -> bytes:
    assert file.pixels is not None
    with reopen(file) as opened:
        opened.seek(0)
        before = opened.read(file.pixels.start)
        opened.seek(file.pixels.stop)
        return before + opened.read(limits.MAX_ATTACHMENT_BYTES)
