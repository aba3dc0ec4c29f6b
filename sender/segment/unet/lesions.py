"""What the network says becomes lesions, sure ones and possible ones; none is dropped.

    chances --above LOW--> connected parts --filled--> --highest chance--> sure | possible

What a part encloses belongs to it: the dead core of a tumour may look like nothing. A part whose
chance reaches `SURE` anywhere is a lesion, with everything around it down to `LOW`: its edge is
where a network hesitates. A part that nowhere reaches it is a possible lesion, and comes after all
lesions. Possible ones that would make the ROI larger than a lesion's ROI may be are left to come in
their turn with the tissue, the least likely first.

Where a lesion is found, what looks like it nearby is a possible lesion as well, a *satellite*, even
if the network gives it no chance at all: a small one beside a large one is what a network that is
judged by overlap learns to leave out. The larger the lesion, the more room its satellites have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from sender.segment.unet.sight import Placement
    from shared.geometry import Triple

LOW = 0.1
"""A chance below which a voxel is no candidate."""
SURE = 0.5
_MIN_SURE_ML = 0.03
"""A part this small that is sure is a possible lesion only: a few voxels of the network's grid."""
_MIN_POSSIBLE_ML = 0.05
_ENOUGH_VOTES = 2
_DOUBT = 2.5
"""How far the ROI reaches beyond what is rather lesion than not, in units of what may be lesion
beyond that."""
_LEAST_TIMES, _MOST_TIMES = 8.0, 1.5
"""An ROI may be this much larger than what is outlined where a lesion is small, and where it is so
large that the budget would not hold it."""
_FURTHEST = 10.0
"""Voxels, 2 cm, from what may be lesion."""
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.03
"""Of the volume (`Budget`)."""
_FILLED = 0.3
"""The chance that what a part encloses is given: its edges stay where they are."""
_LOOKS_LIKE = 1.0
"""Log-odds of brightness (`edges.alike`) from which a voxel looks like the lesion."""
_AROUND = 15.0
"""Voxels, 3 cm, from a lesion's outline, within which a satellite begins."""
_SATELLITES_SHARE = 0.25
"""Of what is outlined: all its satellites together, before they are grown. The issue's own measure
is four times the lesion; with their margin they take about as much as the lesion."""
_POSSIBLE_SHARE = 0.01
"""Of the volume: all possible lesions together, before they are grown."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How large ROIs may be before the margin, in voxels of the network's grid."""

    least: int
    """They are widened to this even where there is no doubt."""
    most: int
    """They are not widened beyond."""

    @classmethod
    def of(cls, shape: Triple, voxel_ml: float, own_ml: float) -> Budget:
        """Of a volume.

        Args:
            shape: (z, y, x) of the volume.
            voxel_ml: of it.
            own_ml: of a voxel of the network's grid.
        """
        voxels = shape[0] * shape[1] * shape[2] * voxel_ml / own_ml
        return cls(int(_LEAST_SHARE * voxels), int(_MOST_SHARE * voxels))


@dataclass(frozen=True, slots=True)
class Part:
    """A connected part of what may be lesion, on the network's grid."""

    box: Box
    marked: NDArray[np.bool_]
    """(z, y, x) over ``box``."""
    highest: float
    """Chance."""
    size_ml: float
    sure: bool


def parts_of(chances: NDArray[np.float32], voxel_ml: float) -> list[Part]:
    """All parts that may be lesion: sure ones by size, then possible ones by chance.

    Args:
        chances: (z, y, x), the network's grid.
        voxel_ml: of that grid.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    labels, _ = ndimage.label(chances > LOW, structure=np.ones((3, 3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        marked = _filled(labels[place] == number)
        size_ml = float(np.count_nonzero(marked)) * voxel_ml
        highest = float(chances[place][marked].max())
        sure = highest >= SURE and size_ml >= _MIN_SURE_ML
        if not sure and size_ml < _MIN_POSSIBLE_ML:
            continue
        z, y, x = place
        box = Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop))
        found.append(Part(box, marked, highest, size_ml, sure))
    return sorted(found, key=_order)


def _filled(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With what lies between two marks along at least two of the three axes.

    A dead core, a cyst that opens to the surface, a gray part between bright ones: a tumour's body
    is nearly convex, and what is missing of it lies within.
    """
    votes = np.zeros(marked.shape, dtype=np.uint8)
    for axis in range(3):
        before = np.logical_or.accumulate(marked, axis=axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(marked, axis), axis=axis), axis)
        votes += before & behind
    found: NDArray[np.bool_] = votes >= _ENOUGH_VOTES
    return found


def _order(part: Part) -> tuple[bool, float]:
    return not part.sure, -part.size_ml if part.sure else -part.highest


def united(parts: Iterable[Part], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The voxels of the network's grid that lie in any of the parts."""
    chosen = np.zeros(shape, dtype=np.bool_)
    for part in parts:
        chosen[part.box.slices] |= part.marked
    return chosen


def satellites_of(
    alike: NDArray[np.float32],
    outline: NDArray[np.bool_],
    held: NDArray[np.bool_],
    voxel_ml: float,
) -> list[Part]:
    """What looks like a lesion near one, the strongest evidence first, as much as there is room.

    Args:
        alike: (z, y, x), log-odds of each voxel by its brightness.
        outline: (z, y, x), what is lesion.
        held: (z, y, x), what is in an ROI as it is.
        voxel_ml: of this grid.
    """
    from scipy import ndimage

    if not outline.any():
        return []
    near = ndimage.distance_transform_edt(~outline) < _AROUND
    labels, _ = ndimage.label((alike > _LOOKS_LIKE) & ~held, structure=np.ones((3, 3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        marked = labels[place] == number
        size_ml = float(np.count_nonzero(marked)) * voxel_ml
        if size_ml >= _MIN_POSSIBLE_ML and near[place][marked].any():
            z, y, x = place
            box = Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop))
            evidence = float(alike[place][marked].sum())
            found.append((evidence, Part(box, marked, LOW, size_ml, sure=False)))
    found.sort(key=lambda each: -each[0])
    room_ml = _SATELLITES_SHARE * float(np.count_nonzero(outline)) * voxel_ml
    return _that_fit((part for _, part in found), room_ml)


def widened(
    chosen: NDArray[np.bool_],
    outline: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    budget: Budget,
) -> NDArray[np.bool_]:
    """Lesions and the tissue around them, the more of it the less the network is sure of their
    edge: `_DOUBT` times what it holds possible beyond what it outlines, within a budget.

    A network that hesitates leaves parts of a lesion out (measured: docs/model_card.md), and the
    ROI may be larger than the lesion, but must not be smaller. What is near to what may be lesion
    and near to what rather is comes first.

    Args:
        chosen: (z, y, x), what may be lesion.
        outline: (z, y, x), what rather is than not.
        inside: (z, y, x), where there is tissue at all.
        budget: in voxels of this grid.
    """
    from scipy import ndimage

    sure, held = int(np.count_nonzero(outline)), int(np.count_nonzero(chosen))
    least = min(budget.least, int(_LEAST_TIMES * sure))
    most = max(budget.most, int(_MOST_TIMES * sure))
    wanted = min(max(sure + int(_DOUBT * (held - sure)), least), most)
    if not sure or wanted <= held:
        return chosen
    away: NDArray[np.float64] = ndimage.distance_transform_edt(~chosen)
    behind = (away + ndimage.distance_transform_edt(~outline)) / 2
    open_to = inside & ~chosen & (away <= _FURTHEST)
    found = chosen.copy()
    if wanted - held >= np.count_nonzero(open_to):
        found |= open_to
        return found
    ranked = behind[open_to]
    found[open_to] = ranked <= np.partition(ranked, wanted - held)[wanted - held]
    return found


def marked_in_volume(
    chosen: NDArray[np.bool_], chances: NDArray[np.float32], placement: Placement
) -> NDArray[np.bool_]:
    """The voxels of the volume that lie in what is chosen on the network's grid. Its edges are
    where the chance, interpolated, falls to `LOW`."""
    marked = np.zeros(placement.shape, dtype=np.bool_)
    places = np.nonzero(chosen)
    if not places[0].size:
        return marked
    start = [max(0, int(place.min()) - 1) for place in places]
    stop = [
        min(length, int(place.max()) + 2)
        for place, length in zip(places, chosen.shape, strict=True)
    ]
    box = placement.box_of(Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])))
    own = np.where(chosen, np.maximum(chances, _FILLED), np.minimum(chances, LOW))
    marked[box.slices] = placement.up(own, box) > LOW
    return marked


def within_share(parts: list[Part], shape: Triple, voxel_ml: float) -> list[Part]:
    """All sure parts, and as many of the possible ones as the share of the volume has room for.

    Args:
        shape: of the volume.
        voxel_ml: of the volume.
    """
    room_ml = _POSSIBLE_SHARE * shape[0] * shape[1] * shape[2] * voxel_ml
    possible = _that_fit((part for part in parts if not part.sure), room_ml)
    return [part for part in parts if part.sure] + possible


def _that_fit(parts: Iterable[Part], room_ml: float) -> list[Part]:
    """As many as there is room for, in their order; one that is too large is passed over."""
    kept = []
    for part in parts:
        if part.size_ml <= room_ml:
            room_ml -= part.size_ml
            kept.append(part)
    return kept
