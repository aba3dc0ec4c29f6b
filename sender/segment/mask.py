"""``mask:FILE``: the ROI as someone drew it, a NIfTI label map on the grid of the scan.

Every label but 0 is lesion, all labels together. The map may be stored with its axes in another
order or direction than the scan; a map on another grid is refused, never resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sender.segment.base import Segmentation
from sender.segment.components import marked_boxes
from sender.segment.grid import Grid, turn_between
from sender.segment.labelmap import grid_of, open_labels, read_marked
from shared.errors import InputError, SettingsError
from shared.roi import Roi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sender.read.nifti import NiftiFile
    from sender.segment.grid import Turn
    from shared.header import SeriesHeader
    from shared.volume import Volume


@dataclass(frozen=True, slots=True)
class MaskSegmenter:
    """The parts of a label map, the one with the most voxels first."""

    path: Path
    name: str = "mask"

    @classmethod
    def parse(cls, argument: str | None) -> MaskSegmenter:
        """The segmenter of ``mask:`` and this file.

        Raises:
            SettingsError: no file is named.
        """
        if not argument:
            raise SettingsError("--roi mask:FILE expected, a NIfTI label map; no file is named")
        return cls(Path(argument))

    def misfit(self, header: SeriesHeader) -> InputError | None:
        """Why the mask does not belong to a series: it cannot be read, or lies on another grid."""
        try:
            self._turn(open_labels(self.path), header)
        except InputError as error:
            return error
        return None

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """One answer: boxes around all that is marked, at most 16, none touching another.

        Raises:
            InputError: the mask cannot be read, lies on another grid, or is not a label map.
        """
        file = open_labels(self.path)
        turn = self._turn(file, volume.header)
        marked = turn.voxels(read_marked(file))
        boxes, parts = marked_boxes(marked)
        if not boxes:
            yield Segmentation((), "The mask is empty: nothing comes first.", self.name)
            return
        rois = tuple(Roi(found.box, "lesion", rank) for rank, found in enumerate(boxes))
        share = sum(roi.box.voxels for roi in rois) / marked.size
        reason = (
            f"The mask marks {_count(sum(found.marked for found in boxes), 'voxel')} in "
            f"{_count(parts, 'part')}: {_count(len(rois), 'ROI')}, {share:.1%} of the volume."
        )
        yield Segmentation(rois, reason, self.name)

    def _turn(self, file: NiftiFile, series: SeriesHeader) -> Turn:
        """How the mask's axes lie along those of the series."""
        turn = turn_between(grid_of(file), Grid.of(series))
        if isinstance(turn, str):
            label = series.label or "the series"
            raise InputError(self.path, f"not on the grid of {label}: {turn}")
        return turn


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
