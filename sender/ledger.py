"""What has been encoded, sent and settled so far: the numbers behind progress and report."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from protocol.stages import STAGES
from shared.fidelity import Fidelity
from shared.layer import Quality, RegionKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.messages import LayerOffer
    from sender.layering import LayerJob

_ROUGH_BITS_PER_VOXEL = {Quality.PREVIEW: 0.1, Quality.BOUNDED: 0.0, Quality.EXACT: 4.0}
"""Before a layer of that quality has been encoded; what a bounded one costs, the exact one on top
of it saves."""


class Ledger:
    """Of one session. Voxel counts are those of exact layers; the rest of a study follows them."""

    def __init__(self, kept_voxels: int, roi_voxels: int) -> None:
        self.kept_voxels = kept_voxels
        """Voxels that are to become exact."""
        self.roi_voxels = roi_voxels
        self.verified_voxels = 0
        self.verified_roi_voxels = 0
        self.bytes: dict[str, int] = {stage.name: 0 for stage in STAGES}
        """Encoded bytes by stage."""
        self.codecs: dict[str, str] = {}
        """The codec that served each stage, the last one where it had to change."""
        self.fidelity: dict[tuple[int, str], Fidelity] = defaultdict(Fidelity)
        """Measured error by (series, preview stage)."""
        self._voxels: dict[Quality, int] = defaultdict(int)
        self._bytes: dict[Quality, int] = defaultdict(int)

    def encoded(self, job: LayerJob, offer: LayerOffer, fidelity: Fidelity) -> None:
        """A layer has been encoded and will be sent."""
        self.bytes[job.stage.name] += offer.size_bytes
        self.codecs[job.stage.name] = offer.codec
        self._voxels[job.key.quality] += offer.owned_voxels
        self._bytes[job.key.quality] += offer.size_bytes
        if job.key.quality < Quality.EXACT:
            self.fidelity[job.key.series, job.stage.name] += fidelity

    def spared(self, job: LayerJob, unsent_bytes: int) -> None:
        """The rest of a layer need not be sent after all."""
        self.bytes[job.stage.name] -= unsent_bytes

    def headers_encoded(self, offer: LayerOffer) -> None:
        """A piece of a headers layer has been encoded."""
        self.bytes[STAGES[-1].name] += offer.size_bytes
        self.codecs[STAGES[-1].name] = offer.codec

    def verified(self, job: LayerJob, owned_voxels: int) -> None:
        """The receiver has proven an exact layer."""
        if job.key.quality is Quality.EXACT:
            self.verified_voxels += owned_voxels
            if job.stage.kind is RegionKind.ROI:
                self.verified_roi_voxels += owned_voxels

    def demoted(self, job: LayerJob, owned_voxels: int) -> None:
        """The receiver has proven an exact layer, and lost it again."""
        self.verified(job, -owned_voxels)

    def finish(self) -> None:
        """The receiver has proven everything."""
        self.verified_voxels, self.verified_roi_voxels = self.kept_voxels, self.roi_voxels

    def estimate_bytes(self, jobs: Iterable[LayerJob]) -> float:
        """What layers that are still to be encoded will cost, by what their like has cost."""
        return sum(job.box.voxels * self._bits(job.key.quality) / 8 for job in jobs)

    def _bits(self, quality: Quality) -> float:
        if not self._voxels[quality]:
            return _ROUGH_BITS_PER_VOXEL[quality]
        return self._bytes[quality] * 8 / self._voxels[quality]
