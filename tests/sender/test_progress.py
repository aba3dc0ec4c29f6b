from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from protocol.messages import Focus
from sender.ledger import Ledger
from sender.offers import Offered
from sender.progress import progress_of
from sender.schedule import Link, Schedule
from shared.geometry import Box
from shared.ownership import owned_count
from tests.sender.studies import jobs_of, owned_by, plan_of

if TYPE_CHECKING:
    from protocol.rate import Window
    from sender.layering import LayerJob
    from sender.offering import Offering
    from shared.display import Progress
    from shared.layer import RegionKind

SHAPE = (8, 32, 32)
PLAN = plan_of(SHAPE, [Box((2, 4, 4), (4, 12, 12))], Box((0, 2, 2), (8, 30, 30)))
JOBS = jobs_of(PLAN)
ROI_VOXELS = 2 * 8 * 8
VOXELS = 8 * 32 * 32


def voxels_of(job: LayerJob) -> int:
    return owned_count(job.box, job.holes)


def offering_of(
    ledger: Ledger,
    pending: list[LayerJob],
    given: dict[int, tuple[LayerJob, int]],
    *,
    growing: bool = False,
) -> Offering:
    """What progress asks an offering for."""
    unsettled = {number: left for number, (_, left) in given.items()}
    return cast(
        "Offering",
        SimpleNamespace(
            ledger=ledger,
            is_growing=growing,
            schedule=Schedule(pending),
            offered={n: Offered(job, voxels_of(job), "zstd") for n, (job, _) in given.items()},
            outbox=SimpleNamespace(unsettled=unsettled),
        ),
    )


def progress(
    pending: list[LayerJob],
    offered: dict[int, tuple[LayerJob, int]] | None = None,
    verified: list[LayerJob] | None = None,
    *,
    rate_bps: float = 1e6,
    in_flight_bytes: int = 0,
    elapsed_s: float = 0.0,
) -> Progress:
    """Where a transfer stands with these layers to encode, offered (with bytes left), proven."""
    ledger = Ledger(VOXELS, ROI_VOXELS)
    for job in verified or []:
        ledger.verified(job, voxels_of(job))
    window = SimpleNamespace(rate_bps=rate_bps, in_flight_bytes=in_flight_bytes)
    offering = offering_of(ledger, pending, offered or {})
    return progress_of(offering, cast("Window", window), elapsed_s)


def of_stage(name: str) -> LayerJob:
    (job,) = jobs_of(PLAN, name)
    return job


def test_nothing_is_known_of_time_before_a_rate_is() -> None:
    found = progress(JOBS, rate_bps=0.0)
    assert (found.roi_eta_s, found.whole_eta_s) == (None, None)
    assert (found.roi_fraction, found.whole_fraction) == (0.0, 0.0)
    assert found.stage == "roi_preview"


def test_fractions_are_of_voxels_proven_exact() -> None:
    found = progress([], verified=[of_stage("roi_exact"), of_stage("roi_preview")])
    assert found.roi_fraction == 1.0
    assert found.whole_fraction == pytest.approx(ROI_VOXELS / VOXELS)


def test_a_study_without_an_roi_has_all_of_it() -> None:
    found = progress_of(offering_of(Ledger(VOXELS, 0), JOBS, {}), None, 1.0)
    assert (found.roi_fraction, found.roi_eta_s) == (1.0, 0.0)


def test_the_stage_is_that_of_the_foremost_unsent_layer() -> None:
    tissue, background = of_stage("tissue_exact"), of_stage("background_exact")
    sent_preview = (of_stage("roi_preview"), 0)
    found = progress([background], {0: sent_preview, 1: (tissue, 10)})
    assert found.stage == "tissue_exact"
    assert progress([background], {0: sent_preview}).stage == "background_exact"
    assert progress([], {0: sent_preview}).stage == "headers"


def test_time_is_that_of_the_bytes_left_on_the_link() -> None:
    found = progress([], {0: (of_stage("tissue_exact"), 125_000)}, in_flight_bytes=25_000)
    assert found.whole_eta_s == pytest.approx(1.2)
    assert found.rate_bps == 1e6


def test_the_roi_waits_for_its_exact_layers_and_the_whole_for_all() -> None:
    roi, tissue = (of_stage("roi_exact"), 12_500), (of_stage("tissue_exact"), 112_500)
    found = progress([], {0: roi, 1: tissue, 2: (of_stage("roi_preview"), 50_000)})
    assert found.roi_eta_s == pytest.approx(0.1)
    assert found.whole_eta_s == pytest.approx(1.4)


def test_layers_still_to_be_encoded_are_counted_by_what_their_like_cost() -> None:
    found = progress([of_stage("background_exact")])
    assert found.whole_eta_s == pytest.approx(VOXELS * 4 / 1e6)


def test_an_exact_whole_is_there_now_and_one_that_is_only_sent_is_not() -> None:
    exact = [job for job in JOBS if job.stage.name.endswith("_exact")]
    found = progress([], verified=exact)
    assert (found.whole_fraction, found.whole_eta_s) == (1.0, 0.0)
    sent = progress([], {0: (exact[-1], 0)}, verified=exact[:-1], in_flight_bytes=12_500)
    assert sent.whole_fraction < 1
    assert sent.whole_eta_s is not None
    assert sent.whole_eta_s >= 0.1


def test_a_link_that_waits_for_the_encoders_is_told_their_time() -> None:
    half = [of_stage("roi_exact"), of_stage("tissue_exact")]
    left = of_stage("background_exact")
    done = sum(map(voxels_of, half)) / VOXELS
    found = progress([left], verified=half, rate_bps=1e9, elapsed_s=30.0)
    assert found.whole_eta_s == pytest.approx(30 * (1 - done) / done)


def test_a_focus_moves_what_is_shown_as_the_stage() -> None:
    offering = offering_of(Ledger(1, 1), jobs_of(plan_of((64, 256, 256))), {})
    schedule = offering.schedule
    before = progress_of(offering, None, 0.0)
    assert before.stage == "whole_preview"
    for job in jobs_of(plan_of((64, 256, 256)), "whole_preview"):
        assert schedule.next_job(Link(1e6, 0)) == job
    schedule.focus(Focus(0, Box((0, 0, 0), (1, 1, 1)), 0))
    after = progress_of(offering, None, 0.0)
    assert after.stage == "tissue_bounded"


def test_the_counts_of_these_tests_are_those_of_the_plan() -> None:
    kinds: set[RegionKind] = {region.kind for region in PLAN.regions}
    surroundings = next(kind for kind in kinds if kind.value == "surroundings")
    assert owned_by(PLAN, kinds - {surroundings}) == VOXELS


def test_of_an_roi_that_is_still_being_found_no_share_and_no_time_is_told() -> None:
    offering = offering_of(Ledger(VOXELS, 0), [], {}, growing=True)
    told = progress_of(offering, None, 1.0)
    assert (told.roi_fraction, told.roi_eta_s) == (0.0, None)
