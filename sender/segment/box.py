"""``box:Z0:Z1,Y0:Y1,X0:X1``: the ROI as the user wrote it, half-open voxel indices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sender.segment.base import Segmentation
from shared.errors import SettingsError
from shared.geometry import Box
from shared.roi import Roi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.header import SeriesHeader
    from shared.volume import Volume

_INDEX = r"(-?[0-9]{1,9})"
_BOX = re.compile(",".join([f"{_INDEX}:{_INDEX}"] * 3))


@dataclass(frozen=True, slots=True)
class BoxSegmenter:
    """One box, for every series that it lies in. It is refused elsewhere, never clipped."""

    box: Box
    name: str = "box"

    @classmethod
    def parse(cls, argument: str | None) -> BoxSegmenter:
        """The segmenter of ``box:`` and this argument.

        Raises:
            SettingsError: it is not a box of at least one voxel.
        """
        found = _BOX.fullmatch(argument or "")
        if found is None:
            raise SettingsError(
                f"--roi box:Z0:Z1,Y0:Y1,X0:X1 expected, in voxels, got box:{argument or ''}"
            )
        z0, z1, y0, y1, x0, x1 = (int(text) for text in found.groups())
        try:
            return cls(Box((z0, y0, x0), (z1, y1, x1)))
        except ValueError:
            raise SettingsError(
                f"--roi box:{argument} holds no voxel: 0 <= start < stop expected on every axis"
            ) from None

    @property
    def slow(self) -> bool:
        """See `sender.segment.base.Segmenter`."""
        return False

    def misfit(self, header: SeriesHeader) -> SettingsError | None:
        """The refusal of a box that reaches out of the series."""
        if self.box.inside(Box.whole(header.shape)):
            return None
        z, y, x = header.shape
        return SettingsError(
            f"--roi box:{self.box} does not lie inside {header.label or 'the series'}, "
            f"which is 0:{z},0:{y},0:{x}"
        )

    def native(self, header: SeriesHeader) -> bool:
        """It lies where it lies, in every series."""
        return True

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """One answer: the box.

        Raises:
            SettingsError: it does not lie inside the volume.
        """
        if (error := self.misfit(volume.header)) is not None:
            raise error
        share = self.box.voxels / Box.whole(volume.header.shape).voxels
        reason = f"The ROI is the box {self.box} that was asked for, {share:.1%} of the volume."
        yield Segmentation((Roi(self.box, "box", 0),), reason, self.name)
