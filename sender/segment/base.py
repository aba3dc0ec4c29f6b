"""What a segmenter promises: which voxels of a volume must be exact first, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.errors import MedroiError
    from shared.geometry import Box
    from shared.header import SeriesHeader
    from shared.roi import Roi
    from shared.volume import Volume


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One answer of a segmenter.

    Raises:
        ValueError: the ROIs are not in the order of their ranks 0, 1, 2...
    """

    rois: tuple[Roi, ...]
    """Rank 0 first; empty where nothing is to come before the rest."""
    reason: str
    """One sentence for report and screen; it names no file and no patient."""
    source: str
    """The segmenter's name."""
    tissue: Box | None = None
    """The box of what is not background, where the segmenter has found it on its way."""

    def __post_init__(self) -> None:
        ranks = [roi.rank for roi in self.rois]
        if ranks != list(range(len(ranks))):
            raise ValueError(f"ROIs of rank {ranks}; 0, 1, 2... expected")


class Segmenter(Protocol):
    """One way to find the ROI. Stateless: may be used for several volumes at once."""

    @property
    def name(self) -> str:
        """How ``--roi`` calls it, without a file or a box, such as ``tissue:code``."""
        ...

    @property
    def slow(self) -> bool:
        """Whether it thinks for so long that a study is sent meanwhile."""
        ...

    def misfit(self, header: SeriesHeader) -> MedroiError | None:
        """Why it has no answer for a series: the error that `segment` would raise; else None.

        Asked for every series of a study before one is segmented: a mask belongs to the series on
        whose grid it lies. Reads no voxels.
        """
        ...

    def native(self, header: SeriesHeader) -> bool:
        """Whether the answer belongs to this series first of all: a mask drawn on one series of a
        study serves the others too, but the one it was drawn on goes first. Reads no voxels; asked
        only where `misfit` has no objection.
        """
        ...

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """At least one answer; each replaces the one before it, and the last one stands.

        A slow segmenter yields a coarse answer first. Errors come with the first answer, for that
        is when the work begins. Every box lies inside the volume, and no two ROIs of one answer
        share a voxel.

        Raises:
            MedroiError: what `misfit` said, or a file that is damaged behind its header.
        """
        ...
