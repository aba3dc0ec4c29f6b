"""What the network sees of a volume: 2 mm voxels, head up, one scale of brightness.

    stored voxels -> heights above background -> 2 mm, averaged -> upright -> normalised -> cropped

Training and inference both come through here, so a network is never shown a scan in another way
than those it has learnt from. No second volume is held: slices are reduced as they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import ceil, dist
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.heights import heights_of
from sender.segment.unet.resample import along_axes, axis_taps
from shared.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sender.segment.unet.resample import Taps
    from shared.geometry import Triple
    from shared.header import SeriesHeader
    from shared.volume import Volume

VOXEL_MM = 2.0
"""Of the network's grid. Whole tumours are centimetres across; 1 mm would cost eight times the work
and needs more scans to learn from than there are."""
_MAX_VOXELS = 3 << 20
"""Of the network's grid: a head has 0.7 million. A larger field of view is seen more coarsely."""
LOWEST, HIGHEST = -3.0, 6.0
"""Of normalised brightness: background and what is nearly so; one hot voxel must not matter."""
_FOREGROUND = 0.1
"""Of the 99th percentile of heights: above it is body. Scanner noise in air stays below."""
_MIN_PLANE_VOXELS = 20
"""A plane with fewer voxels of foreground is outside the head: specks do not widen the crop."""
_MARGIN = 2
"""Voxels around the foreground."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How the network's grid lies in the volume's: the way back."""

    shape: Triple
    """(z, y, x) of the volume."""
    axes: Triple
    """The volume's axis along each upright axis (z up, y to the front, x to the right)."""
    flipped: tuple[bool, bool, bool]
    """Whether the volume runs against that upright axis."""
    steps: tuple[float, float, float]
    """Volume voxels to one voxel of the network's grid, along the upright axes."""
    crop: Box
    """Of the upright grid: what the network is shown."""

    def up(self, seen: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        """What the network says of its voxels, interpolated for those of a box of the volume.

        Args:
            seen: (z, y, x) over the crop.
            box: of the volume.

        Returns:
            (z, y, x) over ``box``.
        """
        taps = []
        for world, axis in enumerate(self.axes):
            indices = np.arange(box.start[axis], box.stop[axis], dtype=np.float64)
            places = (indices + 0.5) / self.steps[world] - 0.5
            if self.flipped[world]:
                places = self._count(world) - 1 - places
            taps.append(axis_taps(seen.shape[world], places - self.crop.start[world]))
        turned = along_axes(seen, *taps)
        back = [self.axes.index(axis) for axis in range(3)]
        return np.ascontiguousarray(turned.transpose(back))

    def voxel_mm3(self, header: SeriesHeader) -> float:
        """Of one voxel of the volume."""
        z, y, x = upright(header)[2]
        return z * y * x

    def box_of(self, part: Box) -> Box:
        """The voxels of the volume that a box of the crop may touch, interpolation included."""
        start, stop = [0, 0, 0], [0, 0, 0]
        for world, axis in enumerate(self.axes):
            step, length = self.steps[world], self.shape[axis]
            first = part.start[world] + self.crop.start[world]
            last = part.stop[world] + self.crop.start[world]
            if self.flipped[world]:
                first, last = self._count(world) - last, self._count(world) - first
            start[axis] = min(max(int((first - 1) * step), 0), length - 1)
            stop[axis] = min(max(ceil((last + 1) * step), start[axis] + 1), length)
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def _count(self, world: int) -> int:
        """Voxels of the network's grid along an upright axis, before it is cropped."""
        return ceil(self.shape[self.axes[world]] / self.steps[world])


@dataclass(frozen=True, slots=True)
class Sight:
    """A volume as the network sees it."""

    brightness: NDArray[np.float32]
    """(z, y, x), upright, `LOWEST` to `HIGHEST`, background at the bottom, mean of the body 0."""
    placement: Placement
    body: float
    """Share of the crop that is foreground."""


def see(volume: Volume) -> Sight | None:
    """A volume as the network sees it; None where nothing stands out from the background."""
    heights = heights_of(volume)
    axes, flipped, sizes_mm = upright(volume.header)
    shape = volume.header.shape
    steps = _steps(shape, axes, sizes_mm)
    in_z, in_y, in_x = (_down(shape[axis], steps[axes.index(axis)]) for axis in range(3))
    planes = np.empty((shape[0], len(in_y), len(in_x)), dtype=np.float32)
    rows = np.empty((shape[1], len(in_x)), dtype=np.float32)
    for z, y, block in heights.blocks():
        end = y + len(block)
        rows[y:end] = in_x.along(block.astype(np.float32), 1)
        if end == shape[1]:
            planes[z] = in_y.along(rows, 0)
    small = in_z.along(planes, 0)
    turned = small.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flipped)]
    return _normalise(np.ascontiguousarray(turned), shape, axes, flipped, steps)


def see_labels(marked: NDArray[np.bool_], placement: Placement) -> NDArray[np.float32]:
    """Labels on the network's grid: what share of each of its voxels is marked, over the crop."""
    taps = [
        _down(placement.shape[axis], placement.steps[placement.axes.index(axis)])
        for axis in range(3)
    ]
    small = along_axes(marked.astype(np.float32), *taps)
    steps = tuple(slice(None, None, -1 if f else 1) for f in placement.flipped)
    return np.ascontiguousarray(small.transpose(placement.axes)[steps][placement.crop.slices])


def upright(header: SeriesHeader) -> tuple[Triple, tuple[bool, bool, bool], tuple[float, ...]]:
    """How a volume's axes lie in a patient who stands: the axis along each of (z up, y to the
    front, x to the right), whether it runs against it, and voxel sizes in mm along them.

    Where the source does not say how it lies, its own order is taken.
    """
    affine = header.affine
    columns = [(affine[c], affine[4 + c], affine[8 + c]) for c in (2, 1, 0)]  # of axes z, y, x
    sizes = [dist((0.0, 0.0, 0.0), column) or 1.0 for column in columns]
    if not header.affine_known:
        return (0, 1, 2), (False, False, False), tuple(sizes)

    def fit(axes: tuple[int, ...]) -> float:
        """World z, y, x against the axes chosen for them."""
        return sum(abs(columns[axis][2 - w]) / sizes[axis] for w, axis in enumerate(axes))

    best = max(permutations(range(3)), key=fit)
    flipped = tuple(columns[axis][2 - world] < 0 for world, axis in enumerate(best))
    turned = tuple(sizes[axis] for axis in best)
    return (best[0], best[1], best[2]), (flipped[0], flipped[1], flipped[2]), turned


def _steps(shape: Triple, axes: Triple, sizes_mm: tuple[float, ...]) -> tuple[float, float, float]:
    """Volume voxels to one of the network's, upright; coarser where the field of view is large."""
    voxel_mm = VOXEL_MM
    lengths_mm = [shape[axis] * size for axis, size in zip(axes, sizes_mm, strict=True)]
    voxels = lengths_mm[0] * lengths_mm[1] * lengths_mm[2] / voxel_mm**3
    if voxels > _MAX_VOXELS:
        voxel_mm *= (voxels / _MAX_VOXELS) ** (1 / 3)
    z, y, x = (voxel_mm / size for size in sizes_mm)
    return z, y, x


def _down(length: int, step: float) -> Taps:
    count = max(1, ceil(length / step))
    return axis_taps(length, (np.arange(count) + 0.5) * step - 0.5, step)


def _normalise(
    heights: NDArray[np.float32],
    shape: Triple,
    axes: Triple,
    flipped: tuple[bool, bool, bool],
    steps: tuple[float, float, float],
) -> Sight | None:
    """Cropped to the body, its brightness brought to one scale."""
    body = body_of(heights)
    if body is None:
        return None
    ends = []
    for others in ((1, 2), (0, 2), (0, 1)):
        planes = np.flatnonzero(np.count_nonzero(body, axis=others) >= _MIN_PLANE_VOXELS)
        if planes.size == 0:
            return None
        ends.append((int(planes[0]), int(planes[-1]) + 1))
    start = [max(0, low - _MARGIN) for low, _ in ends]
    stop = [
        min(length, high + _MARGIN) for (_, high), length in zip(ends, heights.shape, strict=True)
    ]
    crop = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    brightness = normalised(heights, body)[crop.slices]
    placement = Placement(shape, axes, flipped, steps, crop)
    return Sight(np.ascontiguousarray(brightness), placement, float(body[crop.slices].mean()))


def body_of(heights: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which voxels are not background; None where hardly any is."""
    above = heights[heights > 0]
    if above.size < _MIN_PLANE_VOXELS:
        return None
    body: NDArray[np.bool_] = heights > _FOREGROUND * np.percentile(above, 99)
    return body


def normalised(heights: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Heights on one scale of brightness: the body's mean 0, its deviation 1, both without the
    outermost percent; background and what is darker still at `LOWEST`."""
    values = heights[body]
    low, high = np.percentile(values, (1, 99))
    kept = values[(values >= low) & (values <= high)]
    middle, spread = float(kept.mean()), float(kept.std()) or 1.0
    brightness = np.clip((heights - middle) / spread, LOWEST, HIGHEST)
    brightness[heights <= 0] = LOWEST
    scaled: NDArray[np.float32] = brightness.astype(np.float32)
    return scaled
