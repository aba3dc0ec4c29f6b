"""Quality, regions and layers: what is sent, and how good a voxel is once it has arrived."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.geometry import Box


class Quality(IntEnum):
    """How good a voxel is, ordered. The numbers are those of every quality map on disk.

    It never falls, except that a failed digest demotes. People hear "exact" only at VERIFIED.
    """

    MISSING = 0
    """Nothing has arrived: the voxel holds the fill value."""
    DISCARDED = 1
    """The sending site chose not to send it (``--background discard``); it will never be exact."""
    PREVIEW = 2
    """Lossy, with a measured largest error."""
    BOUNDED = 3
    """Lossy, with a guaranteed largest error."""
    EXACT = 4
    """Decoded by an exact codec from chunks whose hashes are good."""
    VERIFIED = 5
    """Exact, and the digest of its layer's voxels is the sender's."""

    @property
    def word(self) -> str:
        """What people are told: of a voxel that is not proven nobody says that it is exact."""
        return "unproven" if self is Quality.EXACT else self.name.lower()


class RegionKind(StrEnum):
    """What a region is for; the plan's stages name these words."""

    ROI = "roi"
    """A region of interest: what must be exact first."""
    TISSUE = "tissue"
    """What is not background, around the ROI."""
    BACKGROUND = "background"
    """Everything else."""
    SURROUNDINGS = "surroundings"
    """All that is not ROI, tissue and background together: what a whole preview owns."""


QUALITIES: dict[RegionKind, frozenset[Quality]] = {
    RegionKind.ROI: frozenset({Quality.PREVIEW, Quality.BOUNDED, Quality.EXACT}),
    RegionKind.SURROUNDINGS: frozenset({Quality.PREVIEW}),
    RegionKind.TISSUE: frozenset({Quality.BOUNDED, Quality.EXACT}),
    RegionKind.BACKGROUND: frozenset({Quality.BOUNDED, Quality.EXACT}),
}
"""At which qualities the regions of a kind may have layers. Two regions that share a quality share
no voxel at it, so that every voxel has one owner at each; and whoever owns a voxel at EXACT owns it
at BOUNDED, so that the one layer can build on the other."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a volume under a name: the voxels of ``box``, or those of it that ``mask`` marks,
    that no region in ``excludes`` owns at the same quality.

    A region may exclude only regions that stand before it in the plan, so ownership is settled from
    the front: the ROI of rank 0 owns all its voxels, later regions what is left.
    """

    name: str
    kind: RegionKind
    box: Box
    excludes: tuple[str, ...] = ()
    label: str = ""
    rank: int = 0
    discarded: bool = False
    """Its voxels are not sent at all and become DISCARDED."""
    mask: bytes = b""
    """`shared.mask`'s, over ``box``, which is then only the address; empty for all of the box."""


@dataclass(frozen=True, slots=True, order=True)
class LayerKey:
    """One region of one series at one quality; ``block`` counts the pieces it is coded in."""

    series: int
    region: str
    quality: Quality
    block: int

    def __str__(self) -> str:
        return f"series {self.series} {self.region} {self.quality.name} block {self.block}"


def exact_key(key: LayerKey) -> LayerKey:
    """The exact layer of the same voxels."""
    return replace(key, quality=Quality.EXACT)
