"""Where a transfer stands: fractions, rate, and when ROI and whole will be exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.display import Progress
from shared.layer import Quality, RegionKind

if TYPE_CHECKING:
    from protocol.rate import Window
    from sender.layering import LayerJob
    from sender.offering import Offering

_TELLING_SHARE = 0.05
"""A smaller share says nothing of the pace."""


def progress_of(offering: Offering, window: Window | None, elapsed_s: float) -> Progress:
    """What an offering and the current line say, so long after the first message of the study."""
    ledger, schedule = offering.ledger, offering.schedule
    unsettled = offering.outbox.unsettled
    rate = window.rate_bps if window else 0.0
    waiting = [(each.job, unsettled.get(number, 0)) for number, each in offering.offered.items()]
    pending = schedule.pending()
    under_way = window.in_flight_bytes if window else 0

    unsent = [job for job, left in waiting if left]
    roi_share = _share(ledger.verified_roi_voxels, ledger.roi_voxels)
    if offering.is_growing:  # it is not known how large the ROI will be
        roi_share = 0.0
    whole_share = _share(ledger.verified_voxels, ledger.kept_voxels)

    def eta_s(share: float, *, roi_only: bool) -> float | None:
        """The link's time for what is left; where the link waits for the encoders, theirs."""
        if share == 1:
            return 0.0
        if not rate or (roi_only and offering.is_growing):
            return None
        size = sum(left for job, left in waiting if _counts(job, roi_only=roi_only))
        rest = ledger.estimate_bytes(job for job in pending if _counts(job, roi_only=roi_only))
        link_s = (size + rest + under_way) * 8 / rate
        if unsent or share < _TELLING_SHARE:
            return link_s
        return max(link_s, elapsed_s * (1 - share) / share)

    foremost = min(unsent or pending, key=lambda job: schedule.priority(job), default=None)
    return Progress(
        stage=foremost.stage.name if foremost else "headers",
        roi_fraction=roi_share,
        whole_fraction=whole_share,
        rate_bps=rate,
        roi_eta_s=eta_s(roi_share, roi_only=True),
        whole_eta_s=eta_s(whole_share, roi_only=False),
    )


def _counts(job: LayerJob, *, roi_only: bool) -> bool:
    if not roi_only:
        return True
    return job.stage.kind is RegionKind.ROI and job.key.quality is Quality.EXACT


def _share(part: int, whole: int) -> float:
    return min(1.0, part / whole) if whole else 1.0
