from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol.messages import Focus
from protocol.stages import STAGES, UNFOCUSED
from sender.schedule import Link, Schedule
from sender.settings import AUTO
from shared.geometry import Box
from shared.layer import Quality
from tests.sender.studies import jobs_of, plan_of

if TYPE_CHECKING:
    from sender.layering import LayerJob

SHAPE = (64, 256, 256)
ROI = Box((20, 64, 64), (40, 128, 128))
TISSUE = Box((8, 32, 32), (56, 224, 224))
UNKNOWN = Link(rate_bps=0.0, unsent_bytes=0)
SLOW = Link(rate_bps=64e3, unsent_bytes=0)
FAST = Link(rate_bps=200e6, unsent_bytes=0)


def schedule(exact_codec: str = AUTO) -> Schedule:
    return Schedule(jobs_of(plan_of(SHAPE, [ROI], TISSUE)), exact_codec)


def drained(made: Schedule, link: Link = SLOW) -> list[LayerJob]:
    """Every job in the order in which the schedule gives it."""
    jobs = []
    while (job := made.next_job(link)) is not None:
        jobs.append(job)
    assert len(made) == 0
    return jobs


def names(jobs: list[LayerJob]) -> list[str]:
    return list(dict.fromkeys(job.stage.name for job in jobs))


def test_layers_come_in_the_order_of_the_plan() -> None:
    jobs = drained(schedule("causal3d"))
    assert jobs == jobs_of(plan_of(SHAPE, [ROI], TISSUE))
    assert names(jobs) == [stage.name for stage in STAGES[:-1]]


def test_bounded_layers_are_left_out_where_no_exact_one_could_build_on_them() -> None:
    assert "tissue_bounded" not in names(drained(schedule("jpegls")))


def test_bounded_layers_are_left_out_where_all_of_the_tissue_is_there_soon() -> None:
    assert "tissue_bounded" not in names(drained(schedule("causal3d"), FAST))


def test_an_exact_layer_waits_for_the_bounded_one_that_it_builds_on() -> None:
    bounded = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "tissue_bounded")
    exact = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "tissue_exact")
    made = Schedule(exact, "causal3d")
    assert made.next_job(SLOW, {job.key for job in bounded}) is None
    assert made.next_job(SLOW, ()) == exact[0]


def test_an_empty_schedule_has_no_job() -> None:
    assert Schedule(()).next_job(SLOW) is None
    assert Schedule(()).pending() == []


def test_pending_are_the_layers_that_are_left() -> None:
    made = schedule()
    first = made.next_job(SLOW)
    assert first not in made.pending()
    assert len(made.pending()) == len(made)


def test_no_more_is_encoded_than_the_link_takes_in_a_few_seconds() -> None:
    made = schedule()
    for rate_bps, ahead_bytes in ((64e3, 256 << 10), (8e6, 3_000_000), (1e12, 16 << 20)):
        assert made.next_job(Link(rate_bps, ahead_bytes)) is None
        assert made.next_job(Link(rate_bps, ahead_bytes - 1)) is not None


def test_a_focus_is_encoded_for_though_enough_is_ahead() -> None:
    made, full = schedule(), Link(64e3, 1 << 20)
    made.focus(Focus(0, Box((0, 0, 0), (1, 8, 8)), 0))
    found = []
    while (job := made.next_job(full)) is not None:
        found.append(job)
    assert names(found) == ["whole_preview", "background_exact"]
    assert all(job.box.start == (0, 0, 0) for job in found)
    assert made.next_job(SLOW) is not None


def test_what_the_reader_looks_at_goes_first_preview_before_exact() -> None:
    made = schedule()
    looked_at = Box((60, 0, 0), (61, 8, 8))
    made.focus(Focus(0, looked_at, 3))
    jobs = drained(made)
    meets = [job.box.intersection(looked_at) is not None for job in jobs]
    assert meets == sorted(meets, reverse=True)
    assert any(meets)
    assert names(jobs[: sum(meets)]) == ["whole_preview", "background_exact"]


def test_the_smallest_rank_of_several_foci_is_foremost() -> None:
    made = schedule()
    head, foot = Box((0, 0, 0), (1, 8, 8)), Box((63, 0, 0), (64, 8, 8))
    made.focus(Focus(0, head, 5))
    made.focus(Focus(0, foot, 1))
    exact = [job for job in drained(made) if job.stage.name == "background_exact"]
    assert exact[0].box.intersection(foot)
    assert exact[1].box.intersection(head)


def test_the_newest_focus_of_a_rank_replaces_the_older() -> None:
    made = schedule()
    head, foot = Box((0, 0, 0), (1, 8, 8)), Box((63, 0, 0), (64, 8, 8))
    made.focus(Focus(0, head, 0))
    made.focus(Focus(0, foot, 0))
    for job in made.pending():
        assert (made.priority(job).focus == 0) == (job.box.intersection(foot) is not None)
    assert drained(made)[0].box.intersection(foot)


def test_a_focus_is_of_one_series() -> None:
    made = schedule()
    made.focus(Focus(1, Box.whole(SHAPE), 0))
    assert all(made.priority(job).focus == UNFOCUSED for job in made.pending())


def test_while_the_other_cores_make_previews_one_keeps_to_exact_layers() -> None:
    made = schedule()
    job = made.next_job(SLOW, spare_core=False)
    assert job is not None
    assert job.stage.name == "roi_exact"
    passed_by = made.next_job(SLOW)
    assert passed_by is not None
    assert passed_by.stage.name == "roi_preview"


def test_when_only_previews_are_left_a_core_that_keeps_to_exact_layers_waits() -> None:
    previews = jobs_of(plan_of(SHAPE, [ROI], TISSUE), quality=Quality.PREVIEW)
    made = Schedule(previews)
    assert made.next_job(SLOW, spare_core=False) is None
    assert drained(made) == previews


def test_a_link_that_no_core_can_fill_is_served_in_the_order_of_the_plan() -> None:
    for rate_bps, stage in ((29e6, "tissue_exact"), (31e6, "whole_preview")):
        job = Schedule(jobs_of(plan_of(SHAPE))).next_job(Link(rate_bps, 0), spare_core=False)
        assert job is not None
        assert job.stage.name == stage


def test_a_preview_is_left_out_where_the_exact_layers_take_less_than_a_second() -> None:
    exact_bits = ROI.voxels * 4.0
    assert "roi_preview" in names(drained(schedule(), Link(exact_bits * 0.99, 0)))
    assert "roi_preview" not in names(drained(schedule(), Link(exact_bits * 1.01, 0)))
    assert "roi_preview" in names(drained(schedule(), UNKNOWN))
    assert "whole_preview" in names(drained(schedule(), FAST))


def test_a_preview_whose_exact_layers_are_under_way_already_is_made() -> None:
    previews = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "roi_preview")
    assert names(drained(Schedule(previews), FAST)) == ["roi_preview"]


@pytest.mark.parametrize(("size_bytes", "promoted"), [(1000, True), (100_000, False)])
def test_a_preview_that_costs_next_to_nothing_goes_before_the_stage_above(
    size_bytes: int, promoted: bool
) -> None:
    made = schedule()
    whole = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "whole_preview")[0]
    roi = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "roi_exact")[0]
    assert made.promotes(whole, size_bytes, Link(1e6, 0)) is promoted
    ahead = made.priority(whole, promoted=True) < made.priority(roi)
    assert ahead
    assert made.priority(whole) > made.priority(roi)


def test_a_promoted_layer_stays_behind_the_preview_of_the_roi() -> None:
    made = schedule()
    whole = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "whole_preview")[0]
    preview = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "roi_preview")[0]
    assert made.priority(whole, promoted=True) > made.priority(preview)


def test_sister_blocks_count_when_a_preview_is_promoted() -> None:
    deep = plan_of((512, 256, 256), [ROI])
    sisters = jobs_of(deep, "whole_preview")
    made = Schedule(sisters[1:])
    each_bits = 0.3 * 1e6 / len(sisters)
    assert len(sisters) > 4
    assert made.promotes(sisters[0], int(each_bits * 0.9 / 8), Link(1e6, 0))
    assert not made.promotes(sisters[0], int(each_bits * 1.1 / 8), Link(1e6, 0))


def test_nothing_is_promoted_without_a_rate_and_no_other_stage_at_all() -> None:
    made = schedule()
    whole = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "whole_preview")[0]
    assert not made.promotes(whole, 1, UNKNOWN)
    tissue = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "tissue_exact")[0]
    assert not made.promotes(tissue, 1, FAST)


def test_a_layer_that_is_put_back_comes_again_in_its_place() -> None:
    made = schedule()
    jobs = [job for job in (made.next_job(SLOW) for _ in range(3)) if job]
    assert len(jobs) == 3
    made.put_back(jobs[1])
    assert made.next_job(SLOW) == jobs[1]


def test_a_layer_that_is_put_back_keeps_to_the_focus() -> None:
    made = Schedule(())
    early, late = jobs_of(plan_of(SHAPE, [ROI], TISSUE), "background_exact")[:2]
    made.focus(Focus(0, late.box, 0))
    made.put_back(early)
    made.put_back(late)
    assert made.next_job(SLOW) == late


@pytest.mark.parametrize(
    ("lead_s", "effort"), [(0.0, 3), (0.2, 3), (0.25, 5), (0.99, 5), (1.0, 7), (60.0, 7)]
)
def test_time_to_spare_is_spent_on_fewer_bits(lead_s: float, effort: int) -> None:
    link = Link(8e6, round(lead_s * 1e6))
    assert link.lead_s == pytest.approx(lead_s)
    assert schedule().effort("jpegxl", link) == effort


def test_an_unknown_link_has_no_lead() -> None:
    assert Link(0.0, 10**9).lead_s == 0.0
    assert schedule().effort("jpegxl", Link(0.0, 10**9)) == 3


@pytest.mark.parametrize(
    ("rate_bps", "lead_s", "codec"),
    [
        (0.0, 0.0, "jpegls"),
        (1e6, 2.5, "jpegls"),
        (1e6, 3.5, "causal3d"),
        (64e3, 3.5, "causal3d"),
        (20e6, 3.5, "jpegls"),
    ],
)
def test_where_no_codec_is_named_time_to_spare_on_a_thin_link_chooses_it(
    rate_bps: float, lead_s: float, codec: str
) -> None:
    assert schedule().codec(Link(rate_bps, int(lead_s * rate_bps / 8))) == codec
