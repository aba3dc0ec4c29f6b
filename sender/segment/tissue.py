"""``tissue``: MedROI's tissue box (Kim & Jang 2026), found by one threshold.

The paper and its published code state different rules; both are here, on heights above the
background (`sender.segment.heights`). What each does, our choices and measured boxes are in
docs/tissue.md.

    paper   tau = mean of the heights above 0; the tight box of the heights above tau
    code    heights between their 1 % and 99 % percentiles -> 0..255; tau = mean of what is above 0;
            3-D opening of what reaches tau; its tight box, padded by 3 voxels
            of a single image (its ``bbox_dicom.py``): the tight box of what is above the 10 %
            percentile of the grays above 0, padded by 3 pixels, and by 9 more where more than
            0.2 % of the grays above 0 still lie outside
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.base import Segmentation
from sender.segment.heights import heights_of
from sender.segment.percentiles import percentiles
from shared.errors import SettingsError
from shared.geometry import Box
from shared.roi import Roi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sender.segment.heights import Heights
    from shared.header import SeriesHeader
    from shared.volume import Volume

_PADDING_VOXELS = 3
"""The code's padding on each side."""
_PERCENTILES = (1.0, 99.0)
"""The code's clipping, of the voxels above background."""
_FLAT_PERCENTILE = 10
"""The code's threshold for a single image."""
_MOST_MISSED = 0.002
_MORE_PADDING_PIXELS = 9
"""The code's second padding of a single image, where the first one missed more."""
_MIN_OPENED = 3
"""An axis with fewer voxels is left out of the opening: it would erase everything there."""


class TissueRule(StrEnum):
    """Whose rule."""

    PAPER = "paper"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Tissue:
    """What a rule found in a volume."""

    box: Box
    """The whole volume where nothing was found: nothing is then taken for background."""
    found: bool
    threshold: float
    """As a real value; meaningless where nothing was found."""


def tissue_box(volume: Volume, rule: TissueRule = TissueRule.PAPER) -> Box:
    """The box of what is not background; the whole volume where nothing stands out."""
    return find_tissue(volume, rule).box


def find_tissue(volume: Volume, rule: TissueRule = TissueRule.PAPER) -> Tissue:
    """The tissue box and its threshold, without ever holding a second volume."""
    heights = heights_of(volume)
    match rule:
        case TissueRule.PAPER:
            box, threshold = _paper_rule(heights)
        case TissueRule.CODE:
            box, threshold = _code_rule(heights)
    whole = Box.whole(volume.header.shape)
    return Tissue(box or whole, box is not None, heights.real_value(threshold))


@dataclass(frozen=True, slots=True)
class TissueSegmenter:
    """The tissue box as the ROI: the default, for it needs nothing from the user."""

    rule: TissueRule = TissueRule.PAPER

    @classmethod
    def parse(cls, argument: str | None) -> TissueSegmenter:
        """The segmenter of ``tissue``, which is ``tissue:paper``, or ``tissue:code``.

        Raises:
            SettingsError: the rule has no such name.
        """
        try:
            return cls(TissueRule.PAPER if argument is None else TissueRule(argument))
        except ValueError:
            raise SettingsError(
                f"--roi tissue or tissue:code expected, got tissue:{argument}"
            ) from None

    @property
    def name(self) -> str:
        """``tissue`` or ``tissue:code``."""
        return "tissue" if self.rule is TissueRule.PAPER else f"tissue:{self.rule}"

    @property
    def slow(self) -> bool:
        """See `sender.segment.base.Segmenter`."""
        return False

    def misfit(self, header: SeriesHeader) -> None:
        """It has an answer for every series."""
        return

    def native(self, header: SeriesHeader) -> bool:
        """It looks at every series itself."""
        return True

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """One answer: the tissue box."""
        tissue = find_tissue(volume, self.rule)
        if tissue.found:
            share = tissue.box.voxels / Box.whole(volume.header.shape).voxels
            side = "below" if volume.inverted else "above"
            reason = (
                f"MedROI's tissue box ({self.rule}'s rule): {share:.1%} of the volume, around what "
                f"lies {side} {tissue.threshold:.4g}."
            )
        else:
            reason = "No tissue stands out from the background: the ROI is the whole volume."
        yield Segmentation((Roi(tissue.box, "tissue", 0),), reason, self.name, tissue.box)


def _paper_rule(heights: Heights) -> tuple[Box | None, float]:
    """One pass: the mean, and the highest value at each index of each axis, settle the box.

    The paper pads by 3 voxels where more than 0.2 % of the tissue falls outside the box. Nothing
    ever falls outside a tight box, so there is no such branch.
    """
    in_z, in_y, in_x = (np.zeros(length) for length in heights.volume.voxels.shape)
    total, count = 0.0, 0
    for z, y, block in heights.blocks():
        total += float(block.sum())
        count += int(np.count_nonzero(block))
        rows = block.max(axis=1)
        in_z[z] = max(in_z[z], rows.max())
        some_y = in_y[y : y + len(rows)]
        np.maximum(some_y, rows, out=some_y)
        np.maximum(in_x, block.max(axis=0), out=in_x)
    tau = total / count if count else 0.0
    return _tight_box(in_z > tau, in_y > tau, in_x > tau), tau


def _code_rule(heights: Heights) -> tuple[Box | None, float]:
    """Three passes: the percentiles, the mean gray, the opened box."""
    match percentiles(heights, _PERCENTILES):
        case [low, high] if high > low:
            pass
        case _:
            return None, 0.0
    if heights.volume.header.shape[0] == 1:
        return _flat_rule(heights, low, high)
    total, count = 0, 0
    for _, _, block in heights.blocks():
        gray = _to_gray(block[block > low], low, high)
        total += int(gray.sum(dtype=np.int64))
        count += int(np.count_nonzero(gray))
    if count == 0:
        return None, low
    tau = total / count
    box = _opened_box(_masks(heights, low, high, ceil(tau)), heights.volume.header.shape)
    return box, low + tau / 255 * (high - low)


def _flat_rule(heights: Heights, low: float, high: float) -> tuple[Box | None, float]:
    """A single image: the grays' histogram, then the box, then what it missed."""
    _, rows, columns = heights.volume.header.shape
    gray = np.empty((rows, columns), dtype=np.uint8)
    for _, y, block in heights.blocks():
        gray[y : y + len(block)] = _to_gray(block, low, high)
    counts = np.bincount(gray.reshape(-1), minlength=256)
    counts[0] = 0
    tau = _percentile_of(counts, _FLAT_PERCENTILE / 100)
    above = gray > tau
    in_y, in_x = (np.logical_or.reduce(above, axis=axis) for axis in (1, 0))
    box = _tight_box(np.array([True]), in_y, in_x)
    threshold = low + tau / 255 * (high - low)
    if box is None:
        return None, threshold
    box = _padded(box, _PADDING_VOXELS, (rows, columns))
    held = int(np.count_nonzero(gray[box.slices[1:]]))
    if counts.sum() - held > _MOST_MISSED * counts.sum():
        box = _padded(box, _MORE_PADDING_PIXELS, (rows, columns))
    return box, threshold


def _percentile_of(counts: NDArray[np.int64], share: float) -> float:
    """`numpy.percentile` of values that are there so many times, linear between two."""
    place = (int(counts.sum()) - 1) * share
    below = np.cumsum(counts)
    one, two = np.searchsorted(below, (int(place), int(place) + 1), side="right")
    return float(one + (two - one) * (place - int(place)))


def _padded(box: Box, by: int, size: tuple[int, int]) -> Box:
    """A box of one slice, wider in its plane."""
    (z, y0, x0), (z1, y1, x1) = box.start, box.stop
    rows, columns = size
    start = (z, max(0, y0 - by), max(0, x0 - by))
    return Box(start, (z1, min(rows, y1 + by), min(columns, x1 + by)))


def _to_gray(block: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """0..255 between two heights, cut down to whole numbers; the heights are overwritten."""
    block -= low
    block /= high - low
    block *= 255
    return np.clip(block, 0, 255, out=block).astype(np.uint8)


def _masks(heights: Heights, low: float, high: float, tau: int) -> Iterator[NDArray[np.bool_]]:
    """Slice by slice, which voxels reach the threshold: (y, x), a new array each."""
    _, height, width = heights.volume.voxels.shape
    mask = np.empty((height, width), dtype=np.bool_)
    for _, y, block in heights.blocks():
        end = y + len(block)
        mask[y:end] = _to_gray(block, low, high) >= tau
        if end == height:
            yield mask
            mask = np.empty_like(mask)


def _opened_box(masks: Iterator[NDArray[np.bool_]], shape: tuple[int, int, int]) -> Box | None:
    """The padded box of a mask's 3-D opening by the 6-neighbour cross, without the opening.

    An opening is an erosion, then a dilation by the same cross; so its box is the box of the
    erosion, grown by one voxel. Three slices are in hand at a time. Beyond its edge the volume
    counts as background, as in scipy.
    """
    opened = [length >= _MIN_OPENED for length in shape]
    in_z, in_y, in_x = (np.zeros(length, dtype=np.bool_) for length in shape)
    nothing = np.zeros(shape[1:], dtype=np.bool_)
    below, here = nothing, next(masks)
    for z in range(shape[0]):
        above = next(masks, nothing)
        core = _eroded_plane(here, opened[1], opened[2])
        if opened[0]:
            core &= below
            core &= above
        in_z[z] = core.any()
        in_y |= core.any(axis=1)
        in_x |= core.any(axis=0)
        below, here = here, above
    core_box = _tight_box(in_z, in_y, in_x)
    if core_box is None:
        return None
    grown = [_PADDING_VOXELS + is_opened for is_opened in opened]
    start = [max(0, low - by) for low, by in zip(core_box.start, grown, strict=True)]
    stop = [
        min(length, high + by) for high, by, length in zip(core_box.stop, grown, shape, strict=True)
    ]
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _eroded_plane(mask: NDArray[np.bool_], in_y: bool, in_x: bool) -> NDArray[np.bool_]:
    """The mask without voxels that have a neighbour outside it, or outside the plane: a copy."""
    core = mask.copy()
    if in_y:
        core[1:] &= mask[:-1]
        core[:-1] &= mask[1:]
        core[0] = core[-1] = False
    if in_x:
        core[:, 1:] &= mask[:, :-1]
        core[:, :-1] &= mask[:, 1:]
        core[:, 0] = core[:, -1] = False
    return core


def _tight_box(*occupied: NDArray[np.bool_]) -> Box | None:
    """The tight box of what is occupied at each index of z, of y, of x; None where nothing is."""
    ends = []
    for indices in map(np.flatnonzero, occupied):
        if indices.size == 0:
            return None
        ends.append((int(indices[0]), int(indices[-1]) + 1))
    (z0, z1), (y0, y1), (x0, x1) = ends
    return Box((z0, y0, x0), (z1, y1, x1))
