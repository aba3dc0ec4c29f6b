"""What came of a study and proved wrong, kept aside to be looked at: it is part of no volume.

    quarantine/0001.bin          the bytes as they came
    quarantine/index.jsonl       a JSON line for each: why, and of which encoding

Chunks whose hash was wrong, and encodings that did not decode to what was declared. Names come from
us. How much is kept is bounded, or a peer could fill the disk; what is beyond is still counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from shared.folders import own_folder, require_room

if TYPE_CHECKING:
    from pathlib import Path

NAME = "quarantine"
_INDEX = "index.jsonl"
_MOST_PIECES = 32
_MOST_BYTES = 64 << 20


class Quarantine:
    """Of one study's folder. Blocking; one worker at a time uses it."""

    def __init__(self, study: Path) -> None:
        self._folder = study / NAME
        self.count = 0
        """Since this process has had the study."""

    def put(self, content: bytes, *, why: str, encoding: int, offset: int = 0) -> None:
        """Keep bytes aside, if there is room for more.

        Args:
            encoding: its number in the session.
            offset: where in the encoding the bytes lay.

        Raises:
            OSError: the disk does not take them.
        """
        self.count += 1
        own_folder(self._folder)
        kept = list(self._folder.glob("*.bin"))
        size = sum(path.stat().st_size for path in kept) + len(content)
        name = None
        if len(kept) < _MOST_PIECES and size <= _MOST_BYTES:
            require_room(self._folder, len(content))
            name = f"{len(kept) + 1:04}.bin"
            _append(self._folder / name, content)
        elif self.count > _MOST_PIECES:
            return  # the index has its bound as well
        line = {
            "why": why,
            "encoding": encoding,
            "offset": offset,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "file": name,
        }
        _append(self._folder / _INDEX, (json.dumps(line) + "\n").encode())


def _append(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
