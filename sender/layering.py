"""A volume and its ROIs become regions, and regions become layers: the plan, cut to pieces.

What the stages are and in which order they go stands in `protocol.stages`; here they meet a volume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from protocol import limits
from protocol.messages import Plan
from protocol.stages import STAGES, UNFOCUSED, Priority, Stage
from shared.geometry import Box
from shared.layer import QUALITIES, LayerKey, Quality, Region, RegionKind
from shared.mask import MAX_MASK_VOXELS
from shared.ownership import holes, owned_mask, owns_any
from shared.roi import RoiRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.header import SeriesHeader
    from shared.ownership import Hole
    from shared.roi import Roi

_BLOCK_VOXELS = {
    (RegionKind.ROI, Quality.PREVIEW): 2 << 20,
    (RegionKind.ROI, Quality.EXACT): 96 << 10,
    (RegionKind.SURROUNDINGS, Quality.PREVIEW): 4 << 20,
    (RegionKind.TISSUE, Quality.BOUNDED): 384 << 10,
    (RegionKind.TISSUE, Quality.EXACT): 384 << 10,
    (RegionKind.BACKGROUND, Quality.EXACT): 1 << 20,
}
"""Voxels of one block, about. Small in the ROI, so that every core has a piece at once and the
first is on the wire early; large for previews, which gain from prediction between slices. A bounded
block and the exact one that builds on it are the same voxels."""
_BAND_VOXELS = 512 << 10
"""A single slice is cut into bands of rows no smaller than this: codecs lose at every edge."""
_PLAN_BYTES = 64 << 10
"""What a plan takes beside its masks, at most."""
_MOST_BLOCKS = 256
"""Of one region at one quality, about: a block costs some 200 bytes of offer."""


@dataclass(frozen=True, slots=True)
class LayerJob:
    """A layer that is still to be encoded."""

    key: LayerKey
    stage: Stage
    box: Box
    holes: tuple[Hole, ...]
    """Parts of the box that the region does not own."""
    priority: Priority


def make_plan(
    series: int,
    header: SeriesHeader,
    rois: Sequence[Roi],
    tissue: Box,
    *,
    discard_background: bool,
) -> Plan:
    """The regions of a series: its ROIs; for previews, all that is not ROI; the tissue; the rest.

    Args:
        rois: ranked, foremost first; where they overlap, the foremost owns the voxels. Boxes of
            masks may overlap at will.
        tissue: the box of what is not background.
        discard_background: what lies outside ROI and tissue is not sent at all, no preview of it
            either (MedROI's mode).
    """
    whole = Box.whole(header.shape)
    seen = tissue if discard_background else whole
    wanted = [
        *(
            Region(f"roi{rank}", RegionKind.ROI, roi.box, label=roi.label, rank=rank, mask=roi.mask)
            for rank, roi in enumerate(bounded(rois))
        ),
        Region("surroundings", RegionKind.SURROUNDINGS, seen),
        Region("tissue", RegionKind.TISSUE, tissue),
        Region("background", RegionKind.BACKGROUND, whole, discarded=discard_background),
    ]
    regions: dict[str, Region] = {}
    for region in wanted:
        owner = excluding(region, regions)
        if owns_any(owner.box, holes(owner, owner.box, regions)):
            regions[owner.name] = owner
    record = RoiRecord.of(tissue, header.shape, header.affine).pack()
    return Plan(series, 1, tuple(regions.values()), record)


def excluding(region: Region, regions: Mapping[str, Region]) -> Region:
    """A region as it stands in a plan behind others: it takes nothing that one of them owns."""
    excludes = tuple(
        other.name
        for other in regions.values()
        if QUALITIES[region.kind] & QUALITIES[other.kind]
        and other.box.intersection(region.box) is not None
    )
    return replace(region, excludes=excludes)


def cut_layers(plan: Plan) -> list[LayerJob]:
    """Every layer of voxels that a plan asks for, in no particular order."""
    regions = {region.name: region for region in plan.regions}
    jobs = []
    for place, stage in enumerate(STAGES):
        for region in plan.regions:
            if region.kind is not stage.kind or region.discarded:
                continue
            least = _BLOCK_VOXELS[region.kind, stage.quality]
            blocks = cut_box(region.box, max(least, region.box.voxels // _MOST_BLOCKS))
            for number, box in enumerate(blocks):
                without = holes(region, box, regions, stage.quality)
                if not owns_any(box, without):
                    continue
                if region.mask:
                    box = _tight(box, without)
                    without = holes(region, box, regions, stage.quality)
                distance = _distance(box, plan.regions)
                jobs.append(
                    LayerJob(
                        LayerKey(plan.series, region.name, stage.quality, number),
                        stage,
                        box,
                        without,
                        Priority(UNFOCUSED, plan.series, place, region.rank, distance, number),
                    )
                )
    return jobs


def cut_box(box: Box, block_voxels: int) -> Iterator[Box]:
    """A box in blocks of about so many voxels: slabs of whole slices, of near equal thickness; a
    slice that is far larger than a block is cut into bands of rows.
    """
    depth, rows, columns = box.shape
    slabs = ceil(depth / max(1, block_voxels // (rows * columns)))
    bands = max(1, rows * columns // max(block_voxels, _BAND_VOXELS)) if slabs == depth else 1
    for z0, z1 in _shares(depth, slabs):
        for y0, y1 in _shares(rows, min(bands, rows)):
            yield Box(
                (box.start[0] + z0, box.start[1] + y0, box.start[2]),
                (box.start[0] + z1, box.start[1] + y1, box.stop[2]),
            )


def _tight(box: Box, without: tuple[Hole, ...]) -> Box:
    """The box of what is owned in a box: of a mask's block much is often empty."""
    owned = owned_mask(box, without)
    if owned is None:
        return box
    ends = []
    for start, others in zip(box.start, ((1, 2), (0, 2), (0, 1)), strict=True):
        indices = np.flatnonzero(owned.any(axis=others))
        ends.append((start + int(indices[0]), start + int(indices[-1]) + 1))
    (z0, z1), (y0, y1), (x0, x1) = ends
    return Box((z0, y0, x0), (z1, y1, x1))


def bounded(rois: Sequence[Roi], taken_bytes: int = 0, taken_voxels: int = 0) -> list[Roi]:
    """ROIs whose masks a plan has room for; the others, as boxes, are more than was asked for.

    Args:
        taken_bytes: of the masks that the plan has already.
        taken_voxels: that these masks lie over.
    """
    found: list[Roi] = []
    room_bytes = limits.MAX_PLAN_BYTES - _PLAN_BYTES - taken_bytes
    room_voxels = MAX_MASK_VOXELS - taken_voxels
    for roi in rois:
        size = len(roi.mask)
        fits = size <= min(limits.MAX_MASK_BYTES, room_bytes) and roi.box.voxels <= room_voxels
        if size and not fits:
            found.append(replace(roi, mask=b""))
            continue
        found.append(roi)
        room_bytes -= size
        room_voxels -= roi.box.voxels if size else 0
    return found


def _shares(length: int, count: int) -> Iterator[tuple[int, int]]:
    edges = [length * part // count for part in range(count + 1)]
    return pairwise(edges)


def _distance(box: Box, regions: Sequence[Region]) -> int:
    """To the nearest ROI; where there is none, to the middle slice."""
    rois = [region.box for region in regions if region.kind is RegionKind.ROI]
    if not rois:
        whole = max((region.box for region in regions), key=lambda other: other.voxels)
        middle = (whole.start[0] + whole.stop[0]) // 2
        rois = [replace(whole, start=(middle, 0, 0), stop=(middle + 1, *whole.stop[1:]))]
    return min(box.distance_to(roi) for roi in rois)
