"""Marks on one grid brought onto the voxels of a series that lies in the same frame of reference.

By nearest neighbour, both ways: a voxel of the series is marked where the voxel of the mask that is
nearest to its centre is, and where the centre of a marked voxel lies in it. The second keeps a
small lesion that falls between two thick slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Affine
    from shared.header import SeriesHeader


@dataclass(frozen=True, slots=True)
class Brought:
    """Marks on the voxels of a series."""

    marked: NDArray[np.bool_]
    """(z, y, x)."""
    outside: float
    """Share of the marks that lie outside the series."""


def bring(marked: NDArray[np.bool_], affine: Affine, header: SeriesHeader) -> Brought:
    """Marks of another grid on the voxels of a series.

    Args:
        marked: (z, y, x) of the mask.
        affine: of the mask, voxel (x, y, z) -> RAS millimetres.
    """
    found = np.zeros(header.shape, dtype=np.bool_)
    to_mask = np.linalg.inv(matrix_of(affine))
    depth, height, width = header.shape
    in_y, in_x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for z in range(depth):
        place = to_mask @ slice_matrix(header, z)
        inside = np.ones((height, width), dtype=np.bool_)
        indices = []
        for row, length in zip((2, 1, 0), marked.shape, strict=True):  # z, y, x of the mask
            line = place[row, 0] * in_x + place[row, 1] * in_y + place[row, 2]
            index = np.rint(line).astype(np.int64)
            inside &= (index >= 0) & (index < length)
            indices.append(index)
        if inside.any():
            k, j, i = (index[inside] for index in indices)
            found[z][inside] = marked[k, j, i]
    return Brought(found, _push(marked, affine, header, found))


def _push(
    marked: NDArray[np.bool_], affine: Affine, header: SeriesHeader, found: NDArray[np.bool_]
) -> float:
    """Mark what the centres of marked voxels lie in; the share of them that lies outside."""
    to_series = np.linalg.inv(matrix_of(header.affine)) @ matrix_of(affine)
    total = lost = 0
    limits = np.array(header.shape[::-1])
    for z, plane in enumerate(marked):
        y, x = np.nonzero(plane)
        if not y.size:
            continue
        places = np.stack((x, y, np.full_like(x, z), np.ones_like(x)))
        index = np.rint((to_series @ places)[:3].T).astype(np.int64)
        inside = np.all((index >= 0) & (index < limits), axis=1)
        kept = index[inside]
        found[kept[:, 2], kept[:, 1], kept[:, 0]] = True
        total += y.size
        lost += y.size - len(kept)
    return lost / total if total else 0.0


def matrix_of(affine: Affine) -> NDArray[np.float64]:
    """An affine as 4 x 4 numbers."""
    return np.array(affine, dtype=np.float64).reshape(4, 4)


def slice_matrix(header: SeriesHeader, z: int) -> NDArray[np.float64]:
    """(x, y, 1) of a slice -> RAS millimetres and 1: 4 x 3.

    Where the series knows each slice's own position (uneven spacing), that counts, not the mean.
    """
    whole = matrix_of(header.affine)
    place = np.stack((whole[:, 0], whole[:, 1], whole[:, 3] + z * whole[:, 2]), axis=1)
    frames = header.frames
    if frames is not None and len(frames.positions_mm) == header.shape[0]:
        x, y, height = frames.positions_mm[z]
        place[:3, 2] = -x, -y, height  # LPS to RAS
    return place
