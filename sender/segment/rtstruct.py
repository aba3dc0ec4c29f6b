"""A DICOM RT Structure Set (PS3.3 A.19): closed planar contours, filled on the series' own grid.

    contours (LPS mm) -> voxels of the series -> planes -> even-odd fill -> slices

A voxel is inside where its centre is. Contours of one plane cut each other out, which is how holes
are drawn. A slice takes the nearest plane of contours if it lies within half a plane's distance, so
that contours drawn on every third slice fill the two between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sender.read.dicom_values import refusing_damage
from sender.segment.onto import matrix_of, slice_matrix
from sender.segment.supplied import Drawn, other_frame
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from sender.segment.supplied import Wanted
    from shared.header import SeriesHeader

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""
_MAX_CONTOURS = 100_000
_MAX_POINTS = 1 << 22
_SAME_PLANE = 0.05
"""Slices: contours this near lie in one plane."""
_ACROSS = 0.5
"""Slices: a contour whose points lie further apart was drawn across the slices."""
_POINT = "POINT"
_MOST_OUTSIDE = 0.01


@dataclass(frozen=True, slots=True)
class Contour:
    """One outline."""

    number: int
    """Of its ROI."""
    points: NDArray[np.float64]
    """(points, 3), RAS millimetres."""


@dataclass(frozen=True, slots=True)
class StructureLabels:
    """The contours of a structure set."""

    path: Path
    frame: str
    contours: tuple[Contour, ...]
    names: Mapping[int, str]

    def misfit(self, header: SeriesHeader) -> InputError | None:
        """Another frame of reference, or a series that does not say where it lies."""
        if (error := other_frame(self.path, self.frame, header)) is not None:
            return error
        if not header.affine_known:
            label = header.label or "the series"
            return InputError(
                self.path,
                f"its contours are in millimetres, and {label} does not say where it lies",
            )
        return None

    def native(self, header: SeriesHeader) -> bool:
        """Contours have no grid; they belong to where they were drawn, slice on slice."""
        planes = self._planes(header, None)
        return all(abs(z - round(z)) < _SAME_PLANE for z, _ in planes)

    def drawn_on(self, header: SeriesHeader, wanted: Wanted | None) -> Drawn:
        """The contours, filled on the slices of a series."""
        if (error := self.misfit(header)) is not None:
            raise error
        found = np.zeros(header.shape, dtype=np.bool_)
        planes = self._planes(header, wanted)
        reach = _reach([z for z, _ in planes])
        lost = 0
        for z in range(header.shape[0]):
            near = [plane for plane in planes if abs(plane[0] - z) <= reach]
            if near:
                closest = min(near, key=lambda plane: abs(plane[0] - z))
                for outline in closest[1]:
                    found[z] ^= fill(outline, (header.shape[1], header.shape[2]))
        lost = sum(_outside(z, outlines, header) for z, outlines in planes)
        total = sum(len(outlines) for _, outlines in planes)
        if total and lost / total > _MOST_OUTSIDE:
            label = header.label or "the series"
            raise InputError(self.path, f"{lost} of {total} contours lie outside {label}")
        return Drawn(found, resampled=False)

    def _planes(
        self, header: SeriesHeader, wanted: Wanted | None
    ) -> list[tuple[float, list[NDArray[np.float64]]]]:
        """Contours by the slice in which they lie, as (x, y) of its voxels; slices may be between
        two of the series'."""
        places = _Slices(header)
        flat: list[tuple[float, NDArray[np.float64]]] = []
        for contour in self.contours:
            if wanted is not None and contour.number not in wanted:
                continue
            slices, outline = places.flat(contour.points)
            if np.ptp(slices) > _ACROSS:
                label = header.label or "the series"
                raise InputError(self.path, f"its contours were drawn across the slices of {label}")
            flat.append((float(slices.mean()), outline))
        flat.sort(key=lambda pair: pair[0])
        planes: list[tuple[float, list[NDArray[np.float64]]]] = []
        for z, outline in flat:
            if planes and z - planes[-1][0] < _SAME_PLANE:
                planes[-1][1].append(outline)
            else:
                planes.append((z, [outline]))
        return planes


class _Slices:
    """Millimetres -> (slice, column, row), slices counted by where each really lies."""

    def __init__(self, header: SeriesHeader) -> None:
        depth = header.shape[0]
        self._inverse = np.linalg.inv(matrix_of(header.affine))
        origins = np.array([slice_matrix(header, z)[:3, 2] for z in range(depth)])
        first = slice_matrix(header, 0)
        across = np.cross(first[:3, 0], first[:3, 1])
        self._normal = across / np.linalg.norm(across)
        depths = origins @ self._normal
        self._even = depth < 2 or bool(np.any(np.diff(depths) * (depths[1] - depths[0]) <= 0))
        self._depths = depths
        self._origins = origins

    def flat(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The slice of each point, and its (x, y) there."""
        ones = np.ones((len(points), 1))
        voxels = (self._inverse @ np.hstack((points, ones)).T).T
        if self._even:
            return voxels[:, 2], voxels[:, :2]
        away = points @ self._normal
        depths, order = self._depths, np.arange(len(self._depths), dtype=np.float64)
        if depths[0] > depths[-1]:
            depths, order = depths[::-1], order[::-1]
        z = np.interp(away, depths, order)
        low, high = depths[1] - depths[0], depths[-1] - depths[-2]
        step = order[1] - order[0]
        z = np.where(away < depths[0], order[0] + step * (away - depths[0]) / low, z)
        z = np.where(away > depths[-1], order[-1] + step * (away - depths[-1]) / high, z)
        return z, voxels[:, :2]


def open_rtstruct(path: Path, data_set: Dataset) -> StructureLabels:
    """The contours of an object.

    Raises:
        InputError: it is damaged, too large, or has no contours.
    """
    with refusing_damage(path):
        names = {
            int(roi.ROINumber): str(roi.get("ROIName", ""))
            for roi in data_set.get("StructureSetROISequence", ())
        }
        frames = {
            str(roi.get("ReferencedFrameOfReferenceUID", ""))
            for roi in data_set.get("StructureSetROISequence", ())
        } - {""}
        contours = _contours(path, data_set)
    if len(frames) > 1:
        raise InputError(path, "its ROIs lie in several frames of reference")
    if not contours:
        raise InputError(path, "it holds no closed contour")
    return StructureLabels(path, frames.pop() if frames else "", contours, names)


def _contours(path: Path, data_set: Dataset) -> tuple[Contour, ...]:
    found: list[Contour] = []
    points = 0
    for roi in data_set.get("ROIContourSequence", ()):
        for contour in roi.get("ContourSequence", ()):
            values = np.array(contour.ContourData, dtype=np.float64)
            points += values.size // 3
            if len(found) >= _MAX_CONTOURS or points > _MAX_POINTS:
                raise InputError(path, f"more than {_MAX_CONTOURS} contours or too many points")
            if str(contour.get("ContourGeometricType", "")) == _POINT or values.size < 9:
                continue
            if values.size % 3 or not np.isfinite(values).all():
                raise ValueError("ContourData is no list of points")
            outline = values.reshape(-1, 3) * (-1, -1, 1)
            found.append(Contour(int(roi.ReferencedROINumber), outline))
    return tuple(found)


def fill(outline: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside a closed polygon, by the even-odd rule.

    Args:
        outline: (points, 2), (x, y) in pixels; the middle of the first pixel is (0, 0).
        shape: (rows, columns).
    """
    inside = np.zeros(shape, dtype=np.bool_)
    x0, y0 = outline.T
    x1, y1 = np.roll(outline, -1, axis=0).T
    first = max(0, int(np.ceil(y0.min())))
    last = min(shape[0] - 1, int(np.floor(y0.max())))
    columns = np.arange(shape[1])
    for row in range(first, last + 1):
        # An edge counts from its lower end on and without its upper one: a corner counts once.
        crosses = (np.minimum(y0, y1) <= row) & (row < np.maximum(y0, y1))
        if not crosses.any():
            continue
        share = (row - y0[crosses]) / (y1[crosses] - y0[crosses])
        edges = np.sort(x0[crosses] + share * (x1[crosses] - x0[crosses]))
        inside[row] = np.searchsorted(edges, columns, side="right") % 2 == 1
    return inside


def _reach(places: list[float]) -> float:
    """Slices to either side for which a plane of contours speaks: half the usual distance."""
    gaps = np.diff(sorted(places))
    usual = float(np.median(gaps)) if gaps.size else 1.0
    return max(0.5, usual / 2) + 1e-6


def _outside(z: float, outlines: list[NDArray[np.float64]], header: SeriesHeader) -> int:
    """How many outlines of a plane lie outside the series, in part or whole."""
    depth, rows, columns = header.shape
    if not -0.5 <= z <= depth - 0.5:
        return len(outlines)
    far = np.array((columns - 0.5, rows - 0.5))
    return sum(bool(((outline < -0.5) | (outline > far)).any()) for outline in outlines)
