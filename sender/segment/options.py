"""What a user may say about ROIs beside how they are found."""

from __future__ import annotations

from dataclasses import dataclass, field

from sender.segment.ranks import Ranks

MARGIN_VOXELS = 3
"""Around every mark, unless it is said otherwise."""
MOST_MARGIN_VOXELS = 50


@dataclass(frozen=True, slots=True)
class RoiOptions:
    """Options of all segmenters; what one means nothing to is left aside."""

    margin_voxels: int = MARGIN_VOXELS
    """Around lesions that were drawn or found."""
    ranks: Ranks = field(default_factory=Ranks)
    """Of the labels of a mask."""
