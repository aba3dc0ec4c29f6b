"""The boxes of what a mask marks: connected parts, merged until they are few and apart.

    mask -> 26-connected parts -> tight boxes -> no two overlap or touch -> at most 16

Every marked voxel stays covered: boxes only ever grow together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BOXES = 16
"""Each is a region of its own in the plan, coded and proven alone: a quarter of the 64 regions that
a series may have (`protocol.limits.MAX_REGIONS`)."""
_MAX_PARTS = 2048
"""More parts than this, a mask of specks, are first gathered by neighbourhood, for merging looks at
every pair."""
_FIRST_CELL_VOXELS = 8
"""Edge of the neighbourhoods that gather specks; doubled until the parts are few."""

_START, _STOP, _MARKED = slice(0, 3), slice(3, 6), 6
"""Columns of the tables below, a row for a box: start (z, y, x), stop (z, y, x), marked voxels."""


@dataclass(frozen=True, slots=True)
class MarkedBox:
    """A box and how many marked voxels lie in it."""

    box: Box
    marked: int


def marked_boxes(mask: NDArray[np.bool_], most: int = MAX_BOXES) -> tuple[list[MarkedBox], int]:
    """At most so many boxes that cover all marked voxels, none touching another, fullest first;
    and how many connected parts the mask has.

    Boxes that overlap or touch, corners included, become one. While there are too many, the one
    with the fewest marked voxels joins the box with which it takes in the fewest new voxels; so
    specks go to a neighbour or gather into one box of specks, whichever costs less.

    Args:
        mask: (z, y, x), any strides; only the box around all that is marked is labelled, at 4 bytes
            a voxel.
    """
    parts = _parts(mask)
    table = _merge(_gather(parts), most)
    boxes = [
        MarkedBox(Box((z0, y0, x0), (z1, y1, x1)), marked)
        for z0, y0, x0, z1, y1, x1, marked in table.tolist()
    ]
    return sorted(boxes, key=lambda found: (-found.marked, found.box)), len(parts)


def _parts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The 26-connected parts of a mask with their tight boxes, as a table."""
    from scipy import ndimage  # type: ignore[import-untyped]

    ends = []
    for others in ((1, 2), (0, 2), (0, 1)):
        occupied = np.flatnonzero(mask.any(axis=others))
        if occupied.size == 0:
            return np.empty((0, 7), dtype=np.int64)
        ends.append((int(occupied[0]), int(occupied[-1]) + 1))
    around = np.ascontiguousarray(mask[tuple(slice(low, high) for low, high in ends)])
    labels = np.empty(around.shape, dtype=np.int32)
    count = ndimage.label(around, structure=np.ones((3, 3, 3)), output=labels)
    table = np.zeros((count, 7), dtype=np.int64)
    for plane in labels:
        sizes = np.bincount(plane.reshape(-1))[1:]
        table[: sizes.size, _MARKED] += sizes
    for row, (z, y, x) in zip(table, ndimage.find_objects(labels), strict=True):
        row[:_MARKED] = z.start, y.start, x.start, z.stop, y.stop, x.stop
    corner = [low for low, _ in ends]
    table[:, _START] += corner
    table[:, _STOP] += corner
    return table


def _gather(parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Few enough boxes to look at every pair: specks that share a neighbourhood become one."""
    cell = _FIRST_CELL_VOXELS
    while len(parts) > _MAX_PARTS:
        middles = (parts[:, _START] + parts[:, _STOP]) // (2 * cell)
        _, cells = np.unique(middles, axis=0, return_inverse=True)
        parts = parts[np.argsort(cells, kind="stable")]
        firsts = np.flatnonzero(np.diff(np.sort(cells), prepend=-1))
        parts = np.hstack(
            (
                np.minimum.reduceat(parts[:, _START], firsts),
                np.maximum.reduceat(parts[:, _STOP], firsts),
                np.add.reduceat(parts[:, _MARKED:], firsts),
            )
        )
        cell *= 2
    return parts


def _merge(parts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Boxes that do not touch, at most so many."""
    apart = parts[:0]
    for part in parts:
        apart = _add(apart, part)
    while len(apart) > most:
        smallest = int(apart[:, _MARKED].argmin())
        part, apart = apart[smallest], np.delete(apart, smallest, axis=0)
        unions = _unions(apart, part)
        nearest = int((_volumes(unions) - _volumes(apart)).argmin())
        apart = _add(np.delete(apart, nearest, axis=0), unions[nearest])
    return apart


def _add(apart: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes that do not touch, with one more: it takes in what it touches, and grows by it."""
    while True:
        touched = np.all(
            (apart[:, _START] <= part[_STOP]) & (part[_START] <= apart[:, _STOP]), axis=1
        )
        if not touched.any():
            return np.vstack((apart, part))
        for other in apart[touched]:
            part = _unions(other[np.newaxis], part)[0]
        apart = apart[~touched]


def _unions(parts: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each box grown until it holds one more."""
    return np.hstack(
        (
            np.minimum(parts[:, _START], part[_START]),
            np.maximum(parts[:, _STOP], part[_STOP]),
            parts[:, _MARKED:] + part[_MARKED],
        )
    )


def _volumes(parts: NDArray[np.int64]) -> NDArray[np.int64]:
    voxels: NDArray[np.int64] = np.prod(parts[:, _STOP] - parts[:, _START], axis=1)
    return voxels
