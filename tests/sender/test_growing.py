from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.checks import check_plan
from protocol.limits import MAX_REGIONS
from protocol.stages import STAGES
from sender.growing import open_series, send_ahead, take_answer
from sender.schedule import Link, Schedule
from sender.segment.base import Segmentation
from sender.segment.grow import Marks, rois_of
from shared.geometry import Box
from shared.layer import Quality, Region, RegionKind
from shared.ownership import marked_in, owned_mask
from tests.sender.segment.volumes import volume_of
from tests.sender.test_layering import boxes_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from protocol.messages import Plan
    from sender.layering import LayerJob
    from shared.geometry import Triple

SHAPE = (12, 16, 14)
HEADER = volume_of(np.zeros(SHAPE, np.int16)).header
TISSUE = Box((1, 2, 2), (11, 14, 13))


def ball(middle: Triple, radius: float) -> NDArray[np.bool_]:
    away = sum((axis - at) ** 2 for axis, at in zip(np.indices(SHAPE), middle, strict=True))
    near: NDArray[np.bool_] = np.asarray(away <= radius**2)
    return near


def answer(*marked: NDArray[np.bool_]) -> Segmentation:
    grown = rois_of([Marks("lesion", each) for each in marked], (0, 0, 0))
    return Segmentation(grown.rois, "Found.", "unet")


def owners(jobs: Iterable[LayerJob], quality: Quality) -> NDArray[np.int64]:
    count = np.zeros(SHAPE, np.int64)
    for job in jobs:
        if job.key.quality is quality:
            owned = owned_mask(job.box, job.holes)
            count[job.box.slices] += 1 if owned is None else owned
    return count


def roi_marks(plan: Plan) -> NDArray[np.bool_]:
    rois = [region for region in plan.regions if region.kind is RegionKind.ROI]
    return marked_in(rois, Box.whole(SHAPE))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    coarse=st.tuples(*[st.integers(2, 9)] * 3),
    fine=st.lists(st.tuples(*[st.integers(2, 9)] * 3), max_size=3),
    ahead=st.integers(0, 14),
    tissue=boxes_in(SHAPE),
    discard=st.booleans(),
)
def test_every_voxel_has_one_owner_at_each_quality_however_the_plan_grew(
    coarse: Triple, fine: list[Triple], ahead: int, tissue: Box, discard: bool
) -> None:
    step = open_series(0, HEADER, tissue, discard_background=discard)
    check_plan(step.plan, HEADER, None)
    jobs, before = list(step.new), step.plan
    for count in range(ahead):
        more = send_ahead(before, tissue)
        if more is None:
            break
        assert more.plan.version == 2 + count
        check_plan(more.plan, HEADER, before)
        jobs, before = [*jobs, *more.new], more.plan
    answers = [answer(ball(coarse, 2.5)), answer(*[ball(middle, 3) for middle in fine])]
    for number, found in enumerate(answers):
        step = take_answer(
            before, HEADER, found, tissue, last=number == 1, discard_background=discard
        )
        check_plan(step.plan, HEADER, before)
        jobs, before = [*jobs, *step.new], step.plan
        assert not (marked_of(found) & ~roi_marks(before)).any()
    assert len({job.key for job in jobs}) == len(jobs)
    kept = np.ones(SHAPE, np.bool_)
    if discard:
        kept[...] = False
        kept[tissue.slices] = True
        kept |= roi_marks(before)
    assert np.array_equal(owners(jobs, Quality.EXACT), kept)
    seen = owners(jobs, Quality.PREVIEW)
    assert np.array_equal(seen, kept) if not discard else (seen[tissue.slices] == 1).all()


def marked_of(found: Segmentation) -> NDArray[np.bool_]:
    regions = [Region(f"{roi.rank}", RegionKind.ROI, roi.box, mask=roi.mask) for roi in found.rois]
    return marked_in(regions, Box.whole(SHAPE))


def test_before_anything_is_known_the_whole_preview_flows() -> None:
    step = open_series(3, HEADER, TISSUE, discard_background=False)
    assert {job.stage.name for job in step.new} == {"whole_preview"}
    assert {job.key.series for job in step.new} == {3}


def test_slabs_go_ahead_from_the_middle_and_come_to_an_end() -> None:
    large = Box.whole((155, 240, 240))
    plan = open_series(0, HEADER, TISSUE, discard_background=False).plan
    middles = []
    while (step := send_ahead(plan, large)) is not None:
        plan = step.plan
        box = plan.regions[-1].box
        middles.append(abs((box.start[0] + box.stop[0]) / 2 - 77.5))
    assert middles == sorted(middles)
    assert 4 < len(middles) < MAX_REGIONS / 2


def test_an_roi_owns_only_what_is_not_on_its_way() -> None:
    step = open_series(0, HEADER, TISSUE, discard_background=False)
    more = send_ahead(step.plan, Box((5, 2, 2), (7, 14, 13)))
    assert more is not None
    found = answer(ball((6, 8, 7), 3))
    roi = take_answer(more.plan, HEADER, found, TISSUE, last=False, discard_background=False)
    owned = owners(roi.new, Quality.EXACT) == 1
    assert np.array_equal(owned[5:7], np.zeros_like(owned[5:7]))
    assert np.array_equal(owned[2:5], marked_of(found)[2:5])
    assert {job.stage.name for job in roi.new} == {"roi_exact"}  # its preview flows already


def test_an_answer_that_says_the_same_again_changes_nothing_but_the_version() -> None:
    step = open_series(0, HEADER, TISSUE, discard_background=False)
    found = answer(ball((6, 8, 7), 3))
    first = take_answer(step.plan, HEADER, found, TISSUE, last=False, discard_background=False)
    again = take_answer(first.plan, HEADER, found, TISSUE, last=False, discard_background=False)
    assert again.plan.regions == first.plan.regions
    assert again.new == ()


def test_what_a_finer_answer_does_not_confirm_goes_with_the_tissue() -> None:
    step = open_series(0, HEADER, TISSUE, discard_background=False)
    both = answer(ball((3, 4, 4), 2), ball((8, 11, 10), 2))
    first = take_answer(step.plan, HEADER, both, TISSUE, last=False, discard_background=False)
    schedule = Schedule(first.new)
    fine = answer(ball((8, 11, 10), 2))
    last = take_answer(
        first.plan, HEADER, fine, TISSUE, last=True, discard_background=False,
        waiting=schedule.pending(),
    )  # fmt: skip
    assert {job.key.region for job in last.moved} == {"roi0"}
    schedule.add(last.new)
    schedule.move(last.moved)
    order = []
    while (job := schedule.next_job(Link(0.0, 0))) is not None:
        order.append(job)
    assert order[0].key.region == "roi1"
    tissue = STAGES.index(next(stage for stage in STAGES if stage.name == "tissue_exact"))
    assert {job.priority.stage for job in order if job.key.region == "roi0"} == {tissue}
