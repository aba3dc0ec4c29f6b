"""The headers layer of one series on its way in, on disk: a peer may make it large, and cheaply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.folders import require_room

if TYPE_CHECKING:
    from pathlib import Path


class Attachment:
    """Its pieces, in the order in which they come, in a file that is there only meanwhile.

    Blocking; run its methods in a worker, one at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pieces: dict[int, tuple[int, int]] = {}
        self._end = 0
        path.unlink(missing_ok=True)

    def put(self, block: int, piece: bytes) -> None:
        """Keep a piece; the newest of a number counts.

        Raises:
            OSError: the disk does not take it.
        """
        require_room(self._path.parent, len(piece))
        with self._path.open("ab") as file:
            file.write(piece)
        self._pieces[block] = self._end, len(piece)
        self._end += len(piece)

    def take(self) -> bytes:
        """All of it, in the order of its pieces' numbers; the file goes."""
        if not self._pieces:
            return b""
        parts = []
        with self._path.open("rb") as file:
            for block in sorted(self._pieces):
                start, size = self._pieces[block]
                file.seek(start)
                parts.append(file.read(size))
        self._path.unlink()
        return b"".join(parts)
