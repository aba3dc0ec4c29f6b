"""Three planes through the middle of the ROI, as they are at one moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from math import hypot, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.geometry import Box
from shared.layer import RegionKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from receiver.compose import GrowingVolume
    from shared.geometry import Triple

_LETTERS = (("L", "R"), ("P", "A"), ("F", "H"))
"""Where each RAS axis comes from and where it goes: x from left to right, and so on."""
_UPPER, _LEFTMOST = ("A", "H"), ("R", "A")
"""What is shown at the top and at the left, by convention."""
_UPRIGHT, _ACROSS = ("F", "H"), ("L", "R")
"""What lies along a picture's height, and along its width, whenever it is in the picture."""
_MOST_VOXELS = 1024
"""Along a side, about: larger planes are thinned, for a screen and for our memory."""
_MOST_ASPECT = 1000.0


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice through a volume, copied."""

    name: str
    """Which voxel axis it is a slice of, and where, such as ``z = 98``."""
    values: NDArray[Any]
    """(rows, columns) stored values."""
    quality: NDArray[np.uint8]
    """(rows, columns) `shared.layer.Quality`."""
    aspect: float
    """Millimetres of a row's height over those of a column's width."""
    rois: tuple[tuple[int, int, int, int], ...]
    """(row start, column start, row stop, column stop) of each ROI that the plane meets."""
    sides: tuple[str, str, str, str]
    """Patient directions at top, bottom, left and right; empty where unknown."""


def take_planes(volume: GrowingVolume) -> tuple[Plane, ...]:
    """Copies of the planes through the middle of the foremost ROI, or of the volume.

    Blocking and quick: it reads three slices. Of an axis that has one voxel only the plane across
    it is taken.
    """
    header = volume.entry.header
    rois = [region.box for region in volume.regions.values() if region.kind is RegionKind.ROI]
    centre_of = rois[0] if rois else Box.whole(header.shape)
    centre = [(a + b) // 2 for a, b in zip(centre_of.start, centre_of.stop, strict=True)]
    affine = np.reshape(header.affine, (4, 4))[:3, :3][:, ::-1]  # columns now (z, y, x)
    spacing = [hypot(*column) for column in affine.T.tolist()]
    ends = _ends(affine, spacing) if header.affine_known else [("", "")] * 3
    planes = []
    for axis in _axes(header.shape):
        rows, columns = (other for other in range(3) if other != axis)
        step = max(1, max(header.shape[rows], header.shape[columns]) // _MOST_VOXELS)
        index = [slice(None, None, step)] * 3
        index[axis] = slice(centre[axis], centre[axis] + 1)
        where = tuple(index)
        flat = [
            (
                box.start[rows] // step,
                box.start[columns] // step,
                -(-box.stop[rows] // step),
                -(-box.stop[columns] // step),
            )
            for box in rois
            if box.start[axis] <= centre[axis] < box.stop[axis]
        ]
        plane = Plane(
            f"{'zyx'[axis]} = {centre[axis]}",
            np.array(volume.files.voxels[where].squeeze(axis)),
            np.array(volume.files.quality[where].squeeze(axis)),
            _aspect(spacing[rows], spacing[columns]),
            tuple(flat),
            (*ends[rows], *ends[columns]),
        )
        planes.append(_as_read(plane))
    return tuple(planes)


def _axes(shape: Triple) -> list[int]:
    """The axes across which there is something to see: a plane with a height and a width."""
    size = prod(shape)
    seen = [axis for axis in range(3) if min(shape[:axis] + shape[axis + 1 :]) > 1]
    return seen or [max(range(3), key=lambda axis: size // shape[axis])]


def _aspect(height_mm: float, width_mm: float) -> float:
    """Of a voxel in a plane; 1 where its sizes are not those of anything real."""
    ratio = height_mm / width_mm if width_mm else 0.0
    return ratio if 1 / _MOST_ASPECT < ratio < _MOST_ASPECT else 1.0


def _as_read(plane: Plane) -> Plane:
    """The plane as it is hung for reading: front or head up, patient's right or front on the left.

    Only the picture is turned, by exchanging rows and columns and by mirroring; voxels never are.
    An unknown orientation stays as it is stored.
    """
    top, _, left, _ = plane.sides
    if top in _ACROSS or left in _UPRIGHT:
        plane = replace(
            plane,
            values=plane.values.T,
            quality=plane.quality.T,
            aspect=1 / plane.aspect,
            rois=tuple((c0, r0, c1, r1) for r0, c0, r1, c1 in plane.rois),
            sides=(*plane.sides[2:], *plane.sides[:2]),
        )
    top, bottom, left, right = plane.sides
    if bottom in _UPPER:
        height = plane.values.shape[0]
        plane = replace(
            plane,
            values=plane.values[::-1],
            quality=plane.quality[::-1],
            rois=tuple((height - r1, c0, height - r0, c1) for r0, c0, r1, c1 in plane.rois),
            sides=(bottom, top, left, right),
        )
    if right in _LEFTMOST:
        width = plane.values.shape[1]
        plane = replace(
            plane,
            values=plane.values[:, ::-1],
            quality=plane.quality[:, ::-1],
            rois=tuple((r0, width - c1, r1, width - c0) for r0, c0, r1, c1 in plane.rois),
            sides=(*plane.sides[:2], right, left),
        )
    return plane


def _ends(affine: NDArray[np.float64], spacing: list[float]) -> list[tuple[str, str]]:
    """The letters of either end of the axes (z, y, x): each patient direction for one of them.

    Oblique axes get the letters that they are nearest to, all three taken together.
    """
    cosines = [
        [value / length if length else 0.0 for value in column]
        for column, length in zip(affine.T.tolist(), spacing, strict=True)
    ]
    chosen = max(
        permutations(range(3)),
        key=lambda order: sum(abs(cosines[axis][to]) for axis, to in enumerate(order)),
    )
    return [
        _LETTERS[to] if cosines[axis][to] > 0 else _LETTERS[to][::-1]
        for axis, to in enumerate(chosen)
    ]
