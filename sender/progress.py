"""Where a transfer stands: fractions, rate, and when ROI and whole will be exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.display import Progress
from shared.layer import Quality, RegionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.sending import SendingConnection
    from sender.layering import LayerJob
    from sender.ledger import Ledger
    from sender.schedule import Schedule


def progress_of(
    connection: SendingConnection,
    ledger: Ledger,
    schedule: Schedule,
    offered: Mapping[int, tuple[LayerJob, int]],
) -> Progress:
    """What the session's parts say together."""
    unsettled = connection.unsettled
    rate = connection.window.rate_bps
    waiting = [(job, unsettled.get(number, 0)) for number, (job, _) in offered.items()]
    pending = schedule.pending()
    under_way = connection.window.in_flight_bytes

    def eta_s(*, roi_only: bool) -> float | None:
        if not rate:
            return None
        size = sum(left for job, left in waiting if _counts(job, roi_only=roi_only))
        rest = ledger.estimate_bytes(job for job in pending if _counts(job, roi_only=roi_only))
        return (size + rest + under_way) * 8 / rate if size + rest else 0.0

    unsent = [job for job, left in waiting if left]
    foremost = min(unsent or pending, key=lambda job: schedule.priority(job), default=None)
    return Progress(
        stage=foremost.stage.name if foremost else "headers",
        roi_fraction=_share(ledger.verified_roi_voxels, ledger.roi_voxels),
        whole_fraction=_share(ledger.verified_voxels, ledger.kept_voxels),
        rate_bps=rate,
        roi_eta_s=eta_s(roi_only=True),
        whole_eta_s=eta_s(roi_only=False),
    )


def _counts(job: LayerJob, *, roi_only: bool) -> bool:
    if not roi_only:
        return True
    return job.stage.kind is RegionKind.ROI and job.key.quality is Quality.EXACT


def _share(part: int, whole: int) -> float:
    return min(1.0, part / whole) if whole else 1.0
