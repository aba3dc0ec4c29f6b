"""Boxes of voxels and affines, the two ways to say where something is.

Voxel axes are always (z, y, x). Boxes are half-open: ``start <= i < stop`` on every axis. An affine
is a 4x4 matrix from voxel indices *in NIfTI's order (x, y, z)* to patient millimetres, RAS (x grows
to the patient's right, y to the front, z to the head), as 16 floats, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Triple = tuple[int, int, int]
Affine = tuple[float, ...]
"""Sixteen floats, the rows of a 4x4 matrix, (x, y, z, 1) voxel indices -> RAS millimetres."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open box of voxels, ``start <= (z, y, x) < stop``, never empty.

    Raises:
        ValueError: a corner is negative, or the box holds no voxel.
    """

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        if min(self.start) < 0 or any(
            low >= high for low, high in zip(self.start, self.stop, strict=True)
        ):
            raise ValueError(f"{self.start}..{self.stop} is not a box")

    @classmethod
    def whole(cls, shape: Triple) -> Box:
        """The box of a whole volume."""
        return cls((0, 0, 0), shape)

    @property
    def shape(self) -> Triple:
        """Its size on (z, y, x), in voxels."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return z1 - z0, y1 - y0, x1 - x0

    @property
    def voxels(self) -> int:
        """How many voxels it holds."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Its index into a (z, y, x) array."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    def inside(self, other: Box) -> bool:
        """Whether every voxel of this box lies in the other."""
        return all(a >= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a <= b for a, b in zip(self.stop, other.stop, strict=True)
        )

    def intersection(self, other: Box) -> Box | None:
        """The voxels in both boxes, or None."""
        start = _triple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = _triple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        if any(low >= high for low, high in zip(start, stop, strict=True)):
            return None
        return Box(start, stop)

    def relative_to(self, origin: Box) -> Box:
        """The same voxels, counted from the other box's start; it must lie inside it."""
        return Box(
            _triple(a - o for a, o in zip(self.start, origin.start, strict=True)),
            _triple(a - o for a, o in zip(self.stop, origin.start, strict=True)),
        )

    def distance_to(self, other: Box) -> int:
        """Voxels between the two boxes, the largest gap over the axes; 0 where they touch."""
        gaps = (
            max(b0 - a1, a0 - b1, 0)
            for a0, a1, b0, b1 in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )
        return max(gaps)

    def __str__(self) -> str:
        pairs = zip(self.start, self.stop, strict=True)
        return ",".join(f"{low}:{high}" for low, high in pairs)


def _triple(values: Iterable[int]) -> Triple:
    z, y, x = values
    return z, y, x
