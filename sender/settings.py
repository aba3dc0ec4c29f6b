"""What a user may set for one transfer, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sender.preview import PreviewTarget
from sender.segment.options import RoiOptions
from shared.codecs.base import Promise
from shared.codecs.registry import codec_named, coded_by
from shared.errors import SettingsError
from shared.layer import RegionKind

if TYPE_CHECKING:
    from pathlib import Path


class Background(StrEnum):
    """What happens to what is neither ROI nor tissue."""

    KEEP = "keep"
    DISCARD = "discard"


AUTO = "auto"
_ROI_PREVIEW = PreviewTarget(psnr_db=40.0, bits_per_voxel=1.0)
_WHOLE_PREVIEW = PreviewTarget(psnr_db=40.3, bits_per_voxel=0.15)
"""Together 3-4 % of the exact bytes on brain MR; on noise, where 40 dB would cost as much as the
exact layer, the bits decide."""


@dataclass(frozen=True, slots=True)
class SendSettings:
    """How a study is segmented, layered and coded."""

    roi: str = "tissue"
    """`sender.segment.registry`'s words."""
    roi_options: RoiOptions = field(default_factory=RoiOptions)
    roi_out: Path | None = None
    """Where the ROIs used are written, see `sender.write.rois`."""
    preview_codec: str = "hevc"
    exact_codec: str = AUTO
    """A codec's name, with a level as in ``causal3d:archive`` or without, or `AUTO`: the schedule
    chooses, layer by layer."""
    background: Background = Background.KEEP
    roi_preview: PreviewTarget = _ROI_PREVIEW
    whole_preview: PreviewTarget = _WHOLE_PREVIEW

    def checked(self) -> SendSettings:
        """These settings, if every name in them is known and fits its place.

        Raises:
            SettingsError: a codec that there is not, one that cannot promise "exact", or one for
                previews that cannot be told how good they should be.
        """
        if "crf" not in codec_named(self.preview_codec).defaults:
            raise SettingsError(f"{self.preview_codec} makes no previews: it has no rate factor")
        named = self.exact_codec != AUTO
        if named and coded_by(self.exact_codec)[0].promise is not Promise.EXACT:
            raise SettingsError(f"{self.exact_codec} is not an exact codec")
        return self

    def preview_target(self, kind: RegionKind | None) -> PreviewTarget:
        """How good the preview of a kind of region should be."""
        return self.roi_preview if kind is RegionKind.ROI else self.whole_preview
