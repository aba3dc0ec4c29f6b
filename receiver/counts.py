"""How far sets of voxels have come: how many of them have at least which quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from shared.geometry import Box
from shared.layer import QUALITIES, Quality, Region, RegionKind
from shared.ownership import holes, owned_count, owned_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Triple

COUNTED = (Quality.PREVIEW, Quality.BOUNDED, Quality.VERIFIED)

Regions = Mapping[str, Region]
"""Of a plan, by name."""


@dataclass(slots=True)
class Count:
    """How far a set of voxels has come."""

    total: int = 0
    at: dict[Quality, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    """Voxels that have at least this quality."""

    def share(self, quality: Quality) -> float:
        """From 0 to 1; 1 for no voxels."""
        return self.at[quality] / self.total if self.total else 1.0

    def without(self, lost: Count) -> Count:
        """The same voxels but for some of them."""
        at = {level: count - lost.at[level] for level, count in self.at.items()}
        return Count(self.total - lost.total, at)


def count(chosen: Iterable[Region], regions: Regions, quality: NDArray[np.uint8] | None) -> Count:
    """How far the voxels have come that some regions own.

    Args:
        quality: (z, y, x), of every voxel of the series; None where all of them are missing.
    """
    counted = Count()
    for region in chosen:
        counted.total += owned_count(region.box, holes(region, region.box, regions))
        if quality is None:
            continue
        for part, owned in planes(region, regions):
            known = quality[part.slices]
            known = known if owned is None else known[owned]
            for level in counted.at:
                counted.at[level] += int(np.count_nonzero(known >= level))
    return counted


def planes(region: Region, regions: Regions) -> Iterator[tuple[Box, NDArray[np.bool_] | None]]:
    """A region slice by slice, with the voxels that it owns."""
    (z0, y0, x0), (z1, y1, x1) = region.box.start, region.box.stop
    for z in range(z0, z1):
        plane = Box((z, y0, x0), (z + 1, y1, x1))
        yield plane, owned_mask(plane, holes(region, plane, regions))


def rois_of(regions: Regions) -> list[Region]:
    """The ROIs by what they mark, less what earlier ones mark: whoever sends those voxels.

    An ROI that was found late does not own what was on its way already; it is not exact before that
    is.
    """
    rois = [region for region in regions.values() if region.kind is RegionKind.ROI]
    names = {region.name for region in rois}
    return [
        replace(roi, excludes=tuple(name for name in roi.excludes if name in names)) for roi in rois
    ]


def is_planned(regions: Regions, shape: Triple) -> bool:
    """Whether every voxel has a region that will make it exact, or leave it out for good."""
    planned = sum(
        owned_count(region.box, holes(region, region.box, regions))
        for region in regions.values()
        if Quality.EXACT in QUALITIES[region.kind]
    )
    return planned == Box.whole(shape).voxels
