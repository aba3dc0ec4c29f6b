"""Which voxels of a box a region owns, worked out alike at both ends.

One owner per voxel: at each quality a voxel belongs to one layer. Voxels that a layer's box holds
but does not own are filled as the encoder likes and ignored by the decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from shared.layer import Region


def owned_mask(region: Region, box: Box, regions: Mapping[str, Region]) -> NDArray[np.bool_] | None:
    """The voxels of ``box`` (which lies inside ``region.box``) that ``region`` owns.

    Returns:
        (z, y, x) bool over ``box``, or None where the region owns every voxel of it.
    """
    taken = [
        overlap.relative_to(box).slices
        for name in region.excludes
        if (overlap := regions[name].box.intersection(box)) is not None
    ]
    if not taken:
        return None
    owned = np.ones(box.shape, dtype=np.bool_)
    for slices in taken:
        owned[slices] = False
    return owned


def owned_voxels(region: Region, regions: Mapping[str, Region]) -> int:
    """How many voxels a region owns in all, counted a slice at a time."""
    (z0, y0, x0), (z1, y1, x1) = region.box.start, region.box.stop
    total = 0
    for z in range(z0, z1):
        plane = Box((z, y0, x0), (z + 1, y1, x1))
        owned = owned_mask(region, plane, regions)
        total += plane.voxels if owned is None else int(owned.sum())
    return total
