"""The frames of a DICOM image: where each lies, how it scales, and which of two comes first.

A single-frame file says these at its top; an enhanced multi-frame file says them per frame, or once
for all, in functional groups (PS3.3 C.7.6.16); other multi-frame files (angiography, nuclear
medicine) say nothing of where a frame lies, except for dose grids (C.8.8.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sender.read.dicom_values import (
    FARTHEST_MM,
    first_item,
    items,
    longs,
    number,
    numbers,
    ordinal,
    refusing_damage,
    short,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from sender.read.dicom_image import DicomImage
    from shared.header import Vector

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_ONE_PLACE = "all frames lie at one position: slices are points in time, or the like, not in space"
_NEAREST_MM = 1e-6
_MOST_RESCALE = 1e30
"""Below the largest float32, in which a NIfTI header holds slope and intercept."""
_SLACK = 0.01
"""How far lengths and the right angle of two directions may be off."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice to be: a frame of a file."""

    image: DicomImage
    index: int
    position: Vector | None
    """Image Position (Patient), LPS."""
    cosines: tuple[float, ...] | None
    """Image Orientation (Patient), six values, LPS."""
    spacing_mm: tuple[float, float] | None
    """Between rows, between columns."""
    step_mm: float | None
    """Spacing Between Slices, or else Slice Thickness: only used where positions do not say it."""
    rescale: tuple[float, float]
    order: tuple[float, ...]
    """Which comes first of frames in one place: acquisition, time, echo, instance, frame."""


def frames_of(image: DicomImage, data_set: Dataset) -> tuple[Frame, ...]:
    """The frames of an image, in the order of its file.

    Raises:
        InputError: what the file says of them is damaged.
    """
    with refusing_damage(image.file.path):
        if any(name in data_set for name in _GROUPS):
            return _enhanced_frames(image, data_set)
        return _plain_frames(image, data_set)


def _enhanced_frames(image: DicomImage, data_set: Dataset) -> tuple[Frame, ...]:
    shared = first_item(data_set, "SharedFunctionalGroupsSequence")
    per_frame = list(items(data_set, "PerFrameFunctionalGroupsSequence"))
    if len(per_frame) not in (0, image.frame_count):
        raise ValueError(f"{len(per_frame)} frame descriptions for {image.frame_count} frames")
    groups: Sequence[Dataset | None] = per_frame or [None] * image.frame_count
    frames = tuple(
        _enhanced_frame(image, index, group, shared, data_set) for index, group in enumerate(groups)
    )
    places = {(frame.position, frame.cosines) for frame in frames}
    if len(frames) > 1 and len(places) == 1 and frames[0].position is not None:
        image = replace(image, remarks=(*image.remarks, _ONE_PLACE))
        return tuple(replace(frame, image=image, position=None) for frame in frames)
    return frames


def _plain_frames(image: DicomImage, data_set: Dataset) -> tuple[Frame, ...]:
    position = vector(data_set, "ImagePositionPatient", length=3)
    cosines = _unit_cosines(vector(data_set, "ImageOrientationPatient", length=6))
    offsets = numbers(data_set, "GridFrameOffsetVector")
    if image.frame_count > 1 and len(offsets) != image.frame_count:
        position = None  # one position for many frames places none of them
    positions = [position] * image.frame_count
    if position is not None and cosines is not None and len(offsets) == image.frame_count:
        positions = [_along(position, cosines, offset - offsets[0]) for offset in offsets]
    return tuple(_plain_frame(image, i, data_set, p, cosines) for i, p in enumerate(positions))


def _plain_frame(
    image: DicomImage,
    index: int,
    data_set: Dataset,
    position: tuple[float, ...] | None,
    cosines: tuple[float, ...] | None,
) -> Frame:
    spacing = vector(data_set, "PixelSpacing", length=2)
    spacing = spacing or vector(data_set, "ImagerPixelSpacing", length=2)
    order = (
        ordinal(data_set, "AcquisitionNumber"),
        ordinal(data_set, "TemporalPositionIdentifier"),
        ordinal(data_set, "EchoNumbers"),
        image.instance_number,
        index,
    )
    return Frame(
        image,
        index,
        _triple(position),
        cosines,
        _pair(spacing),
        _step(data_set),
        _rescale(data_set) or _dose_scaling(data_set),
        order,
    )


def _enhanced_frame(
    image: DicomImage,
    index: int,
    own: Dataset | None,
    shared: Dataset | None,
    data_set: Dataset,
) -> Frame:
    def group(keyword: str) -> Dataset | None:
        return first_item(own, keyword) or first_item(shared, keyword)

    plane, orientation = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    measures, scaling = group("PixelMeasuresSequence"), group("PixelValueTransformationSequence")
    content, echo = group("FrameContentSequence"), group("MREchoSequence")
    position = vector(plane, "ImagePositionPatient", length=3) if plane else None
    cosines = vector(orientation, "ImageOrientationPatient", length=6) if orientation else None
    spacing = vector(measures, "PixelSpacing", length=2) if measures else None
    order = (
        (short(content, "FrameAcquisitionNumber") or 0) if content else 0,
        (longs(content, "TemporalPositionIndex") or (0,))[0] if content else 0,
        float(echo.get("EffectiveEchoTime") or 0) if echo else 0,
        *((longs(content, "DimensionIndexValues")) if content else ()),
        image.instance_number,
        index,
    )
    return Frame(
        image,
        index,
        _triple(position),
        _unit_cosines(cosines),
        _pair(spacing),
        _step(measures) if measures else None,
        (_rescale(scaling) if scaling else _rescale(data_set)) or (1.0, 0.0),
        order,
    )


def _unit_cosines(cosines: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The orientation; None, which becomes a remark, where it is not two unit vectors at a right
    angle (PS3.3 C.7.6.2.1.1: "The row and column direction cosine vectors shall be orthogonal")."""
    if cosines is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    off = max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column))
    return cosines if off <= _SLACK else None


def _along(
    position: tuple[float, ...], cosines: tuple[float, ...], offset: float
) -> tuple[float, ...]:
    return tuple(position + offset * np.cross(cosines[:3], cosines[3:]))


def _step(data_set: Dataset) -> float | None:
    """A distance that is none, or beyond all measure, says nothing."""
    step = abs(number(data_set, "SpacingBetweenSlices") or number(data_set, "SliceThickness") or 0)
    return step if _NEAREST_MM <= step <= FARTHEST_MM else None


def _rescale(data_set: Dataset) -> tuple[float, float] | None:
    slope, intercept = number(data_set, "RescaleSlope"), number(data_set, "RescaleIntercept")
    if slope is None and intercept is None:
        return None
    return _bounded(1.0 if slope is None else slope, intercept or 0.0)


def _dose_scaling(data_set: Dataset) -> tuple[float, float]:
    """PS3.3 C.8.8.3: stored values times Dose Grid Scaling give the dose."""
    return _bounded(number(data_set, "DoseGridScaling") or 1.0, 0.0)


def _bounded(slope: float, intercept: float) -> tuple[float, float]:
    if max(abs(slope), abs(intercept)) > _MOST_RESCALE:
        raise ValueError(f"no scaling by {slope} and {intercept} can be meant")
    return slope, intercept


def _triple(values: tuple[float, ...] | None) -> Vector | None:
    return (values[0], values[1], values[2]) if values else None


def _pair(spacing: tuple[float, ...] | None) -> tuple[float, float] | None:
    """A pixel spacing; one that is not positive says nothing."""
    if spacing is None or min(spacing) < _NEAREST_MM:
        return None
    return spacing[0], spacing[1]
