"""Frames into stacks: which slices make a volume, and in which order.

    frames --same series, format, plane--> groups --along the normal--> positions
    positions with several frames --k-th of each--> stacks (time points, echoes, directions)

Slices are sorted by where they lie, never by instance number: scanners number them in any order.
Only frames whose position is unknown keep the order of their numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sender.read.dicom_geometry import SAME_PLACE_MM, normal_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from sender.read.dicom_frames import Frame

_SAME_COSINES = 1e-4
_SAME_SPACING = 1e-3


@dataclass(frozen=True, slots=True)
class SeriesWords:
    """What people call a series, and whose it is."""

    description: str
    identity: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """The slices of one volume, sorted, before their voxels are read."""

    frames: tuple[Frame, ...]
    label: str
    identity: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


def stacks_of(frames: Iterable[Frame], words: Mapping[str, SeriesWords]) -> tuple[Stack, ...]:
    """All volumes of a study, by series number, then series UID, then instance number.

    Args:
        frames: in any order.
        words: of each Series Instance UID.
    """
    series: dict[tuple[int, str], list[list[Frame]]] = defaultdict(list)
    for group in _groups(frames):
        image = group[0].image
        series[image.series_number, image.series_uid].append(group)
    stacks: list[Stack] = []
    for (number, uid), groups in sorted(series.items()):
        groups.sort(key=lambda group: min(frame.order[-2:] for frame in group))
        for part, group in enumerate(groups, start=1):
            label = _label(group[0].image.modality, words[uid].description, number)
            if len(groups) > 1:
                label += f", part {part} of {len(groups)}"
            stacks += _stacks(group, label, words[uid])
    return tuple(stacks)


def _label(modality: str, description: str, number: int) -> str:
    name = " ".join(part for part in (modality, description) if part) or "DICOM"
    return f"{name}, series {number}" if number else name


def _groups(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Frames that one volume can hold: same series, class, pixel format and plane."""
    groups: dict[Hashable, list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        image = frame.image
        placed = frame.position is not None and frame.cosines is not None
        # many frames without a position, such as a cine run, make a volume of their own
        alone = None if placed or image.frame_count == 1 else image.file.path
        key = (image.series_number, image.series_uid, image.sop_class, image.format, placed, alone)
        for group in groups[key]:
            if _same_plane(frame, group[0]):
                group.append(frame)
                break
        else:
            groups[key].append([frame])
    return [group for alike in groups.values() for group in alike]


def _same_plane(one: Frame, other: Frame) -> bool:
    return _near(one.cosines, other.cosines, _SAME_COSINES) and _near(
        one.spacing_mm, other.spacing_mm, _SAME_SPACING
    )


def _near(one: Sequence[float] | None, other: Sequence[float] | None, most: float) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


def _stacks(group: list[Frame], label: str, words: SeriesWords) -> list[Stack]:
    """The k-th frame of every position makes stack k; later stacks may have fewer slices."""
    positions = _positions(group)
    count = max(map(len, positions))
    if count == 1:
        return [Stack(tuple(frames[0] for frames in positions), label, words.identity, ())]
    uneven = any(len(frames) != count for frames in positions)
    stacks = []
    for k in range(count):
        remark = f"up to {count} images lie at one position: this is stack {k + 1} of {count}"
        remarks = (remark, "stacks have different numbers of slices")[: 1 + uneven]
        frames = tuple(frames[k] for frames in positions if k < len(frames))
        name = f"{label}, stack {k + 1} of {count}"
        stacks.append(Stack(frames, name, words.identity, remarks))
    return stacks


def _positions(group: list[Frame]) -> list[list[Frame]]:
    """Frames by position, sorted along the normal; at each position, by acquisition and time."""
    cosines = group[0].cosines
    if cosines is None or group[0].position is None:
        return [[frame] for frame in sorted(group, key=_number)]
    x, y, z = normal_of(cosines)
    deep = [(x * p[0] + y * p[1] + z * p[2], f) for f in group if (p := f.position) is not None]
    deep.sort(key=lambda pair: pair[0])
    positions: list[list[Frame]] = []
    start = 0.0
    for depth, frame in deep:
        if not positions or depth - start > SAME_PLACE_MM:
            positions.append([])
            start = depth
        positions[-1].append(frame)
    for frames in positions:
        frames.sort(key=lambda frame: (frame.order, str(frame.image.file.path)))
    return positions


def _number(frame: Frame) -> tuple[int, str, int]:
    return frame.image.instance_number, str(frame.image.file.path), frame.index
