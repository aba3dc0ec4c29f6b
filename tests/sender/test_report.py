"""Reports from parts; `tests.endtoend` has those of whole transfers."""

from __future__ import annotations

import json
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from sender.encode import Encoded
from sender.ledger import Ledger
from sender.offers import layer_offer
from sender.report import sender_report
from shared.errors import ExitCode
from shared.fidelity import Fidelity
from shared.geometry import Box
from shared.report import NO_ERROR_DB
from shared.timeline import Course, Timeline
from shared.transports.base import TransportStats
from tests.sender.studies import brain, jobs_of, series_of, study_of

if TYPE_CHECKING:
    from protocol.messages import LayerOffer
    from sender.prepare import Study
    from sender.session import SendingSession
    from shared.report import Report

ROI = Box((2, 5, 6), (5, 15, 20))
TISSUE = Box((1, 2, 3), (7, 20, 28))


def report_of(
    study: Study | None = None,
    session: SendingSession | None = None,
    timeline: Timeline | None = None,
    *,
    link: str = "",
    code: ExitCode = ExitCode.INPUT_REFUSED,
) -> Report:
    return sender_report(
        session,
        study,
        timeline or Timeline(),
        Course(),
        link,
        outcome="how it ended",
        exit_code=code,
    )


def session_of(ledger: Ledger, *, exact: bool | None) -> SendingSession:
    """What a report asks a session for."""
    stats = TransportStats("websocket", "bbr", 1, 2, 3, 4)
    call = SimpleNamespace(
        connection=SimpleNamespace(window=SimpleNamespace(rtt_s=0.123456)),
        transport=SimpleNamespace(stats=lambda: stats),
    )
    found = SimpleNamespace(
        offering=SimpleNamespace(ledger=ledger), exact=exact, call=call, sent_bytes=50_000, lines=2
    )
    return cast("SendingSession", found)


def offer(encoded: Encoded) -> LayerOffer:
    job = jobs_of(series_of(brain(), [ROI], TISSUE), "roi_exact")[0]
    return layer_offer(0, job, encoded)


def content(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.as_json())
    return found


def test_of_a_refused_study_nothing_is_known_but_why() -> None:
    found = content(report_of())
    assert (found["end"], found["outcome"]) == ("sender", "how it ended")
    assert (found["exit_code"], found["exact"]) == (3, False)
    for name in ("study", "sha256", "shape", "roi", "psnr_db"):
        assert found[name] is None
    assert found["series"] == []
    assert found["bytes"] == {"total": 0, "wire": 0}
    assert set(found["link"].values()) == {None, 0}
    assert set(found["times_s"].values()) == {None}


def test_of_a_study_that_nobody_took_the_plan_is_known() -> None:
    study = study_of(series_of(brain(), [ROI], TISSUE))
    found = content(report_of(study, link="3g", code=ExitCode.INTERRUPTED))
    (entry,) = study.series
    assert found["study"] == study.manifest.study.hex()
    assert found["sha256"] == entry.entry.digest.hex()
    assert (found["shape"], found["dtype"]) == ([8, 24, 32], "int16")
    assert found["roi"] == {
        "boxes": [[[2, 5], [5, 15], [6, 20]]],
        "voxels": ROI.voxels,
        "labels": ["lesion 0"],
        "reason": "The ROI is as the test asked.",
    }
    assert found["link"]["emulated"] == "3g"
    assert found["series"][0]["psnr_db"] == {}
    assert found["series"][0]["output"] is None


def test_of_a_finished_study_everything_is_told() -> None:
    series = series_of(brain(), [ROI], TISSUE)
    ledger = Ledger(series.kept_voxels, series.roi_voxels)
    for job, fidelity in (
        (jobs_of(series, "roi_preview")[0], Fidelity(100, 400.0, 9.0)),
        (jobs_of(series, "whole_preview")[0], Fidelity(100, 0.0, 0.0)),
    ):
        ledger.encoded(job, offer(Encoded(bytes(10), "hevc", (), 100, b"", fidelity)), fidelity)
    exact = jobs_of(series, "roi_exact")[0]
    ledger.encoded(
        exact, offer(Encoded(bytes(300), "jpegxl", (), 420, bytes(32), Fidelity())), Fidelity()
    )
    timeline = Timeline(iter([1.0, 2.5, 5.0]).__next__)
    for name in ("connected", "roi_exact", "whole_exact"):
        timeline.mark(name)
    found = content(
        report_of(
            study_of(series),
            session_of(ledger, exact=True),
            timeline,
            code=ExitCode.OK,
        )
    )
    assert found["exact"] is True
    assert found["series"][0]["exact"] is True
    assert found["bytes"]["roi_exact"] == 300
    assert found["bytes"]["total"] == 320
    assert found["bytes"]["wire"] == 50_000
    assert found["codecs"] == {
        "roi_preview": "hevc",
        "whole_preview": "hevc",
        "roi_exact": "jpegxl",
    }
    peak = series.entry.value_range[1] - series.entry.value_range[0]
    (roi_db, whole_db) = found["psnr_db"].values()
    assert roi_db == round(Fidelity(1, 4.0, 2.0).psnr_db((0, peak)), 2)
    assert whole_db == NO_ERROR_DB
    assert found["series"][0]["max_error"] == {"roi_preview": 9.0, "whole_preview": 0.0}
    assert found["times_s"]["roi_exact"] == 2.5
    assert found["times_s"]["roi_preview"] is None
    assert found["link"] == {
        "emulated": None,
        "transport": "websocket",
        "congestion": "bbr",
        "mean_rate_bps": 100_000,  # 50 kB in 4 s
        "rtt_s": 0.1235,
        "connections": 2,
    }


def test_an_unbounded_error_is_null() -> None:
    series = series_of(brain(), [ROI], TISSUE)
    ledger = Ledger(series.kept_voxels, series.roi_voxels)
    job = jobs_of(series, "roi_preview")[0]
    ledger.encoded(
        job,
        offer(Encoded(bytes(10), "hevc", (), 100, b"", Fidelity(90, inf, inf))),
        Fidelity(90, inf, inf),
    )
    found = content(report_of(study_of(series), session_of(ledger, exact=None)))
    assert found["series"][0]["max_error"] == {"roi_preview": None}
    assert found["psnr_db"] == {"roi_preview": None}
    assert found["exact"] is False


def test_what_was_discarded_is_counted_and_no_volume_is_called_exact() -> None:
    series = series_of(brain(), [ROI], TISSUE, discard=True)
    ledger = Ledger(series.kept_voxels, series.roi_voxels)
    found = content(report_of(study_of(series), session_of(ledger, exact=False), code=ExitCode.OK))
    assert found["series"][0]["discarded_voxels"] == 8 * 24 * 32 - TISSUE.voxels
    assert (found["exact"], found["series"][0]["exact"]) == (False, False)


def test_several_series_are_named_by_the_study_and_measured_apart() -> None:
    one = series_of(brain(), [ROI], TISSUE)
    two = series_of(brain((4, 16, 16)), number=1)
    ledger = Ledger(1, 1)
    job = jobs_of(two, "whole_preview")[0]
    ledger.encoded(
        job,
        offer(Encoded(bytes(10), "hevc", (), 100, b"", Fidelity(100, 400.0, 9.0))),
        Fidelity(100, 400.0, 9.0),
    )
    found = content(report_of(study_of(one, two), session_of(ledger, exact=None)))
    assert found["sha256"] == found["study"]
    assert [list(each["psnr_db"]) for each in found["series"]] == [[], ["whole_preview"]]
    assert [each["roi"]["voxels"] for each in found["series"]] == [ROI.voxels, 0]
