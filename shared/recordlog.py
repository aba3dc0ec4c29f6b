"""An append-only file of records that survives being torn: what both ends keep of a session.

    head (fixed by its user) | record ...
    record:  kind (u8)  length (u32)  CRC-32C (u32)  content

Network byte order; the CRC is over kind, length and content. When a log is read back, what was torn
at its end is cut off; a damaged record with a sound one right behind it is a fault of the disk, and
is passed over.

Blocking; one thread at a time uses a log.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c

from shared.folders import require_room, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_RECORD_BYTES = 80 << 20
_RECORD = struct.Struct("!BI")
_CRC = struct.Struct("!I")
_HEAD_BYTES = _RECORD.size + _CRC.size


class Record(NamedTuple):
    """One entry."""

    kind: int
    content: bytes


class RecordLog:
    """A log that is open for appending. `close` must follow."""

    def __init__(self, path: Path, head: bytes, records: Iterable[Record] = ()) -> None:
        """A new one with these records, on the disk before it takes the place of any other.

        Raises:
            OSError: the disk does not take it; what lay there is as it was.
        """
        self.path = path
        self.damaged: list[bytes] = []
        part = path.with_name(path.name + ".part")
        self._file = part.open("w+b", buffering=0)
        try:
            self._file.write(head)
            self._end = len(head)
            self.append(records)
            part.replace(path)
            sync_folder(path.parent)
        except OSError:
            self._file.close()
            part.unlink(missing_ok=True)
            raise

    @classmethod
    def reopen(cls, path: Path, head: bytes) -> RecordLog:
        """The log that lies there; `replay` must follow, to its end.

        Raises:
            OSError: there is none, or it cannot be written.
        """
        log = cls.__new__(cls)
        log.path, log._end = path, len(head)
        log.damaged = []
        log._file = path.open("r+b", buffering=0)
        return log

    def replay(self) -> Iterator[tuple[Record, int]]:
        """Each record, with where its content begins; then the log is cut where it was torn.

        What is damaged in the middle is in ``damaged`` afterwards. Whoever stops early has the rest
        cut off as well.
        """
        size = os.fstat(self._file.fileno()).st_size
        try:
            while True:
                found = self._read(self._end, size)
                if found is not None:
                    yield found
                    record, at = found
                    self._end = at + len(record.content)
                elif (behind := self._behind_damage(size)) is not None:
                    self.damaged.append(self.read(self._end, behind - self._end))
                    self._end = behind
                else:
                    return
        finally:
            self._file.truncate(self._end)

    def append(self, records: Iterable[Record], *, sync: bool = True) -> list[int]:
        """Write records; where the content of each begins.

        Args:
            sync: have them on the disk when this returns, or else only with the kernel.

        Raises:
            OSError: the disk does not take them; the log is as it was.
        """
        parts: list[bytes] = []
        places: list[int] = []
        end = self._end
        for kind, content in records:
            head = _RECORD.pack(kind, len(content))
            crc = google_crc32c.extend(google_crc32c.value(head), content)
            parts += (head, _CRC.pack(crc), content)
            places.append(end + _HEAD_BYTES)
            end = places[-1] + len(content)
        require_room(self.path.parent, end - self._end)
        try:
            _write_all(self._file.fileno(), b"".join(parts), self._end)
            if sync:
                os.fdatasync(self._file.fileno())
        except OSError:
            # Later, shorter records must not lead a replay on into what was not taken.
            self._file.truncate(self._end)
            raise
        self._end = end
        return places

    def lock(self) -> bool:
        """Keep other processes from using this log until it is closed; False if one does."""
        try:
            import fcntl
        except ImportError:  # not a Unix
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def read(self, at: int, size: int) -> bytes:
        """A part of a record's content."""
        return os.pread(self._file.fileno(), size, at)

    def close(self) -> None:
        """Safe to call twice."""
        self._file.close()

    def _read(self, start: int, size: int) -> tuple[Record, int] | None:
        """The record that starts there and where its content begins, if it is whole and sound."""
        head, at = self.read(start, _HEAD_BYTES), start + _HEAD_BYTES
        if len(head) < _HEAD_BYTES:
            return None
        kind, length = _RECORD.unpack_from(head)
        if length > min(MAX_RECORD_BYTES, size - at):
            return None
        content = self.read(at, length)
        crc = google_crc32c.extend(google_crc32c.value(head[: _RECORD.size]), content)
        return (Record(kind, content), at) if _CRC.pack(crc) == head[_RECORD.size :] else None

    def _behind_damage(self, size: int) -> int | None:
        """Where a sound record stands behind a damaged one, by the length that this one says."""
        head = self.read(self._end, _HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            return None
        behind: int = self._end + _HEAD_BYTES + _RECORD.unpack_from(head)[1]
        return behind if self._read(behind, size) is not None else None


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of a log; fewer where it is shorter, none where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _write_all(handle: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(handle, view, at)
        view, at = view[written:], at + written
