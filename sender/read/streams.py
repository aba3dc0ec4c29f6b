"""Bytes out of a file, plain or compressed, never more of them than the caller asked for.

A compressed file says nothing reliable about its size, so nothing here inflates "everything":
`read_into` fills a buffer the caller has already bounded, and `inflate_data_set` stops at a limit.
Both raise `InputError` in one sentence where the bytes end early, are damaged or go on too long.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, BinaryIO, Protocol

from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MAX_TRAILING_BYTES = 1 << 20
"""What may follow the last voxel inside a gzip member before the file counts as a bomb."""
MAX_DATA_SET_BYTES = 256 << 20
"""Of one deflated DICOM file, inflated: the largest mammograms are a quarter of it."""
MAX_RATIO = 200
"""Inflated over packed, above `FREE_BYTES`: masks reach 600, yet stay small (measured)."""
FREE_BYTES = 16 << 20
_STEP_BYTES = 1 << 18
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
"""zlib.h: adding 16 decodes a gzip member, checks its CRC-32 and its length."""


class Stream(Protocol):
    """Bytes in order, from the start of a file."""

    def read_into(self, target: memoryview) -> None:
        """Fill ``target``.

        Raises:
            InputError: the file ends before, or its compression is damaged.
        """
        ...

    def skip(self, count: int) -> None:
        """Pass over bytes, checking them like bytes that are read."""
        ...

    def finish(self) -> int:
        """Check the end of the file; how many bytes lay behind what was read.

        Raises:
            InputError: a checksum is wrong, or there is more than a header would explain.
        """
        ...


class PlainStream:
    """An uncompressed file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path

    def read_into(self, target: memoryview) -> None:
        """Fill ``target`` from the file, without a copy between."""
        while target:  # one read gives 2 GiB at most (read(2))
            count = self._file.readinto(target)  # type: ignore[attr-defined]
            if not count:
                raise _ends_early(self._path, len(target))
            target = target[count:]

    def skip(self, count: int) -> None:
        """Seek over bytes; `finish` sees where the file ends before them."""
        self._file.seek(count, os.SEEK_CUR)

    def finish(self) -> int:
        """How many bytes are left."""
        left = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if left < 0:
            raise _ends_early(self._path, -left)
        return left


class GzipStream:
    """A file of exactly one gzip member, inflated a step at a time."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._inflater = zlib.decompressobj(_GZIP_WINDOW)

    def read_into(self, target: memoryview) -> None:
        """Inflate into ``target``."""
        filled = 0
        while filled < len(target):
            part = self._inflate(min(len(target) - filled, _STEP_BYTES))
            if not part:
                raise _ends_early(self._path, len(target) - filled)
            target[filled : filled + len(part)] = part
            filled += len(part)

    def skip(self, count: int) -> None:
        """Inflate and drop bytes."""
        scratch = memoryview(bytearray(min(count, _STEP_BYTES)))
        while count > 0:
            self.read_into(scratch[:count])
            count -= min(count, len(scratch))

    def finish(self) -> int:
        """Inflate to the member's end, where zlib checks CRC and length."""
        extra = 0
        while part := self._inflate(_STEP_BYTES):
            extra += len(part)
            if extra > MAX_TRAILING_BYTES:
                raise InputError(self._path, "goes on long after its last voxel: refused as a bomb")
        if self._inflater.unused_data or self._file.read(1):
            raise InputError(self._path, "damaged: bytes follow the end of its gzip member")
        return extra

    def _inflate(self, limit: int) -> bytes:
        """At most ``limit`` bytes; none only where the member ends."""
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(_STEP_BYTES)
            try:
                part = self._inflater.decompress(packed, limit)
            except zlib.error as error:
                raise InputError(self._path, f"damaged: its gzip stream is bad ({error})") from None
            if part:
                return part
            if not packed and not self._inflater.eof:
                raise InputError(self._path, "truncated: its gzip member has no end")
        return b""


def open_file(path: Path) -> BinaryIO:
    """The file, to read.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(path, f"cannot be opened ({error.strerror})") from None


def inflate_data_set(packed: bytes, path: Path) -> bytes:
    """A deflated DICOM data set (PS3.5 A.5), inflated under a limit.

    Raises:
        InputError: the stream is damaged, has no end, or grows past the limit.
    """
    limit = min(MAX_DATA_SET_BYTES, max(FREE_BYTES, MAX_RATIO * len(packed)))
    # Measured before anything is kept: a bomb below the limit would take twice as much otherwise.
    size, inflater, rest = 0, zlib.decompressobj(-zlib.MAX_WBITS), packed
    try:
        while not inflater.eof and size <= limit:
            step = len(inflater.decompress(rest, _STEP_BYTES))
            if not step and not inflater.unconsumed_tail:
                break
            size, rest = size + step, inflater.unconsumed_tail
    except zlib.error as error:
        raise InputError(path, f"damaged: its deflated data set is bad ({error})") from None
    if size > limit:
        raise InputError(path, f"inflates to more than {limit >> 20} MiB: refused as a bomb")
    if not inflater.eof:
        raise InputError(path, "truncated: its deflated data set has no end")
    return zlib.decompress(packed, -zlib.MAX_WBITS, size or 1)


def _ends_early(path: Path, missing: int) -> InputError:
    return InputError(path, f"truncated: its voxels end {missing} bytes too early")
