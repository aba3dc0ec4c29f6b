"""Three planes through the middle of the ROI, as they are at one moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.geometry import Box
from shared.layer import RegionKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from receiver.compose import GrowingVolume

_LETTERS = (("L", "R"), ("P", "A"), ("F", "H"))
"""Where each RAS axis comes from and where it goes: x from left to right, and so on."""
_UPPER, _LEFTMOST = ("A", "H"), ("R", "A")
"""What is shown at the top and at the left, by convention."""


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

    Blocking and quick: it reads three slices. A volume of one slice has one plane.
    """
    header = volume.entry.header
    rois = [region.box for region in volume.regions.values() if region.kind is RegionKind.ROI]
    centre_of = rois[0] if rois else Box.whole(header.shape)
    centre = [(a + b) // 2 for a, b in zip(centre_of.start, centre_of.stop, strict=True)]
    affine = np.reshape(header.affine, (4, 4))[:3, :3][:, ::-1]  # columns now (z, y, x)
    spacing = np.linalg.norm(affine, axis=0)
    planes = []
    for axis, name in enumerate("zyx"):
        rows, columns = (other for other in range(3) if other != axis)
        if header.shape[rows] == 1 or (header.shape[columns] == 1 and axis != 0):
            continue
        index: list[slice | int] = [slice(None)] * 3
        index[axis] = centre[axis]
        where = tuple(index)
        flat = [
            (box.start[rows], box.start[columns], box.stop[rows], box.stop[columns])
            for box in rois
            if box.start[axis] <= centre[axis] < box.stop[axis]
        ]
        plane = Plane(
            f"{name} = {centre[axis]}",
            np.array(volume.files.voxels[where]),
            np.array(volume.files.quality[where]),
            float(spacing[rows] / spacing[columns]) if spacing[columns] else 1.0,
            tuple(flat),
            _sides(affine[:, rows], affine[:, columns]) if header.affine_known else ("",) * 4,
        )
        planes.append(_as_read(plane))
    return tuple(planes)


def _as_read(plane: Plane) -> Plane:
    """The plane as it is hung for reading: front or head up, patient's right or front on the left.

    Only the picture is turned, by mirroring; voxels never are. An unknown orientation stays as it
    is stored.
    """
    top, bottom, left, right = plane.sides
    if bottom in _UPPER:
        plane = replace(
            plane,
            values=plane.values[::-1],
            quality=plane.quality[::-1],
            rois=tuple(
                (len(plane.values) - r1, c0, len(plane.values) - r0, c1)
                for r0, c0, r1, c1 in plane.rois
            ),
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


def _sides(down: NDArray[np.float64], across: NDArray[np.float64]) -> tuple[str, str, str, str]:
    """The letters of a plane's edges, from the patient directions of its rows and columns."""
    (top, bottom), (left, right) = _ends(down), _ends(across)
    return top, bottom, left, right


def _ends(direction: NDArray[np.float64]) -> tuple[str, str]:
    axis = int(np.argmax(np.abs(direction)))
    start, stop = _LETTERS[axis]
    return (start, stop) if direction[axis] > 0 else (stop, start)
