"""NIfTI files: .nii and .nii.gz, NIfTI-1 and NIfTI-2, either byte order, scaled or not.

    open_nifti   the header alone, bounded          -> NiftiFile
    read_nifti   voxels into one preallocated array -> Volume

Stored values are not touched: no scaling, no swapping, no reorienting. The header goes along byte
for byte, so that the rebuilt .nii is the uncompressed source.

Attachment: exactly ``file[len(file_header):voxel_offset]``, the extension flag and extensions, or
no bytes where all of these are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from protocol import limits
from sender.read.magic import GZIP_MAGIC
from sender.read.nifti_header import (
    NIFTI1_BYTES,
    NiftiHeader,
    header_bytes,
    header_of_one_volume,
    parse_header,
)
from sender.read.streams import (
    MAX_RATIO,
    GzipStream,
    PlainStream,
    Stream,
    open_file,
)
from shared.errors import InputError, SettingsError
from shared.header import SeriesHeader, Source
from shared.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".nii", ".nii.gz")
PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
_BOMB_BYTES = 512 << 20
"""A file that claims more than this must also be `MAX_RATIO` times smaller at most: deflate alone
reaches 1032, real masks 600, but no real half gigabyte does."""


@dataclass(frozen=True, slots=True)
class NiftiFile:
    """A file whose header is known and bounded, and whose voxels have not been read."""

    path: Path
    header: NiftiHeader
    label: str


def is_nifti(path: Path) -> bool:
    """Whether a file's content, whatever its name, begins like a single-file NIfTI."""
    try:
        with open_file(path) as file:
            stream = _stream(file, path)
            start = bytearray(NIFTI1_BYTES)
            stream.read_into(memoryview(start))
    except InputError:
        return False
    return start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"


def open_nifti(path: Path) -> NiftiFile:
    """Read and check a file's header.

    Raises:
        UnsupportedKind: its voxels are of a kind that is not sent.
        InputError: it is damaged or breaks a limit.
    """
    with open_file(path) as file:
        header = _read_header(_stream(file, path), path)
    return NiftiFile(path, header, _label(path))


def read_nifti(file: NiftiFile, *, volume: int | None) -> Volume:
    """The voxels of one volume.

    Args:
        file: from `open_nifti`.
        volume: which one of a 4-D file, counted from 0.

    Raises:
        InputError: the file is damaged, or 4-D and ``volume`` is None.
        SettingsError: there is no such volume.
    """
    index = pick_volume(file, volume)
    with open_file(file.path) as opened:
        stream = _stream(opened, file.path)
        header = _read_header(stream, file.path)
        _refuse_bomb(file.path, header)
        between = bytearray(header.voxel_offset - len(header.raw))
        stream.read_into(memoryview(between))
        voxels = _read_voxels(stream, header, index, file.path)
        stream.skip((header.volumes - 1 - index) * header.volume_bytes)
        extra = stream.finish()
    return _volume(file, header, voxels, bytes(between), index, extra)


def pick_volume(file: NiftiFile, volume: int | None) -> int:
    """The index of the volume to read.

    Raises:
        InputError: the file is 4-D and none is named.
        SettingsError: there is no such volume.
    """
    count = file.header.volumes
    if volume is None:
        if count > 1:
            raise InputError(
                file.path, f"holds {count} volumes: name one with --volume 0..{count - 1}"
            )
        return 0
    if not 0 <= volume < count:
        choices = f"0..{count - 1}" if count > 1 else "0, it is 3-D"
        raise SettingsError(f"--volume {volume}: {file.path} has {choices}")
    return volume


def _stream(file: BinaryIO, path: Path) -> Stream:
    packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    return GzipStream(file, path) if packed else PlainStream(file, path)


def _read_header(stream: Stream, path: Path) -> NiftiHeader:
    raw = bytearray(NIFTI1_BYTES)
    stream.read_into(memoryview(raw))
    rest = bytearray(header_bytes(bytes(raw[:4]), path) - NIFTI1_BYTES)
    stream.read_into(memoryview(rest))
    return parse_header(bytes(raw + rest), path)


def _refuse_bomb(path: Path, header: NiftiHeader) -> None:
    claimed = header.volumes * header.volume_bytes
    size = path.stat().st_size
    if claimed > max(_BOMB_BYTES, MAX_RATIO * size):
        raise InputError(path, f"claims {claimed >> 20} MiB of voxels in a file of {size} bytes")


def _read_voxels(stream: Stream, header: NiftiHeader, index: int, path: Path) -> NDArray[Any]:
    stream.skip(index * header.volume_bytes)
    try:
        voxels: NDArray[Any] = np.empty(header.shape, dtype=header.dtype)
    except MemoryError:
        raise InputError(
            path, f"needs {header.volume_bytes >> 20} MiB of memory, more than there is"
        ) from None
    stream.read_into(voxels.reshape(-1).view(np.uint8).data)
    return voxels


def _volume(
    file: NiftiFile,
    header: NiftiHeader,
    voxels: NDArray[Any],
    between: bytes,
    index: int,
    extra: int,
) -> Volume:
    remarks = list(header.remarks)
    if extra:
        remarks.append(f"{extra} bytes behind the last voxel are not sent")
    of_many = header.volumes > 1
    series = SeriesHeader(
        source=Source.NIFTI,
        label=f"{file.label}, volume {index}" if of_many else file.label,
        modality="",
        shape=header.shape,
        dtype=header.dtype.str,
        affine=header.affine,
        affine_known=header.affine_known,
        slope=header.slope,
        intercept=header.intercept,
        file_header=header_of_one_volume(header) if of_many else header.raw,
        voxel_offset=header.voxel_offset,
        remarks=tuple(remarks),
    )
    attachment = between if any(between) else b""
    return Volume(series, voxels, attachment=partial(bytes, attachment))


def _label(path: Path) -> str:
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    return "".join(c if c.isprintable() else " " for c in name)[: limits.MAX_TEXT - 32]
