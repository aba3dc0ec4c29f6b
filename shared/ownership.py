"""Which voxels of a box a region owns, worked out alike at both ends.

One owner per voxel: at each quality a voxel belongs to one layer. Voxels that a layer's box holds
but does not own are filled as the encoder likes and ignored by the decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from shared.layer import Region


def holes(region: Region, box: Box, regions: Mapping[str, Region]) -> tuple[Box, ...]:
    """The parts of ``box`` (inside ``region.box``) that other regions own; they may overlap."""
    boxes = (regions[name].box.intersection(box) for name in region.excludes)
    return tuple(hole for hole in boxes if hole is not None)


def owned_mask(box: Box, without: tuple[Box, ...]) -> NDArray[np.bool_] | None:
    """``box`` without its holes.

    Returns:
        (z, y, x) bool over ``box``, True where owned, or None where there is no hole.
    """
    if not without:
        return None
    owned = np.ones(box.shape, dtype=np.bool_)
    for hole in without:
        owned[hole.relative_to(box).slices] = False
    return owned


def owned_count(box: Box, without: tuple[Box, ...]) -> int:
    """How many voxels of ``box`` lie in none of its holes, counted a slice at a time."""
    return sum(_owned_per_slice(box, without))


def owns_any(box: Box, without: tuple[Box, ...]) -> bool:
    """Whether any voxel of ``box`` lies in none of its holes."""
    if any(box.inside(hole) for hole in without):
        return False
    return any(_owned_per_slice(box, without))


def _owned_per_slice(box: Box, without: tuple[Box, ...]) -> Iterator[int]:
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    for z in range(z0, z1):
        plane = Box((z, y0, x0), (z + 1, y1, x1))
        cut = tuple(part for hole in without if (part := hole.intersection(plane)) is not None)
        owned = owned_mask(plane, cut)
        yield plane.voxels if owned is None else int(np.count_nonzero(owned))
