"""A DICOM Segmentation (PS3.3 A.51): bits, frame by frame, each of one segment at one position.

Fractional segmentations mark whatever is above zero: a lesion at 10 % is a lesion that somebody
saw. Read with pydicom alone; frames must lie on evenly spaced parallel planes, empty ones may be
left out, as the standard allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from protocol import limits
from sender.read.dicom_values import refusing_damage
from sender.segment.grid import Grid
from sender.segment.supplied import GridLabels
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from sender.segment.supplied import Wanted
    from shared.geometry import Affine

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
"""Segmentation Storage."""
_SAME_PLANE_MM = 1e-2
_UNEVEN = 0.1
"""Of the spacing: how far a plane may lie from its place."""


@dataclass(frozen=True, slots=True)
class _Segments:
    path: Path
    data_set: Dataset
    planes: tuple[int, ...]
    """Of each frame, its place along z."""
    numbers: tuple[int, ...]
    """Of each frame, its segment."""
    shape: tuple[int, int, int]

    def marked(self, wanted: Wanted | None) -> NDArray[np.bool_]:
        """What lies in any segment, or in one of these: (z, y, x)."""
        with refusing_damage(self.path):
            frames = self.data_set.pixel_array
        frames = frames.reshape(-1, *self.shape[1:])
        if len(frames) != len(self.planes):
            raise InputError(self.path, f"damaged: {len(frames)} frames, not {len(self.planes)}")
        found = np.zeros(self.shape, dtype=np.bool_)
        for frame, plane, number in zip(frames, self.planes, self.numbers, strict=True):
            if wanted is None or number in wanted:
                found[plane] |= frame != 0
        return found


def open_seg(path: Path, data_set: Dataset) -> GridLabels:
    """Where the segments of an object lie, and what they are called.

    Raises:
        InputError: it is damaged, too large, or its frames are not evenly spaced.
    """
    with refusing_damage(path):
        rows, columns = int(data_set.Rows), int(data_set.Columns)
        count = int(data_set.NumberOfFrames)
        if max(rows, columns) > limits.MAX_AXIS or not 0 < count <= 64 * limits.MAX_FRAMES:
            raise InputError(path, f"{count} frames of {rows} x {columns} are not read")
        if rows * columns * count > limits.MAX_VOXELS:
            raise InputError(path, f"{rows * columns * count} voxels are too many")
        shared = data_set.SharedFunctionalGroupsSequence[0]
        frames = list(data_set.PerFrameFunctionalGroupsSequence)
        if len(frames) != count:
            raise InputError(path, f"damaged: {len(frames)} frame descriptions of {count} frames")
        positions = np.array([_position(shared, frame) for frame in frames])
        numbers = tuple(_segment(shared, frame) for frame in frames)
        row, column, spacing = _plane(shared, frames[0])
        names = {
            int(s.SegmentNumber): str(s.get("SegmentLabel", "")) for s in data_set.SegmentSequence
        }
        frame_uid = str(data_set.get("FrameOfReferenceUID", ""))
    normal = np.cross(row, column)
    places, step_mm, first = _places(path, positions @ normal, _thickness(shared, frames[0]))
    depth = max(places) + 1
    shape = (depth, rows, columns)
    if prod(shape) > limits.MAX_VOXELS:
        raise InputError(path, f"{prod(shape)} voxels between its frames are too many")
    # Planes need not lie straight above each other: a tilted gantry shears the stack.
    last = int(np.argmax(places))
    up = (positions[last] - positions[first]) / places[last] if places[last] else normal * step_mm
    affine = _affine(row * spacing[1], column * spacing[0], up, positions[first])
    segments = _Segments(path, data_set, places, numbers, shape)
    return GridLabels(path, Grid(shape, affine), frame_uid, "", segments.marked, names)


def _position(shared: Dataset, frame: Dataset) -> list[float]:
    place = _group(shared, frame, "PlanePositionSequence")
    return [float(value) for value in place.ImagePositionPatient]


def _segment(shared: Dataset, frame: Dataset) -> int:
    return int(_group(shared, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _plane(
    shared: Dataset, frame: Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Directions along a row and down a column, LPS, and spacing between rows and columns."""
    cosines = _group(shared, frame, "PlaneOrientationSequence").ImageOrientationPatient
    row, column = np.array(cosines, dtype=np.float64).reshape(2, 3)
    rows_mm, columns_mm = _group(shared, frame, "PixelMeasuresSequence").PixelSpacing
    return row, column, (float(rows_mm), float(columns_mm))


def _thickness(shared: Dataset, frame: Dataset) -> float:
    measures = _group(shared, frame, "PixelMeasuresSequence")
    between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0
    return abs(float(between)) or 1.0


def _group(shared: Dataset, frame: Dataset, keyword: str) -> Dataset:
    """A functional group of a frame, or the one that all frames share (PS3.3 C.7.6.16)."""
    sequence = frame.get(keyword) or shared.get(keyword)
    if not sequence:
        raise ValueError(f"{keyword} is missing")
    group: Dataset = sequence[0]
    return group


def _places(
    path: Path, depths: NDArray[np.float64], thickness_mm: float
) -> tuple[tuple[int, ...], float, int]:
    """Each frame's place along z, the step in mm, and which frame lies first."""
    order = np.sort(depths)
    gaps = np.diff(order)
    gaps = gaps[gaps > _SAME_PLANE_MM]
    step_mm = float(gaps.min()) if gaps.size else thickness_mm
    if gaps.size and thickness_mm < step_mm and _whole(gaps / thickness_mm):
        step_mm = thickness_mm  # planes between the frames are all empty
    places = (depths - order[0]) / step_mm
    if not _whole(places):
        raise InputError(path, "its frames are not evenly spaced")
    if places.max() > limits.MAX_AXIS:
        raise InputError(path, f"its frames lie {places.max():.0f} planes apart")
    whole = tuple(int(place) for place in np.rint(places))
    return whole, step_mm, int(depths.argmin())


def _whole(values: NDArray[np.float64]) -> bool:
    return bool(np.all(np.abs(values - np.rint(values)) < _UNEVEN))


def _affine(
    along_x: NDArray[np.float64],
    along_y: NDArray[np.float64],
    along_z: NDArray[np.float64],
    origin: NDArray[np.float64],
) -> Affine:
    """LPS vectors as an affine to RAS."""
    matrix = np.eye(4)
    matrix[:3] = np.stack((along_x, along_y, along_z, origin), axis=1) * [[-1], [-1], [1]]
    return tuple(map(float, matrix.ravel()))
