"""Planes of voxels with three more all around, so that no neighbour is ever outside.

The rows above a plane repeat row 0 of the plane before, left and right of a row stands the nearest
voxel of the row above and of the row itself; below the last row it is repeated. Only what is coded
already is copied, so both ends have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.codecs.causal.kernels import inlined
from shared.codecs.causal.layout import PAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int32]
    Octets = NDArray[np.uint8]


@inlined
def begin_plane(now: Ints, before: Ints, width: int) -> None:
    """Above its first row, of a plane behind another: (voxels of a plane, values of each)."""
    for i in range(PAD * width):
        for k in range(now.shape[1]):
            now[i, k] = before[PAD * width + i % width, k]


@inlined
def begin_row(now: Ints, line: int, columns: int, first: bool) -> None:
    """Left of a row that begins at ``line``, and right of the row above it."""
    width = columns + 2 * PAD
    for i in range(1, PAD + 1):
        for k in range(now.shape[1]):
            now[line - i, k] = now[line - width, k]
            if not first:
                now[line - width + columns - 1 + i, k] = now[line - width + columns - 1, k]


@inlined
def end_plane(now: Ints, rows: int, columns: int) -> None:
    """Right of the last row, and below it."""
    width = columns + 2 * PAD
    line = (rows - 1 + PAD) * width + PAD
    for i in range(1, PAD + 1):
        for k in range(now.shape[1]):
            now[line + columns - 1 + i, k] = now[line + columns - 1, k]
    for row in range(1, PAD + 1):
        for i in range(width):
            for k in range(now.shape[1]):
                now[line - PAD + row * width + i, k] = now[line - PAD + i, k]


@inlined
def stand_in(known: Ints, at: int, width: int, area: int, behind: bool) -> None:
    """What is predicted from a voxel that is not coded: a mean of its neighbours."""
    if behind:
        known[at] = (known[at - 1] + known[at - width] + 2 * known[at - area]) >> 2
    else:
        known[at] = (known[at - 1] + known[at - width]) >> 1


@inlined
def fill_planes(values: Ints, coded: Octets, shape: tuple[int, int, int]) -> Ints:
    """Planes as a coder will have them: what an encoder fits weights to.

    Args:
        values: flat, what voxels are decoded to.
        coded: flat, 1 where a voxel is coded by the model.
    """
    depth, rows, columns = shape
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    known = np.zeros((depth + 2) * area, np.int32)
    for z in range(depth):
        plane = (z + 2) * area
        here = known[plane : plane + area].reshape((area, 1))
        if z > 0:
            begin_plane(here, known[plane - area : plane].reshape((area, 1)), width)
        for y in range(rows):
            line = (y + PAD) * width + PAD
            begin_row(here, line, columns, y == 0)
            for x in range(columns):
                index = (z * rows + y) * columns + x
                if coded[index]:
                    known[plane + line + x] = values[index]
                else:
                    stand_in(known, plane + line + x, width, area, z > 0)
        end_plane(here, rows, columns)
    return known
