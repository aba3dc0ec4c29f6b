"""``mask:FILE``: the ROI as someone drew it: a label map, DICOM segments or contours.

Every label is lesion, all labels together, unless ranks say which comes first. What was drawn on
another grid in the same frame of reference is resampled by nearest neighbour; what lies elsewhere
is refused. The ROI is what is marked and a margin around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.base import Segmentation
from sender.segment.grow import Marks, reach_of, rois_of
from sender.segment.options import MARGIN_VOXELS
from sender.segment.ranks import Ranks
from sender.segment.supplied import open_supplied
from shared.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sender.segment.grow import Grown
    from sender.segment.supplied import LabelSource
    from shared.header import SeriesHeader
    from shared.volume import Volume


@dataclass(frozen=True, slots=True)
class MaskSegmenter:
    """The parts of what is drawn, rank by rank, the one with the most voxels first."""

    path: Path
    margin_voxels: int = MARGIN_VOXELS
    ranks: Ranks = field(default_factory=Ranks)
    name: str = "mask"

    @classmethod
    def parse(
        cls, argument: str | None, margin_voxels: int = MARGIN_VOXELS, ranks: Ranks | None = None
    ) -> MaskSegmenter:
        """The segmenter of ``mask:`` and this file.

        Raises:
            SettingsError: no file is named.
        """
        if not argument:
            raise SettingsError(
                "--roi mask:FILE expected, a label map (NIfTI, NRRD), DICOM SEG or RTSTRUCT; "
                "no file is named"
            )
        return cls(Path(argument), margin_voxels, ranks or Ranks())

    @property
    def slow(self) -> bool:
        """See `sender.segment.base.Segmenter`."""
        return False

    def misfit(self, header: SeriesHeader) -> InputError | None:
        """Why the mask does not belong to a series: it cannot be read, or lies elsewhere."""
        try:
            return open_supplied(self.path).misfit(header)
        except InputError as error:
            return error

    def native(self, header: SeriesHeader) -> bool:
        """Whether it was drawn on this series."""
        return open_supplied(self.path).native(header)

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """One answer: what is marked, at most 16 ROIs a rank.

        Raises:
            InputError: the mask cannot be read, lies elsewhere, or is not a label map.
        """
        source = open_supplied(self.path)
        if (error := source.misfit(volume.header)) is not None:
            raise error
        groups, resampled = self._groups(source, volume.header)
        grown = rois_of(groups, reach_of(volume.header, self.margin_voxels))
        if not grown.rois:
            yield Segmentation((), "The mask is empty: nothing comes first.", self.name)
            return
        yield Segmentation(
            grown.rois, _reason(grown, volume.voxels.size, self.margin_voxels, resampled), self.name
        )

    def _groups(self, source: LabelSource, header: SeriesHeader) -> tuple[list[Marks], bool]:
        """Marks by rank, and whether they were drawn on another grid."""
        groups, resampled = [], False
        called = source.names
        for rank in self.ranks.ranks:
            drawn = source.drawn_on(header, rank.wanted(called))
            groups.append(Marks(rank.label, drawn.marked))
            resampled |= drawn.resampled
        if self.ranks.others is not None:
            drawn = source.drawn_on(header, None)
            marked = drawn.marked
            for group in groups:
                marked = marked & ~group.marked
            groups.append(Marks(self.ranks.others, marked))
            resampled |= drawn.resampled
        return [group for group in groups if np.any(group.marked)], resampled


def _reason(grown: Grown, voxels: int, margin_voxels: int, resampled: bool) -> str:
    if grown.marked == voxels:
        return "The mask marks every voxel: the ROI is the whole volume, so nothing comes first."
    margin = f" with {_count(margin_voxels, 'voxel')} of margin" if margin_voxels else ""
    words = (
        f"The mask marks {_count(grown.marked, 'voxel')} in {_count(grown.parts, 'part')}: "
        f"{_count(len(grown.rois), 'ROI')}{margin}, {grown.voxels / voxels:.1%} of the volume"
    )
    return f"{words}; drawn on another grid, resampled." if resampled else f"{words}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
