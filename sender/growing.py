"""How the plan of a series grows while its segmenter thinks: pure, one step at a time.

    open_series      the whole preview                      flows from the first second on
    send_ahead       a slab of exact tissue, middle first   so that the link is never idle
    take_answer      the ROIs of an answer                  coarse, then finer ones
    take_answer      with the last one, tissue and rest     now the plan is whole

A plan is append-only: what it says stands, and its layers may be on the wire. So an ROI that is
found late marks all of its voxels and owns those that no earlier region owns at that quality; the
receiver counts an ROI by what it marks. An ROI of a coarse answer that a finer one does not confirm
cannot be taken back; what is not yet encoded of it goes where it would have gone without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from protocol.limits import MAX_REGIONS
from protocol.messages import Plan
from protocol.stages import stage_of
from sender.layering import bounded, cut_layers, excluding
from shared.geometry import Box
from shared.layer import Quality, Region, RegionKind
from shared.mask import unpack_mask
from shared.ownership import holes, marked_in, owns_any
from shared.roi import RoiRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sender.layering import LayerJob
    from sender.segment.base import Segmentation
    from shared.header import SeriesHeader
    from shared.roi import Roi

_AHEAD_VOXELS = 192 << 10
"""Of one slab, about: a second of a 0.8 Mbit/s link at 4 bits a voxel."""
_MOST_AHEAD = 12
"""Slabs of one series: a segmenter that takes longer finds the link idle, and regions are few."""
_REST = 3
"""Regions that the last step needs: tissue, background, and one to spare."""
_AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Step:
    """A plan, and what it changes in what is to be encoded."""

    plan: Plan
    new: tuple[LayerJob, ...]
    """Layers that the plan before did not ask for."""
    moved: tuple[LayerJob, ...] = ()
    """Layers that wait to be encoded, at another place."""


def open_series(
    series: int, header: SeriesHeader, tissue: Box, *, discard_background: bool
) -> Step:
    """The first plan: a preview of all that will be sent, and nothing exact yet."""
    seen = tissue if discard_background else Box.whole(header.shape)
    shown = Region("surroundings", RegionKind.SURROUNDINGS, seen)
    record = RoiRecord.of(tissue, header.shape, header.affine).pack()
    return _step(None, Plan(series, 1, (shown,), record))


def send_ahead(before: Plan, tissue: Box) -> Step | None:
    """One more slab of exact tissue, from the middle slices outwards; None where there is no more,
    or enough has gone ahead."""
    gone = [region.box for region in before.regions if region.name.startswith(_AHEAD)]
    if len(gone) >= _MOST_AHEAD or len(before.regions) >= MAX_REGIONS // 2:
        return None
    for slab in _slabs(tissue):
        if slab not in gone:
            region = Region(f"{_AHEAD}{len(gone)}", RegionKind.TISSUE, slab)
            return _grown(before, [region])
    return None


def take_answer(
    before: Plan,
    header: SeriesHeader,
    answer: Segmentation,
    tissue: Box,
    *,
    last: bool,
    discard_background: bool,
    waiting: Iterable[LayerJob] = (),
) -> Step:
    """The plan with the ROIs of one more answer; with tissue and background behind the last one.

    Args:
        answer: its ROIs replace those of the answer before it, as far as they can.
        last: no other answer follows.
        waiting: layers of this series that wait to be encoded: some may move.
    """
    wanted = _new_rois(before, answer.rois)
    if last:
        whole = Box.whole(header.shape)
        wanted.append(Region("tissue", RegionKind.TISSUE, tissue))
        wanted.append(
            Region("background", RegionKind.BACKGROUND, whole, discarded=discard_background)
        )
    return _grown(before, wanted, tuple(_moved(before, answer, waiting)))


def _new_rois(before: Plan, rois: Sequence[Roi]) -> list[Region]:
    """ROIs that mark what no ROI of the plan marks yet, by their ranks."""
    known = [region for region in before.regions if region.kind is RegionKind.ROI]
    masked = [region for region in before.regions if region.mask]
    room = MAX_REGIONS - len(before.regions) - _REST
    found: list[Region] = []
    taken = sum(len(region.mask) for region in masked), sum(r.box.voxels for r in masked)
    for roi in bounded(rois, *taken)[:room]:
        marked = unpack_mask(roi.mask, roi.box.shape)
        if bool(np.any(marked & ~marked_in([*known, *found], roi.box))):
            name = f"roi{len(known) + len(found)}"
            found.append(
                Region(name, RegionKind.ROI, roi.box, label=roi.label, rank=roi.rank, mask=roi.mask)
            )
    return found


def _moved(before: Plan, answer: Segmentation, waiting: Iterable[LayerJob]) -> Iterator[LayerJob]:
    """Waiting layers of ROIs that an answer does not confirm, at the tissue's place."""
    confirmed = [
        Region(f"{roi.rank}", RegionKind.ROI, roi.box, mask=roi.mask) for roi in answer.rois
    ]
    rois = {region.name for region in before.regions if region.kind is RegionKind.ROI}
    place = stage_of(RegionKind.TISSUE, Quality.EXACT)
    for job in waiting:
        if job.key.region in rois and not marked_in(confirmed, job.box).any():
            yield replace(job, priority=job.priority._replace(stage=place))


def _grown(before: Plan, wanted: Iterable[Region], moved: tuple[LayerJob, ...] = ()) -> Step:
    """A plan with more regions. An ROI stays even if it owns nothing: its marks are counted."""
    regions = {region.name: region for region in before.regions}
    for region in wanted:
        owner = excluding(region, regions)
        if owner.kind is RegionKind.ROI or owns_any(owner.box, holes(owner, owner.box, regions)):
            regions[owner.name] = owner
    plan = replace(before, version=before.version + 1, regions=tuple(regions.values()))
    return _step(before, plan, moved)


def _step(before: Plan | None, plan: Plan, moved: tuple[LayerJob, ...] = ()) -> Step:
    known = {region.name for region in before.regions} if before else set()
    new = tuple(job for job in cut_layers(plan) if job.key.region not in known)
    return Step(plan, new, moved)


def _slabs(tissue: Box) -> list[Box]:
    """The tissue in slabs of whole slices, the middle one first."""
    _, rows, columns = tissue.shape
    thick = max(1, round(_AHEAD_VOXELS / (rows * columns)))
    slabs = [
        Box(
            (z, *tissue.start[1:]),
            (min(z + thick, tissue.stop[0]), *tissue.stop[1:]),
        )
        for z in range(tissue.start[0], tissue.stop[0], thick)
    ]
    middle = (tissue.start[0] + tissue.stop[0]) / 2
    return sorted(slabs, key=lambda slab: abs((slab.start[0] + slab.stop[0]) / 2 - middle))
