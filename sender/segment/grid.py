"""Whether two voxel grids are one and the same, up to the order and direction of their axes.

A mask and its scan are often stored turned against each other: a tool writes LAS what the scanner
wrote LPS. The voxels are the same, so no value is ever interpolated: a grid that is not the same
is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from math import dist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Affine, Triple
    from shared.header import SeriesHeader, Vector

TOLERANCE_MM = 1e-3
"""How far the centres of corner voxels may lie apart. Float32 affines of one scan, written by
several tools, differ by 1e-4 mm over a head; a voxel is some 0.3 mm and more."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where voxels lie."""

    shape: Triple
    """(z, y, x)."""
    affine: Affine | None
    """Voxel (x, y, z) -> RAS millimetres; None where the file does not say."""

    @classmethod
    def of(cls, header: SeriesHeader) -> Grid:
        """The grid of a series."""
        return cls(header.shape, header.affine if header.affine_known else None)


@dataclass(frozen=True, slots=True)
class Turn:
    """How the axes of one grid lie along those of another."""

    axes: Triple
    """For each axis (z, y, x) of the other grid, the axis of this one that lies along it."""
    flipped: tuple[bool, bool, bool]
    """For each axis of the other grid, whether this one runs against it."""

    def voxels(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """Voxels (z, y, x) of this grid as the other orders them: a view."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return voxels.transpose(self.axes)[steps]


def turn_between(own: Grid, other: Grid) -> Turn | str:
    """How ``own`` lies along ``other``, or a phrase that says what differs.

    Of the 48 ways to turn a box into a box, the one that brings the eight corners closest is taken
    or refused; so shift, spacing, rotation and shear are all checked at once, at the voxels where
    they show most. Where neither grid says where it lies, equal shapes are taken voxel by voxel.
    """
    if own.affine is None and other.affine is None:
        if own.shape == other.shape:
            return Turn((0, 1, 2), (False, False, False))
        return f"{_shapes(own, other)}, and neither says where it lies"
    if own.affine is None:
        return "it does not say where it lies, and the series does"
    if other.affine is None:
        return "it says where it lies, and the series does not"
    best, gap_mm = None, float("inf")
    for axes in permutations(range(3)):
        if any(own.shape[axis] != length for axis, length in zip(axes, other.shape, strict=True)):
            continue
        for flips in product((False, True), repeat=3):
            turn = Turn((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
            found_mm = _corner_gap_mm(own.shape, own.affine, other.shape, other.affine, turn)
            if found_mm < gap_mm:
                best, gap_mm = turn, found_mm
    if best is None:
        return f"{_shapes(own, other)}{_spacings(own.affine, other.affine, (0, 1, 2))}"
    if gap_mm <= TOLERANCE_MM:
        return best
    return (
        f"its corners lie up to {gap_mm:.4g} mm away from those of the series"
        f"{_spacings(own.affine, other.affine, best.axes)}"
    )


def _corner_gap_mm(
    own_shape: Triple, own_affine: Affine, other_shape: Triple, other_affine: Affine, turn: Turn
) -> float:
    """The largest distance between the centres of two corner voxels that the turn makes one."""
    gaps = []
    for far in product((False, True), repeat=3):
        own_corner, other_corner = [0, 0, 0], [0, 0, 0]
        for other, (own, flip) in enumerate(zip(turn.axes, turn.flipped, strict=True)):
            other_corner[other] = (other_shape[other] - 1) * far[other]
            own_corner[own] = (own_shape[own] - 1) * (far[other] != flip)
        gaps.append(dist(_place(own_affine, own_corner), _place(other_affine, other_corner)))
    return max(gaps)


def _place(affine: Affine, voxel: list[int]) -> Vector:
    """RAS millimetres of a voxel (z, y, x)."""
    z, y, x = voxel
    rows = (affine[0:4], affine[4:8], affine[8:12])
    a, b, c = (row[0] * x + row[1] * y + row[2] * z + row[3] for row in rows)
    return a, b, c


def _shapes(own: Grid, other: Grid) -> str:
    ours, theirs = ("x".join(map(str, grid.shape)) for grid in (own, other))
    return f"its shape (z, y, x) is {ours}, that of the series {theirs}"


def _spacings(own: Affine, other: Affine, axes: Triple) -> str:
    """What differs in spacing, as the rest of a sentence; empty where nothing does."""
    ours = [_spacing_mm(own, axis) for axis in axes]
    theirs = [_spacing_mm(other, axis) for axis in range(3)]
    if all(abs(a - b) <= TOLERANCE_MM for a, b in zip(ours, theirs, strict=True)):
        return ""
    one, two = ("x".join(f"{length:.4g}" for length in lengths) for lengths in (ours, theirs))
    return f", its spacing is {one} mm, that of the series {two} mm"


def _spacing_mm(affine: Affine, axis: int) -> float:
    """Between neighbours on axis 0 (z), 1 (y) or 2 (x)."""
    column = 2 - axis
    return dist((0.0, 0.0, 0.0), (affine[column], affine[4 + column], affine[8 + column]))
