"""``none``: no ROI, the volume is sent evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sender.segment.base import Segmentation
from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.header import SeriesHeader
    from shared.volume import Volume


@dataclass(frozen=True, slots=True)
class WholeSegmenter:
    """Finds nothing to be first."""

    name: str = "none"

    @classmethod
    def parse(cls, argument: str | None) -> WholeSegmenter:
        """The segmenter of ``none``.

        Raises:
            SettingsError: something stands behind it.
        """
        if argument is not None:
            raise SettingsError(f"--roi none takes nothing behind it, got {argument!r}")
        return cls()

    @property
    def slow(self) -> bool:
        """See `sender.segment.base.Segmenter`."""
        return False

    def misfit(self, header: SeriesHeader) -> None:
        """It has an answer for every series."""
        return

    def native(self, header: SeriesHeader) -> bool:
        """It leaves all series alike."""
        return True

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """One answer without an ROI."""
        yield Segmentation((), "No ROI was asked for.", self.name)
