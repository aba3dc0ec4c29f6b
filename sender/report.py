"""The sender's report, from what its session knows."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from protocol.messages import Mark
from shared.layer import RegionKind
from shared.report import (
    Report,
    RoiReport,
    SeriesReport,
    box_rows,
    decibels,
    dtype_name,
    times_of,
    total_bytes,
)

if TYPE_CHECKING:
    from sender.ledger import Ledger
    from sender.prepare import Series, Study
    from sender.session import SendingSession
    from shared.errors import ExitCode
    from shared.timeline import Course, Timeline


def sender_report(
    session: SendingSession | None,
    study: Study | None,
    timeline: Timeline,
    course: Course,
    link: str,
    *,
    outcome: str,
    exit_code: ExitCode,
) -> Report:
    """What is known of a transfer when it has ended, however it ended."""
    exact = session is not None and session.exact is True
    entries = study.series if study else ()
    ledger = session.offering.ledger if session and session.offering else None
    name = study.manifest.study.hex() if study else None
    return Report(
        end="sender",
        outcome=outcome,
        exit_code=int(exit_code),
        study=name,
        exact=exact,
        sha256=entries[0].entry.digest.hex() if len(entries) == 1 else name,
        bytes=total_bytes(ledger.bytes if ledger else {}, session.sent_bytes if session else 0),
        times_s=times_of(timeline.marks()),
        link=_link(session, timeline, link),
        codecs=dict(ledger.codecs) if ledger else {},
        series=[_series(number, each, ledger, exact) for number, each in enumerate(entries)],
        left_out=list(study.left_out) if study else [],
        course=course.points,
    )


def _link(
    session: SendingSession | None, timeline: Timeline, link: str
) -> dict[str, float | str | None]:
    call = session.call if session else None
    stats = call.transport.stats() if call else None
    marks = timeline.marks()
    seconds = max(marks.values(), default=0.0) - marks.get(Mark.CONNECTED.value, 0.0)
    sent_bytes = session.sent_bytes if session else 0
    return {
        "emulated": link or None,
        "transport": stats.name if stats else None,
        "congestion": stats.congestion if stats else None,
        "mean_rate_bps": round(sent_bytes * 8 / seconds) if seconds > 0 else None,
        "rtt_s": round(call.connection.window.rtt_s, 4) if call else None,
        "connections": session.lines if session else 0,
    }


def _series(number: int, series: Series, ledger: Ledger | None, exact: bool) -> SeriesReport:
    header, entry = series.entry.header, series.entry
    measured = {
        stage: fidelity
        for (which, stage), fidelity in (ledger.fidelity.items() if ledger else ())
        if which == number
    }
    rois = [region for region in series.plan.regions if region.kind is RegionKind.ROI]
    z, y, x = header.shape
    return SeriesReport(
        label=header.label,
        shape=list(header.shape),
        dtype=dtype_name(header.dtype),
        exact=exact,
        sha256=entry.digest.hex(),
        roi=RoiReport(
            boxes=[box_rows(region.box) for region in rois],
            voxels=series.roi_voxels,
            labels=[region.label for region in rois],
            reason=series.segmentation.reason,
        ),
        remarks=list(header.remarks),
        discarded_voxels=z * y * x - series.kept_voxels,
        psnr_db={
            stage: decibels(each.psnr_db(entry.value_range)) for stage, each in measured.items()
        },
        max_error={
            stage: each.max_error if isfinite(each.max_error) else None
            for stage, each in measured.items()
        },
    )
