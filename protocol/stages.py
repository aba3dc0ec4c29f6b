"""The plan as data: which layers there are, in which order they go, which mark each one reaches.

Nobody else asks "is this the ROI?": `sender.layering` cuts what stands here, `Priority` orders it,
and the receiver marks what has been reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protocol.messages import Mark
from shared.layer import Quality, RegionKind


@dataclass(frozen=True, slots=True)
class Stage:
    """All layers of one kind of region at one quality."""

    name: str
    """In reports and on the screen."""
    kind: RegionKind | None
    """None: the headers, which own no voxel."""
    quality: Quality
    before_s: float | None = None
    """Goes before the stage above it where it costs less than this at the measured rate."""
    skip_s: float | None = None
    """Is left out where the next stage of the same regions costs less than this at that rate."""


STAGES: tuple[Stage, ...] = (
    Stage("roi_preview", RegionKind.ROI, Quality.PREVIEW, skip_s=1.0),
    Stage("roi_exact", RegionKind.ROI, Quality.EXACT),
    Stage("whole_preview", RegionKind.SURROUNDINGS, Quality.PREVIEW, before_s=0.3),
    Stage("tissue_bounded", RegionKind.TISSUE, Quality.BOUNDED, skip_s=20.0),
    Stage("tissue_exact", RegionKind.TISSUE, Quality.EXACT),
    Stage("background_exact", RegionKind.BACKGROUND, Quality.EXACT),
    Stage("headers", None, Quality.EXACT),
)
"""The default plan, first to last."""

_POSITION = {(stage.kind, stage.quality): place for place, stage in enumerate(STAGES)}

MARKS: dict[Mark, tuple[bool, Quality]] = {
    Mark.ROI_PREVIEW: (True, Quality.PREVIEW),
    Mark.ROI_EXACT: (True, Quality.VERIFIED),
    Mark.WHOLE_PREVIEW: (False, Quality.PREVIEW),
    Mark.WHOLE_EXACT: (False, Quality.VERIFIED),
}
"""(of the ROI only?, the quality that all its voxels have then)."""


class Priority(NamedTuple):
    """The total order of layers: smaller goes first."""

    focus: int
    """The rank of the reader's focus that the layer meets; `UNFOCUSED` for none."""
    series: int
    stage: int
    rank: int
    """Of the ROI."""
    distance: int
    """Voxels to the nearest ROI: what lies beside it is looked at first."""
    block: int


UNFOCUSED = 256


def stage_of(kind: RegionKind | None, quality: Quality) -> int:
    """The place of a layer's stage in `STAGES`."""
    return _POSITION[kind, quality]
