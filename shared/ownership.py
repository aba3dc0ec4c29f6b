"""Which voxels of a box a region owns, worked out alike at both ends.

One owner per voxel: at each quality a voxel belongs to one layer. Voxels that a layer's box holds
but does not own are filled as the encoder likes and ignored by the decoder.

A region is a box, or those voxels of it that its mask marks, less what earlier regions own at the
same quality. What is missing from a box is told as its holes: boxes, or boxes with bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared.geometry import Box
from shared.layer import QUALITIES, Quality
from shared.mask import unpack_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from shared.layer import Region


@dataclass(frozen=True, slots=True)
class Cut:
    """A hole that is not a box: some voxels of one."""

    box: Box
    bits: bytes
    """One a voxel of the box, C order, as `numpy.packbits` has them; set where it is a hole."""

    @classmethod
    def of(cls, box: Box, marked: NDArray[np.bool_]) -> Box | Cut | None:
        """The hole of what is marked in a box: None where nothing is, the box where all is."""
        if not marked.any():
            return None
        return box if marked.all() else cls(box, np.packbits(marked).tobytes())

    def marked(self) -> NDArray[np.bool_]:
        """Which voxels of its box are the hole: (z, y, x), a new array."""
        bits = np.frombuffer(self.bits, dtype=np.uint8)
        flat = np.unpackbits(bits, count=self.box.voxels)
        return flat.astype(np.bool_).reshape(self.box.shape)


Hole = Box | Cut


def holes(
    region: Region, box: Box, regions: Mapping[str, Region], quality: Quality = Quality.EXACT
) -> tuple[Hole, ...]:
    """The parts of ``box`` (inside ``region.box``) that the region does not own; they may overlap.

    Args:
        quality: at which; a region that has no layers at it takes nothing away.

    Raises:
        CodecError: a mask that is none.
    """
    found = []
    if region.mask:
        outside = ~unpack_mask(region.mask, region.box.shape, box.relative_to(region.box))
        found.append(Cut.of(box, outside))
    for name in region.excludes:
        other = regions[name]
        shared = other.box.intersection(box)
        if shared is None or quality not in QUALITIES[other.kind]:
            continue
        if other.mask:
            taken = unpack_mask(other.mask, other.box.shape, shared.relative_to(other.box))
            found.append(Cut.of(shared, taken))
        else:
            found.append(shared)
    return tuple(hole for hole in found if hole is not None)


def marked_in(regions: Iterable[Region], box: Box) -> NDArray[np.bool_]:
    """Which voxels of ``box`` lie in any of the regions, whoever owns them: (z, y, x)."""
    found = np.zeros(box.shape, dtype=np.bool_)
    for region in regions:
        shared = region.box.intersection(box)
        if shared is not None:
            part = unpack_mask(region.mask, region.box.shape, shared.relative_to(region.box))
            found[shared.relative_to(box).slices] |= part
    return found


def owned_mask(box: Box, without: tuple[Hole, ...]) -> NDArray[np.bool_] | None:
    """``box`` without its holes.

    Returns:
        (z, y, x) bool over ``box``, True where owned, or None where there is no hole.
    """
    if not without:
        return None
    owned = np.ones(box.shape, dtype=np.bool_)
    for hole in without:
        if isinstance(hole, Cut):
            owned[hole.box.relative_to(box).slices] &= ~hole.marked()
        else:
            owned[hole.relative_to(box).slices] = False
    return owned


def owned_count(box: Box, without: tuple[Hole, ...]) -> int:
    """How many voxels of ``box`` lie in none of its holes, counted a slice at a time."""
    return sum(_owned_per_slice(box, without))


def owns_any(box: Box, without: tuple[Hole, ...]) -> bool:
    """Whether any voxel of ``box`` lies in none of its holes."""
    if any(isinstance(hole, Box) and box.inside(hole) for hole in without):
        return False
    return any(_owned_per_slice(box, without))


def _owned_per_slice(box: Box, without: tuple[Hole, ...]) -> Iterator[int]:
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    boxes = [hole for hole in without if isinstance(hole, Box)]
    cuts = [(hole.box, hole.marked()) for hole in without if isinstance(hole, Cut)]
    for z in range(z0, z1):
        plane = Box((z, y0, x0), (z + 1, y1, x1))
        within = tuple(part for hole in boxes if (part := hole.intersection(plane)) is not None)
        owned = owned_mask(plane, within)
        for around, marked in cuts:
            part = around.intersection(plane)
            if part is not None:
                owned = np.ones(plane.shape, dtype=np.bool_) if owned is None else owned
                taken = marked[part.relative_to(around).slices]
                owned[part.relative_to(plane).slices] &= ~taken
        yield plane.voxels if owned is None else int(np.count_nonzero(owned))
