"""Masks become ROIs: grown by a margin, parted, packed.

    marks of one rank -> grown -> less what earlier ranks took -> boxes that do not touch -> masks

The margin covers what a hand or a network leaves out at a lesion's edge. It is counted in voxels of
the finest axis; along an axis whose voxels are thicker, it is as many millimetres, one voxel at
least.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import dist
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.components import MAX_BOXES, marked_boxes
from shared.geometry import Box
from shared.mask import MAX_MASK_VOXELS, pack_mask
from shared.roi import Roi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from shared.geometry import Triple
    from shared.header import SeriesHeader

_MOST_ROIS = 48
"""Of one answer: with tissue, background and what goes ahead they must stay below the 64 regions of
a series (`protocol.limits.MAX_REGIONS`)."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What shares a rank: all of it comes before what has a later one."""

    label: str
    marked: NDArray[np.bool_]
    """(z, y, x) over the volume."""


@dataclass(frozen=True, slots=True)
class Grown:
    """ROIs, and what they were made from."""

    rois: tuple[Roi, ...]
    marked: int
    """Voxels that were marked."""
    parts: int
    """Connected parts of these, grown."""
    voxels: int
    """That the ROIs hold."""


def reach_of(header: SeriesHeader, margin_voxels: int) -> Triple:
    """The margin in voxels along (z, y, x)."""
    if margin_voxels == 0:
        return 0, 0, 0
    affine = header.affine
    sizes = [dist((0.0, 0.0, 0.0), (affine[c], affine[4 + c], affine[8 + c])) for c in (2, 1, 0)]
    finest = min(sizes)
    z, y, x = (max(1, round(margin_voxels * finest / size)) if size else 1 for size in sizes)
    return z, y, x


def rois_of(groups: Iterable[Marks], reach: Triple, *, most: int = MAX_BOXES) -> Grown:
    """The ROIs of ranked groups of marks; no two share a voxel.

    Args:
        reach: the margin in voxels along (z, y, x).
        most: ROIs of one group, at most.
    """
    rois: list[Roi] = []
    taken: NDArray[np.bool_] | None = None
    marked_voxels = parts = voxels = 0
    for group in groups:
        marked_voxels += int(np.count_nonzero(group.marked))
        grown = grow(group.marked, reach)
        if taken is not None:
            grown &= ~taken
        room = min(most, _MOST_ROIS - len(rois))
        if room < 1:
            break
        boxes, count = marked_boxes(grown, room)
        parts += count
        for found in boxes:
            mask = grown[found.box.slices]
            fits = mask.size <= MAX_MASK_VOXELS
            packed = pack_mask(mask) if fits else b""
            rois.append(Roi(found.box, group.label, len(rois), packed))
            voxels += found.marked if fits else mask.size
        taken = grown if taken is None else taken | grown
    return Grown(tuple(rois), marked_voxels, parts, voxels)


def grow(marked: NDArray[np.bool_], reach: Triple) -> NDArray[np.bool_]:
    """A mask dilated by so many voxels along each axis: a new array, never beyond the volume.

    Steps along the axes, and in the middle of them one to all 26 neighbours: nearly a ball, for a
    cube would be a third larger.
    """
    around = _around(marked, reach)
    grown = np.zeros_like(marked)
    if around is None:
        return grown
    part = marked[around.slices].copy()
    left = list(reach)
    steps = max(reach)
    for step in range(steps):
        # An axis with a shorter reach takes its steps late, spread over those of the others.
        axes = [axis for axis in range(3) if left[axis] * steps > reach[axis] * (steps - step - 1)]
        part = _step(part, axes, corners=step == steps // 2)
        for axis in axes:
            left[axis] -= 1
    grown[around.slices] = part
    return grown


def _step(part: NDArray[np.bool_], axes: list[int], *, corners: bool) -> NDArray[np.bool_]:
    """One voxel further along the axes; along all of them at once where corners are taken too."""
    found = part.copy()
    for axis in axes:
        source = found.copy() if corners else part
        near = [slice(None)] * 3
        far = [slice(None)] * 3
        near[axis], far[axis] = slice(1, None), slice(None, -1)
        found[tuple(near)] |= source[tuple(far)]
        found[tuple(far)] |= source[tuple(near)]
    return found


def _around(marked: NDArray[np.bool_], reach: Triple) -> Box | None:
    """The box of all marks, with room to grow."""
    start, stop = [], []
    for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
        occupied = np.flatnonzero(marked.any(axis=others))
        if occupied.size == 0:
            return None
        start.append(max(0, int(occupied[0]) - reach[axis]))
        stop.append(min(marked.shape[axis], int(occupied[-1]) + 1 + reach[axis]))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
