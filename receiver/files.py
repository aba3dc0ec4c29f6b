"""One series on the clinic's disk: the growing volume and its quality map, as NIfTI from the start.

    series-1.partial.nii            voxels; those that are missing hold the fill value
    series-1.partial.quality.nii    uint8, `shared.layer.Quality` of every voxel
    series-1.partial.journal        what has been verified, a JSON line a layer
    series-1.nii                    in their place, once every voxel is proven

The files are memory-mapped: what has arrived can be opened by any viewer at any moment, is never
held twice, and survives this process. Names come from us, never from the peer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.layer import Quality

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.geometry import Affine, Triple
    from shared.header import SeriesHeader

_DESCRIP = {348: (148, 80), 540: (240, 80)}
"""Offset and size of ``descrip`` in NIfTI-1 and NIfTI-2 headers."""
_PARTIAL = b"PARTIAL: see the quality map beside this file"
_LEGEND = b"medroi: 0 missing 1 discarded 2 preview 3 bounded 4 exact 5 verified"
_QUALITY_OFFSET = 352


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
        """The files of a series, and whether they were there already."""
        voxels_path, quality_path = _partial(folder, stem), _quality(folder, stem)
        resumed = _is_whole(voxels_path, header) and quality_path.is_file()
        if not resumed:
            _create(voxels_path, header)
            _create_quality(quality_path, header.shape, header.affine)
        files = cls(
            folder,
            stem,
            header,
            np.memmap(voxels_path, header.dtype, "r+", header.voxel_offset, header.shape),
            np.memmap(quality_path, np.uint8, "r+", _QUALITY_OFFSET, header.shape),
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
        return self.folder / f"{self.stem}.partial.journal"

    def clear(self) -> None:
        """Set every voxel that is not VERIFIED to the fill value and MISSING."""
        fill = fill_value(np.dtype(self.header.dtype))
        for plane, known in zip(self.voxels, self.quality, strict=True):
            lost = known != Quality.VERIFIED
            plane[lost] = fill
            known[lost] = Quality.MISSING

    def sync(self) -> None:
        """Put what has been painted on the disk."""
        for mapped in (self.voxels, self.quality):
            assert isinstance(mapped, np.memmap)
            mapped.flush()

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
        sync_folder(self.folder)
        return final

    def attach(self, headers: bytes) -> Path:
        """Keep a DICOM series' headers beside its volume."""
        path = self.folder / f"{self.stem}.dicom-headers.zip"
        path.write_bytes(headers)
        return path


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _partial(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.nii"


def _quality(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.partial.quality.nii"


def _is_whole(path: Path, header: SeriesHeader) -> bool:
    z, y, x = header.shape
    size = header.voxel_offset + z * y * x * np.dtype(header.dtype).itemsize
    return path.is_file() and path.stat().st_size == size


def _create(path: Path, header: SeriesHeader) -> None:
    """A file of the right size whose header says that it is partial. Room is reserved now, so that
    a full disk is found before the study is accepted."""
    z, y, x = header.shape
    size = header.voxel_offset + z * y * x * np.dtype(header.dtype).itemsize
    start, room = _DESCRIP[len(header.file_header)]
    marked = bytearray(header.file_header)
    marked[start : start + room] = _PARTIAL.ljust(room, b"\0")
    _reserve(path, bytes(marked), size)


def _create_quality(path: Path, shape: Triple, affine: Affine) -> None:
    import nibabel

    map_header: Any = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    map_header.set_data_dtype(np.uint8)
    map_header.set_data_shape(shape[::-1])
    map_header.set_sform(np.reshape(affine, (4, 4)), code=1)
    map_header.set_xyzt_units("mm")
    map_header["descrip"] = _LEGEND
    map_header["vox_offset"] = _QUALITY_OFFSET
    map_header["magic"] = b"n+1"
    z, y, x = shape
    _reserve(path, map_header.binaryblock, _QUALITY_OFFSET + z * y * x)


def _reserve(path: Path, head: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(head)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
