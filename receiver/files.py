"""One series on the clinic's disk: the growing volume and its quality map, as NIfTI from the start.

    series-1.partial.nii            voxels; those that are missing hold the fill value
    series-1.partial.quality.nii    uint8, `shared.layer.Quality` of every voxel
    series-1.partial.journal        what has been verified, a JSON line a layer
    series-1.partial.previews       what is shown as a preview, and how far off it may be
    series-1.partial.headers        pieces of the headers layer
    series-1.nii                    in their place, once every voxel is proven

The files are memory-mapped: what has arrived can be opened by any viewer at any moment, is never
held twice, and survives this process. Names come from us, never from the peer.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.folders import require_room, sync_folder
from shared.layer import Quality

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.geometry import Affine, Triple
    from shared.header import SeriesHeader

_DESCRIP = {348: (148, 80), 540: (240, 80)}
"""Offset and size of ``descrip`` in NIfTI-1 and NIfTI-2 headers."""
_PARTIAL = b"PARTIAL: see the quality map beside this file"
_LEGEND = " ".join(["medroi:", *(f"{level:d} {level.word}" for level in Quality)]).encode()
QUALITY_OFFSET = 352
"""Of the first voxel's byte in a quality map."""


def fill_value(dtype: np.dtype[Any]) -> float | int:
    """What missing voxels hold: NaN, or the integer type's extreme that no scanner writes."""
    if dtype.kind == "f":
        return float("nan")
    limits = np.iinfo(dtype)
    return int(limits.min if dtype.kind == "i" else limits.max)


@dataclass(slots=True)
class SeriesFiles:
    """The files of one series while it grows. Blocking; run its methods in a worker."""

    folder: Path
    stem: str
    header: SeriesHeader
    voxels: NDArray[Any]
    """(z, y, x), mapped, in the byte order of the source."""
    quality: NDArray[np.uint8]
    """(z, y, x), mapped."""

    @classmethod
    def open(cls, folder: Path, stem: str, header: SeriesHeader) -> tuple[SeriesFiles, bool]:
        """The files of a series, and whether they were there already.

        Raises:
            OSError: the disk does not take them; then none of them is left on it.
        """
        voxels_path, quality_path = _partial(folder, stem), _quality(folder, stem)
        sizes = _sizes(header)
        resumed = _has_size(voxels_path, sizes[0]) and _has_size(quality_path, sizes[1])
        if not resumed:
            require_room(folder, sum(sizes))
            _journal(folder, stem).unlink(missing_ok=True)
            _previews(folder, stem).unlink(missing_ok=True)
        # Headers are written anew each time: the ones that lie there may be of other byte order.
        try:
            mode = "r+b" if resumed else "wb"
            _put(voxels_path, mode, _partial_header(header), sizes[0])
            _put(quality_path, mode, _quality_header(header.shape, header.affine), sizes[1])
        except OSError:
            if not resumed:
                remove_series(folder, stem)
            raise
        files = cls(
            folder,
            stem,
            header,
            np.memmap(voxels_path, header.dtype, "r+", header.voxel_offset, header.shape),
            np.memmap(quality_path, np.uint8, "r+", QUALITY_OFFSET, header.shape),
        )
        if not resumed:
            fill = fill_value(np.dtype(header.dtype))
            for plane in files.voxels:
                plane[...] = fill
        return files, resumed

    @property
    def path(self) -> Path:
        """The volume while it grows."""
        return _partial(self.folder, self.stem)

    @property
    def journal(self) -> Path:
        """Where verified layers are written down."""
        return _journal(self.folder, self.stem)

    @property
    def previews(self) -> Path:
        """Where previews are written down."""
        return _previews(self.folder, self.stem)

    @property
    def quality_path(self) -> Path:
        """The quality map while the volume grows."""
        return _quality(self.folder, self.stem)

    @property
    def headers(self) -> Path:
        """Where the headers layer is kept while it comes."""
        return _headers(self.folder, self.stem)

    def clear(self) -> None:
        """Set every voxel of which nothing has come to the fill value and MISSING."""
        fill = fill_value(np.dtype(self.header.dtype))
        for plane, known in zip(self.voxels, self.quality, strict=True):
            lost = known < Quality.PREVIEW
            known[lost] = Quality.MISSING
            plane[lost] = fill

    def sync(self) -> None:
        """Put what has been painted on the disk."""
        for mapped in (self.voxels, self.quality):
            assert isinstance(mapped, np.memmap)
            mapped.flush()

    def release(self) -> None:
        """Let go of the maps: nobody looks at the voxels through this any more."""
        self.voxels = np.empty((0, 0, 0), self.header.dtype)
        self.quality = np.empty((0, 0, 0), np.uint8)

    def finish(self, attachment: bytes) -> Path:
        """Give the proven volume its own header and name, synced; the partial files go.

        Args:
            attachment: the source's bytes between header and voxels, or none.
        """
        self.sync()
        path = _partial(self.folder, self.stem)
        final = self.folder / f"{self.stem}.nii"
        gap = self.header.voxel_offset - len(self.header.file_header)
        with path.open("r+b") as file:
            file.write(self.header.file_header)
            file.write(attachment[:gap].ljust(gap, b"\0"))
            file.flush()
            os.fsync(file.fileno())
        path.replace(final)
        _quality(self.folder, self.stem).unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)
        self.previews.unlink(missing_ok=True)
        sync_folder(self.folder)
        return final

    def attach(self, headers: bytes) -> Path:
        """Keep a DICOM series' headers beside its volume; `finish` makes their name durable."""
        path = self.folder / f"{self.stem}.dicom-headers.zip"
        with path.open("wb") as file:
            file.write(headers)
            file.flush()
            os.fsync(file.fileno())
        return path


def series_bytes(header: SeriesHeader) -> int:
    """What a series takes from the start: its voxels and its quality map."""
    return sum(_sizes(header))


def remove_series(folder: Path, stem: str) -> None:
    """Take away what there is of a growing series; and its folder, if nothing else is in it."""
    for name in (_partial, _quality, _journal, _previews, _headers):
        name(folder, stem).unlink(missing_ok=True)
    with suppress(OSError):  # it is not empty
        folder.rmdir()


def _partial(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.nii"


def _quality(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.quality.nii"


def _journal(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.journal"


def _previews(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.previews"


def _headers(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.headers"


def _sizes(header: SeriesHeader) -> tuple[int, int]:
    """Bytes of the voxels' file and of the quality map."""
    z, y, x = header.shape
    voxels = z * y * x
    return header.voxel_offset + voxels * np.dtype(header.dtype).itemsize, QUALITY_OFFSET + voxels


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _partial_header(header: SeriesHeader) -> bytes:
    """The source's header, saying that this is not the source."""
    start, room = _DESCRIP[len(header.file_header)]
    marked = bytearray(header.file_header)
    marked[start : start + room] = _PARTIAL.ljust(room, b"\0")
    return bytes(marked)


def _quality_header(shape: Triple, affine: Affine) -> bytes:
    import nibabel

    header: Any = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape[::-1])
    header.set_sform(np.reshape(affine, (4, 4)), code=1)
    header.set_xyzt_units("mm")
    header["descrip"] = _LEGEND
    header["vox_offset"] = QUALITY_OFFSET
    header["magic"] = b"n+1"
    return bytes(header.binaryblock)


def _put(path: Path, mode: str, head: bytes, size: int) -> None:
    """A header at the start of a file of this size. Room is reserved now, so that a full disk is
    found before the study is accepted."""
    with path.open(mode) as file:
        file.write(head)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
