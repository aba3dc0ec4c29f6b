"""``auto``: the network where it has learnt to look, else the tissue box; and which, and why.

The network has seen heads in MR. That is told from the modality, where the file says one, and from
the scan: as large as a head, of slices enough. Where it finds nothing, that is the answer: the
tissue box would only hide it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sender.segment.heights import AIR_HU, heights_of
from sender.segment.options import MARGIN_VOXELS
from sender.segment.tissue import TissueSegmenter
from sender.segment.unet.network import why_not
from sender.segment.unet.segmenter import UnetSegmenter
from sender.segment.unet.sight import see, upright
from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sender.segment.base import Segmentation
    from shared.header import SeriesHeader
    from shared.volume import Volume

_HEAD_MM = ((60.0, 290.0), (110.0, 270.0), (90.0, 230.0))
"""Of the body in (z up, y to the front, x to the right), least and most: from a brain that was cut
out, or a slab of one, to a whole head with its neck."""
_LEAST_SLICES = 8
_THICKEST_MM = 10.0


@dataclass(frozen=True, slots=True)
class AutoSegmenter:
    """The choice between two segmenters, told in the reason."""

    margin_voxels: int = MARGIN_VOXELS
    name: str = "auto"
    tissue: TissueSegmenter = field(default_factory=TissueSegmenter)

    @classmethod
    def parse(cls, argument: str | None, margin_voxels: int = MARGIN_VOXELS) -> AutoSegmenter:
        """The segmenter of ``auto``.

        Raises:
            SettingsError: something stands behind it.
        """
        if argument is not None:
            raise SettingsError(f"--roi auto expected, got auto:{argument}")
        return cls(margin_voxels)

    @property
    def slow(self) -> bool:
        """The network is, and whether it is asked is found out on the way."""
        return True

    def misfit(self, header: SeriesHeader) -> None:
        """It has an answer for every series."""
        return

    def native(self, header: SeriesHeader) -> bool:
        """It looks at every series itself."""
        return True

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """The network's answers, or one with the tissue box.

        Raises:
            InputError: the network's files are damaged.
        """
        why = why_not_network(volume)
        if why is None:
            for answer in UnetSegmenter(self.margin_voxels).segment(volume):
                reason = f"The network, for this is a head in MR: {answer.reason}"
                yield replace(answer, reason=reason, source=self.name)
            return
        for answer in self.tissue.segment(volume):
            reason = f"Tissue, not the network: {why}. {answer.reason}"
            yield replace(answer, reason=reason, source=self.name)


def why_not_network(volume: Volume) -> str | None:
    """Why the network would not know what it sees, as a phrase; None where it would."""
    header = volume.header
    if (error := why_not()) is not None:
        return str(error).removeprefix("--roi unet needs ").split(":")[0]
    if header.modality not in ("", "MR"):
        return f"it has learnt from MR, this is {header.modality}"
    if not header.modality and heights_of(volume).level == AIR_HU:
        return "it has learnt from MR, and the values are those of a CT"
    if volume.inverted:
        return "it has learnt from MR, and this is shown inverted"
    sizes_mm = upright(header)[2]
    slices = min(header.shape)
    if slices < _LEAST_SLICES:
        return f"{slices} slices are too few for it"
    if max(sizes_mm) > _THICKEST_MM:
        return f"slices of {max(sizes_mm):.3g} mm are too thick for it"
    sight = see(volume)
    if sight is None:
        return "nothing stands out from the background"
    body_mm = [
        length * step * size
        for length, step, size in zip(
            sight.brightness.shape, sight.placement.steps, sizes_mm, strict=True
        )
    ]
    for found, (least, most) in zip(body_mm, _HEAD_MM, strict=True):
        if not least <= found <= most:
            z, y, x = (f"{length:.0f}" for length in body_mm)
            return f"it has learnt from heads, and this is {z} x {y} x {x} mm"
    return None
