"""Compressed pixel data: the fragments it lies in, and which of them make a frame.

PS3.5 A.4: "The Value Field is encoded as a Sequence of Items". The first item is a table of where
frames begin, often empty; every other is a fragment; a sequence delimiter ends them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

MAX_FRAGMENTS = 100_000
"""Of one file: ten for each of the most frames."""
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
"""(FFFE,E000) and (FFFE,E0DD), little-endian: compressed pixel data is never anything else."""
_END_BYTES = 10
"""Where an end marker is looked for: the last bytes of a fragment, padding included."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of compressed pixel data."""

    item: int
    """Where its item begins, counted from the first item behind the offset table (PS3.5 A.4)."""
    start: int
    """Where its bytes begin in the file."""
    size_bytes: int


def walk_fragments(
    file: BinaryIO, start: int, size_bytes: int
) -> tuple[tuple[int, ...], tuple[Fragment, ...], int]:
    """The offset table and fragments of compressed pixel data, and where the element ends.

    Raises:
        ValueError: the element has no end inside the file.
    """
    file.seek(start)
    offsets: tuple[int, ...] = ()
    fragments: list[Fragment] = []
    first = None
    while True:
        head = file.read(8)
        if head[:4] == _DELIMITER and len(head) == 8:
            return offsets, tuple(fragments), file.tell()
        length = int.from_bytes(head[4:], "little")
        value = file.tell()
        if len(head) < 8 or head[:4] != _ITEM or length > size_bytes - value:
            raise ValueError("its compressed pixel data has no end")
        if first is None:
            first = value + length
            offsets = struct.unpack(f"<{length // 4}L", file.read(length // 4 * 4))
        elif len(fragments) == MAX_FRAGMENTS:
            raise ValueError(f"its pixel data has more than {MAX_FRAGMENTS} fragments")
        else:
            fragments.append(Fragment(value - 8 - first, value, length))
        file.seek(value + length)


def frame_fragments(
    fragments: tuple[Fragment, ...], offsets: tuple[int, ...], count: int, file: BinaryIO
) -> tuple[tuple[Fragment, ...], ...]:
    """Which fragments make each frame (PS3.5 A.4).

    Raises:
        ValueError: nothing says where frames begin, or too few do.
    """
    items = {fragment.item: at for at, fragment in enumerate(fragments)}
    if len(offsets) == count and all(offset in items for offset in offsets):
        bounds = [*(items[offset] for offset in offsets), len(fragments)]
    elif len(fragments) == count:
        bounds = [*range(count + 1)]
    elif count == 1:
        bounds = [0, len(fragments)]
    else:  # JPEG's and JPEG 2000's end markers are alike, and the last bytes of a frame
        ends = [_ends_frame(fragment, file) for fragment in fragments]
        bounds = [0, *(at for at, end in enumerate(ends, start=1) if end)]
    frames = tuple(fragments[start:stop] for start, stop in pairwise(bounds))
    if len(frames) != count or not all(frames):
        raise ValueError(f"{len(fragments)} pieces of pixel data do not make {count} frames")
    return frames


def _ends_frame(fragment: Fragment, file: BinaryIO) -> bool:
    size = min(_END_BYTES, fragment.size_bytes)
    return b"\xff\xd9" in read_exactly(file, fragment.start + fragment.size_bytes - size, size)


def read_exactly(file: BinaryIO, start: int, size: int) -> bytes:
    """Bytes from anywhere in a file.

    Raises:
        ValueError: it ends before them.
    """
    file.seek(start)
    found = file.read(size)
    if len(found) != size:
        raise ValueError(f"it ends {size - len(found)} bytes too early")
    return found
