"""What has been verified of a series, so that a broken session can be resumed.

A line a layer, JSON: the box, its holes, and the digest of the voxels that lie in the one and not
in the others. A hole is a box, or a box with a mask in base64. Nothing in it is believed: on
resuming, every digest is computed again from the file. So the journal needs no syncing, and voxels
that did not reach the disk simply come again.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import CodecError
from shared.geometry import Box
from shared.mask import pack_mask, unpack_mask
from shared.ownership import Cut

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shared.ownership import Hole

_MAX_BYTES = 64 << 20
_MAX_HELD = 16_000
"""An Accept has room for this many digests; what is beyond is sent again."""


_BOX_FIELDS = 2


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One verified layer."""

    box: Box
    holes: tuple[Hole, ...]
    digest: bytes


def append_entry(path: Path, entry: JournalEntry) -> None:
    """Write a layer down."""
    with path.open("a") as file:
        file.write(_line(entry))


def write_entries(path: Path, entries: Iterable[JournalEntry]) -> None:
    """Have the journal say these layers and nothing else, or leave it as it is.

    What a crash has torn has to go, or nothing that is written behind it would be read again.
    """
    part = path.with_name(path.name + ".part")
    part.write_text("".join(map(_line, entries)))
    part.replace(path)


def read_entries(path: Path) -> list[JournalEntry]:
    """The layers written down; a torn or foreign line ends the list."""
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return []
    entries = []
    for line in path.read_text(errors="replace").splitlines()[:_MAX_HELD]:
        try:
            entries.append(_entry(line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, CodecError):
            break
    return entries


def _line(entry: JournalEntry) -> str:
    fields = {
        "box": [entry.box.start, entry.box.stop],
        "holes": [_hole_fields(hole) for hole in entry.holes],
        "digest": entry.digest.hex(),
    }
    return json.dumps(fields) + "\n"


def _entry(line: str) -> JournalEntry:
    fields = json.loads(line)
    holes = tuple(_hole(hole) for hole in fields["holes"])
    return JournalEntry(_box(fields["box"]), holes, bytes.fromhex(fields["digest"]))


def _hole_fields(hole: Hole) -> list[object]:
    if isinstance(hole, Box):
        return [hole.start, hole.stop]
    mask = base64.b64encode(pack_mask(hole.marked())).decode()
    return [hole.box.start, hole.box.stop, mask]


def _hole(fields: list[object]) -> Hole:
    if len(fields) == _BOX_FIELDS:
        return _box(fields)  # type: ignore[arg-type]
    *corners, mask = fields
    box = _box(corners)  # type: ignore[arg-type]
    marked = unpack_mask(base64.b64decode(str(mask), validate=True), box.shape)
    hole = Cut.of(box, marked)
    if not isinstance(hole, Cut):
        raise ValueError("a hole whose mask marks nothing, or everything")
    return hole


def _box(corners: list[list[int]]) -> Box:
    (z0, y0, x0), (z1, y1, x1) = corners
    return Box((int(z0), int(y0), int(x0)), (int(z1), int(y1), int(x1)))
