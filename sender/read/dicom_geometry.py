"""Where a stack of slices lies: one affine, the geometry of each slice, and what is odd about it.

Slices come sorted along the normal of their plane. The affine takes the mean step from first to
last, so it holds the shear of a tilted gantry; what a single step cannot say becomes a remark. In
remarks slices count from 1, as people count them.

DICOM is LPS, an affine of ours RAS (see `shared.geometry`): x and y change their sign here, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared.header import Frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sender.read.dicom_frames import Frame
    from shared.geometry import Affine
    from shared.header import Vector

SAME_PLACE_MM = 0.01
"""Positions nearer than this along the normal are one position: positions are written to 0.001."""
_UNEVEN_SHARE, _UNEVEN_MM = 0.01, 0.01
_MISSING_SHARE = 0.1
"""How far from a multiple of the median step a gap may be and still count as missing slices."""
_TILT_DEGREES = 0.2
"""Smaller angles come from positions written with few digits."""
_SHIFT_MM = 0.1
_MOST_GAPS = 4
"""Gaps that get a remark each; the others are counted in one."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Geometry:
    """Of one volume."""

    affine: Affine
    affine_known: bool
    frames: Frames
    slope: float
    intercept: float
    remarks: tuple[str, ...]


def normal_of(cosines: Sequence[float]) -> NDArray[np.float64]:
    """The direction across a plane, LPS."""
    normal: NDArray[np.float64] = np.cross(cosines[:3], cosines[3:])
    return normal


def geometry_of(stack: Sequence[Frame]) -> Geometry:
    """The geometry of slices that share orientation and spacing, sorted."""
    first = stack[0]
    slope, intercept, remarks = _scaling(stack)
    if first.position is None or first.cosines is None:
        remarks += (_position_unknown(stack),)
    if first.spacing_mm is None:
        remarks += ("spacing unknown",)
    known = first.position is not None and first.cosines is not None and bool(first.spacing_mm)
    if known:
        matrix, more = _placed(stack)
        remarks += more
    else:
        rows_mm, columns_mm = first.spacing_mm or (1.0, 1.0)
        matrix = np.diag([columns_mm, rows_mm, first.step_mm or 1.0, 1.0])
    affine = tuple(float(value) for value in matrix.ravel())
    return Geometry(affine, known, _frames(stack), slope, intercept, remarks)


def _position_unknown(stack: Sequence[Frame]) -> str:
    if len(stack) == 1:
        return "position unknown"
    if stack[0].image.frame_count > 1:
        return "position unknown: slices in the order of the file"
    return "position unknown: slices in the order of their instance numbers"


def _frames(stack: Sequence[Frame]) -> Frames:
    """The geometry as the scanner wrote it; an orientation that is unknown reads as axial."""
    first = stack[0]
    cosines = first.cosines or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    placed = first.cosines is not None
    rescale = tuple(frame.rescale for frame in stack)
    return Frames(
        row_cosines=_vector(cosines[:3]),
        column_cosines=_vector(cosines[3:]),
        pixel_spacing_mm=first.spacing_mm or (1.0, 1.0),
        positions_mm=tuple(p for frame in stack if placed and (p := frame.position) is not None),
        rescale=rescale[:1] if len(set(rescale)) == 1 else rescale,
    )


def _scaling(stack: Sequence[Frame]) -> tuple[float, float, tuple[str, ...]]:
    pairs = {frame.rescale for frame in stack}
    if any(slope == 0 for slope, _ in pairs):
        return 1.0, 0.0, ("a rescale slope is 0, which cannot be meant: values are as stored",)
    if len(pairs) > 1:
        return 1.0, 0.0, ("each slice has its own rescale slope and intercept",)
    ((slope, intercept),) = pairs
    return slope, intercept, ()


def _placed(stack: Sequence[Frame]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine of slices with positions, and remarks on their steps."""
    first = stack[0]
    assert first.cosines is not None
    assert first.spacing_mm is not None
    positions = np.array([frame.position for frame in stack])
    normal = normal_of(first.cosines)
    if len(stack) > 1:
        step = (positions[-1] - positions[0]) / (len(stack) - 1)
    else:
        step = normal * (first.step_mm or 1.0)
    rows_mm, columns_mm = first.spacing_mm
    matrix = np.eye(4)
    matrix[:3, 0] = _LPS_TO_RAS @ np.array(first.cosines[:3]) * columns_mm
    matrix[:3, 1] = _LPS_TO_RAS @ np.array(first.cosines[3:]) * rows_mm
    matrix[:3, 2] = _LPS_TO_RAS @ step
    matrix[:3, 3] = _LPS_TO_RAS @ positions[0]
    remarks = _tilt(first, step, normal, slices=len(stack))
    if len(stack) > 1:
        remarks += _steps([float(gap) for gap in np.diff(positions @ normal)])
        remarks += _shifts(positions, step, normal)
    return matrix, remarks


def _tilt(
    first: Frame, step: NDArray[np.float64], normal: NDArray[np.float64], *, slices: int
) -> tuple[str, ...]:
    """The angle between the way the slices go and the way they face; for a single slice, what the
    scanner says of its gantry."""
    along = abs(float(step @ normal)) / float(np.linalg.norm(step))
    degrees = math.degrees(math.acos(min(1.0, along)))
    if slices == 1:
        degrees = abs(first.image.tilt_degrees)
    if degrees < _TILT_DEGREES:
        return ()
    if first.image.modality == "CT":
        return (f"gantry tilt {degrees:.1f} degrees",)
    return (f"slices are sheared by {degrees:.1f} degrees",)


def _steps(gaps: list[float]) -> tuple[str, ...]:
    """Remarks on missing slices and uneven spacing."""
    median = sorted(gaps)[(len(gaps) - 1) // 2]
    multiples = [max(1, round(gap / median)) for gap in gaps]
    odd = [abs(gap / median - k) > _MISSING_SHARE for gap, k in zip(gaps, multiples, strict=True)]
    if any(odd):
        return (_varies(gaps),)
    remarks = [
        f"{_slices(k - 1)} missing between slice {at} and {at + 1} (gap {k} x {median:.2f} mm)"
        for at, k in enumerate(multiples, start=1)
        if k > 1
    ]
    if len(remarks) > _MOST_GAPS:
        others = len(remarks) - _MOST_GAPS
        remarks[_MOST_GAPS:] = [f"slices are missing in {others} more places"]
    steps = [gap / k for gap, k in zip(gaps, multiples, strict=True)]
    if max(abs(step - median) for step in steps) > max(_UNEVEN_SHARE * median, _UNEVEN_MM):
        remarks.append(_varies([gap for gap, k in zip(gaps, multiples, strict=True) if k == 1]))
    return tuple(remarks)


def _varies(gaps: list[float]) -> str:
    return f"slice spacing varies from {min(gaps):.2f} to {max(gaps):.2f} mm"


def _slices(count: int) -> str:
    return "1 slice is" if count == 1 else f"{count} slices are"


def _shifts(
    positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[str, ...]:
    """Whether slices lie beside the line from first to last."""
    depths = (positions - positions[0]) @ normal
    line = positions[0] + np.outer(depths / float(step @ normal), step)
    worst = float(np.linalg.norm(positions - line, axis=1).max())
    return (
        (f"slices are shifted in their plane by up to {worst:.2f} mm",) if worst > _SHIFT_MM else ()
    )


def _vector(values: Sequence[float]) -> Vector:
    x, y, z = values
    return float(x), float(y), float(z)
