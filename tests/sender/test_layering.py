from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import limits
from protocol.checks import check_plan
from protocol.stages import STAGES, UNFOCUSED
from sender import layering
from sender.layering import cut_box, cut_layers, make_plan
from shared.geometry import Box
from shared.layer import Quality, RegionKind, exact_key
from shared.mask import pack_mask, unpack_mask
from shared.ownership import holes, owned_mask
from shared.roi import RECORD_BYTES, Roi, RoiRecord
from tests.sender.segment.volumes import volume_of
from tests.sender.studies import jobs_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from protocol.messages import Plan
    from sender.layering import LayerJob
    from shared.geometry import Triple

small = st.integers(1, 9)
shapes = st.tuples(small, small, small)


@st.composite
def boxes_in(draw: st.DrawFn, shape: Triple) -> Box:
    """A box inside a volume."""
    spans = []
    for length in shape:
        low = draw(st.integers(0, length - 1))
        spans.append((low, draw(st.integers(low + 1, length))))
    (z0, z1), (y0, y1), (x0, x1) = spans
    return Box((z0, y0, x0), (z1, y1, x1))


@st.composite
def plans(draw: st.DrawFn, *, discard: bool | None = None) -> tuple[Triple, Plan]:
    """A small volume and a plan of it: some ROIs, which may overlap, and a tissue box."""
    shape = draw(shapes)
    rois = draw(st.lists(boxes_in(shape), max_size=4))
    tissue = draw(boxes_in(shape))
    chosen = draw(st.booleans()) if discard is None else discard
    return shape, plan_of(shape, rois, tissue, discard=chosen)


@st.composite
def masked_plans(draw: st.DrawFn) -> tuple[Triple, Plan]:
    """Like `plans`, but the ROIs are masks, whose boxes overlap at will."""
    shape = draw(shapes)
    rois = []
    for rank, box in enumerate(draw(st.lists(boxes_in(shape), min_size=1, max_size=4))):
        seed = draw(st.integers(0, 2**32))
        marked = np.random.default_rng(seed).random(box.shape) < draw(st.sampled_from((0.2, 0.8)))
        marked.flat[0] = True
        rois.append(Roi(box, "lesion", rank, pack_mask(marked)))
    header = volume_of(np.zeros(shape, np.int16)).header
    tissue = draw(boxes_in(shape))
    return shape, make_plan(0, header, rois, tissue, discard_background=False)


def owners(shape: Triple, jobs: Iterable[LayerJob]) -> NDArray[np.int64]:
    """How many of the layers own each voxel."""
    count = np.zeros(shape, np.int64)
    for job in jobs:
        owned = owned_mask(job.box, job.holes)
        count[job.box.slices] += 1 if owned is None else owned
    return count


def in_kinds(shape: Triple, plan: Plan, *kinds: RegionKind) -> NDArray[np.bool_]:
    """Which voxels lie in the boxes of regions of these kinds."""
    inside = np.zeros(shape, np.bool_)
    for region in plan.regions:
        if region.kind in kinds:
            inside[region.box.slices] = True
    return inside


def cut_small(plan: Plan, block_voxels: int) -> list[LayerJob]:
    """The layers of a plan in blocks that are small enough to need several."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = dict.fromkeys(layering._BLOCK_VOXELS, block_voxels)
        patch.setattr(layering, "_BLOCK_VOXELS", sizes)
        return cut_layers(plan)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(drawn=st.one_of(plans(discard=False), masked_plans()), block_voxels=st.integers(1, 60))
def test_every_voxel_has_one_owner_at_each_quality(
    drawn: tuple[Triple, Plan], block_voxels: int
) -> None:
    shape, plan = drawn
    jobs = cut_small(plan, block_voxels)
    for quality in (Quality.PREVIEW, Quality.EXACT):
        count = owners(shape, [job for job in jobs if job.key.quality is quality])
        assert bool(np.all(count == 1))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(drawn=plans(discard=True), block_voxels=st.integers(1, 60))
def test_a_discarded_background_has_no_layer_and_all_else_has_one(
    drawn: tuple[Triple, Plan], block_voxels: int
) -> None:
    shape, plan = drawn
    jobs = cut_small(plan, block_voxels)
    kept = in_kinds(shape, plan, RegionKind.ROI, RegionKind.TISSUE, RegionKind.SURROUNDINGS)
    for quality in (Quality.PREVIEW, Quality.EXACT):
        count = owners(shape, [job for job in jobs if job.key.quality is quality])
        assert np.array_equal(count, kept)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(masked_plans())
def test_rois_of_masks_own_what_they_mark_and_no_more(drawn: tuple[Triple, Plan]) -> None:
    shape, plan = drawn
    exact = [job for job in cut_small(plan, 20) if job.stage.name == "roi_exact"]
    marked = np.zeros(shape, np.int64)
    for region in plan.regions:
        if region.kind is RegionKind.ROI:
            marked[region.box.slices] |= unpack_mask(region.mask, region.box.shape)
    assert np.array_equal(owners(shape, exact), marked)
    masked = {region.name for region in plan.regions if region.mask}
    for job in exact:  # no wider than what it owns
        owned = owned_mask(job.box, job.holes)
        if job.key.region in masked and owned is not None:
            for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
                edges = np.flatnonzero(owned.any(axis=others))
                assert edges[0] == 0
                assert edges[-1] == job.box.shape[axis] - 1


def test_a_mask_that_a_plan_has_no_room_for_becomes_its_box(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked = np.zeros((4, 6, 8), np.bool_)
    marked[1:3, 2:4, 3:6] = True
    rois = [Roi(Box.whole(marked.shape), "lesion", 0, pack_mask(marked))]
    header = volume_of(np.zeros(marked.shape, np.int16)).header
    whole = Box.whole(marked.shape)
    plan = make_plan(0, header, rois, whole, discard_background=False)
    assert plan.regions[0].mask == rois[0].mask
    monkeypatch.setattr(limits, "MAX_MASK_BYTES", 4)
    plan = make_plan(0, header, rois, whole, discard_background=False)
    assert plan.regions[0].mask == b""


@settings(deadline=None, derandomize=True, max_examples=100)
@given(plans())
def test_every_plan_is_one_that_a_receiver_takes(drawn: tuple[Triple, Plan]) -> None:
    shape, plan = drawn
    check_plan(plan, volume_of(np.zeros(shape, np.int16)).header, None)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(plans())
def test_where_rois_overlap_the_foremost_owns_the_voxels(drawn: tuple[Triple, Plan]) -> None:
    shape, plan = drawn
    regions = {region.name: region for region in plan.regions}
    first = np.full(shape, -1)
    found = np.full(shape, -1)
    for region in plan.regions:
        if region.kind is not RegionKind.ROI:
            continue
        view = first[region.box.slices]
        view[view < 0] = region.rank
        owned = owned_mask(region.box, holes(region, region.box, regions))
        found[region.box.slices][slice(None) if owned is None else owned] = region.rank
    assert np.array_equal(found, first)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(drawn=plans(), block_voxels=st.integers(1, 60))
def test_keys_are_distinct_and_no_layer_owns_nothing(
    drawn: tuple[Triple, Plan], block_voxels: int
) -> None:
    _, plan = drawn
    jobs = cut_small(plan, block_voxels)
    assert len({job.key for job in jobs}) == len(jobs)
    regions = {region.name: region for region in plan.regions}
    for job in jobs:
        region = regions[job.key.region]
        assert job.box.inside(region.box)
        assert job.holes == holes(region, job.box, regions, job.key.quality)
        owned = owned_mask(job.box, job.holes)
        assert owned is None or owned.any()


@settings(deadline=None, derandomize=True, max_examples=100)
@given(drawn=plans(), block_voxels=st.integers(1, 60))
def test_the_order_of_layers_is_that_of_the_stages(
    drawn: tuple[Triple, Plan], block_voxels: int
) -> None:
    _, plan = drawn
    jobs = sorted(cut_small(plan, block_voxels), key=lambda job: job.priority)
    places = [STAGES.index(job.stage) for job in jobs]
    assert places == sorted(places)
    assert len({job.priority for job in jobs}) == len(jobs)
    for one, other in pairwise(jobs):
        assert one.priority.focus == UNFOCUSED
        if one.stage is other.stage:
            assert one.priority.rank <= other.priority.rank


@settings(deadline=None, derandomize=True, max_examples=200)
@given(content=st.data(), block_voxels=st.integers(1, 400))
def test_blocks_tile_their_box_in_near_equal_shares(
    content: st.DataObject, block_voxels: int
) -> None:
    shape = content.draw(st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(1, 30)))
    box = content.draw(boxes_in(shape))
    blocks = list(cut_box(box, block_voxels))
    count = np.zeros(shape, np.int64)
    for block in blocks:
        count[block.slices] += 1
        assert block.inside(box)
        assert block.shape[2] == box.shape[2]
    assert int(count.sum()) == box.voxels
    assert bool(np.all(count[box.slices] == 1))
    for axis in (0, 1):
        lengths = {block.shape[axis] for block in blocks}
        assert max(lengths) - min(lengths) <= 1
    plane = box.shape[1] * box.shape[2]  # far below the size at which one is cut in bands
    assert max(block.voxels for block in blocks) <= max(2 * block_voxels, plane)
    assert all(
        block.voxels >= min(box.voxels, block_voxels // 4) or block.shape[1] == 1
        for block in blocks
    )


def test_a_huge_slice_is_cut_in_bands_of_rows() -> None:
    radiograph = plan_of((1, 4096, 3072), [Box((0, 1000, 1000), (1, 1400, 1500))])
    jobs = cut_layers(radiograph)
    exact = [job for job in jobs if job.stage.name == "tissue_exact"]
    assert len(exact) == 24
    assert {job.box.shape[2] for job in exact} == {3072}
    assert max(job.box.voxels for job in jobs) < limits.MAX_BLOCK_VOXELS
    assert all(job.box.voxels <= 5 << 20 for job in jobs)


def test_a_volume_of_thick_slices_is_cut_in_single_slices() -> None:
    jobs = jobs_of(plan_of((20, 640, 640)), "tissue_exact")
    assert [job.box.shape for job in jobs] == [(1, 640, 640)] * 20


def test_the_largest_volume_has_layers_that_a_session_can_number() -> None:
    jobs = cut_layers(plan_of((512, 2048, 2048), [Box((100, 900, 900), (140, 1100, 1100))]))
    assert prod((512, 2048, 2048)) == limits.MAX_VOXELS
    assert len(jobs) <= limits.MAX_LAYERS


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 5), (6, 1, 1), (1, 1, 9)])
def test_tiny_volumes_have_a_preview_and_an_exact_layer(shape: Triple) -> None:
    names = [job.stage.name for job in jobs_of(plan_of(shape))]
    assert names == ["whole_preview", "tissue_bounded", "tissue_exact"]
    names = [job.stage.name for job in jobs_of(plan_of(shape, [Box.whole(shape)]))]
    assert names == ["roi_preview", "roi_exact"]


def test_a_bounded_layer_owns_what_the_exact_one_owns_that_builds_on_it() -> None:
    plan = plan_of((64, 256, 256), [Box((20, 40, 40), (40, 90, 90))])
    jobs = jobs_of(plan, "tissue_bounded")
    exact = {job.key: job for job in jobs_of(plan, "tissue_exact")}
    assert len(jobs) == len(exact) > 1
    for job in jobs:
        other = exact[exact_key(job.key)]
        assert (job.box, job.holes) == (other.box, other.holes)


def test_an_roi_that_covers_everything_leaves_no_other_region() -> None:
    plan = plan_of((4, 5, 6), [Box.whole((4, 5, 6))], Box((1, 1, 1), (2, 2, 2)))
    assert [region.kind for region in plan.regions] == [RegionKind.ROI]


def test_an_roi_hidden_behind_foremost_ones_is_left_out() -> None:
    left, right = Box((0, 0, 0), (2, 4, 3)), Box((0, 0, 3), (2, 4, 6))
    plan = plan_of((2, 4, 6), [left, right, Box((0, 0, 1), (2, 4, 5))])
    assert [region.name for region in plan.regions] == ["roi0", "roi1"]


def test_two_rois_of_one_box_are_one_region() -> None:
    box = Box((0, 0, 0), (1, 2, 2))
    plan = plan_of((2, 2, 2), [box, box])
    assert [region.name for region in plan.regions][:2] == ["roi0", "surroundings"]


def test_tissue_nearest_to_an_roi_goes_first() -> None:
    roi = Box((30, 0, 0), (32, 256, 256))
    jobs = jobs_of(plan_of((64, 256, 256), [roi]), "tissue_exact")
    distances = [job.box.distance_to(roi) for job in jobs]
    assert distances == sorted(distances)
    assert jobs[0].box.start[0] < 32
    assert jobs[0].box.stop[0] > 29


def test_without_an_roi_the_middle_slices_go_first() -> None:
    jobs = jobs_of(plan_of((64, 256, 256)), "tissue_exact")
    assert jobs[0].box.start[0] <= 32 < jobs[0].box.stop[0]
    assert {jobs[-1].box.start[0], jobs[-2].box.stop[0]} & {0, 64}


def test_the_record_says_the_tissue_box() -> None:
    tissue = Box((1, 2, 3), (3, 4, 5))
    plan = plan_of((4, 5, 6), [Box((0, 0, 0), (1, 1, 1))], tissue)
    assert len(plan.record) == RECORD_BYTES
    assert RoiRecord.unpack(plan.record).box == tissue


def test_previews_of_a_discarded_background_show_the_tissue_only() -> None:
    tissue = Box((0, 2, 2), (2, 6, 6))
    plan = plan_of((2, 8, 8), [Box((0, 0, 0), (1, 3, 3))], tissue, discard=True)
    by_kind = {region.kind: region for region in plan.regions}
    assert by_kind[RegionKind.SURROUNDINGS].box == tissue
    assert by_kind[RegionKind.BACKGROUND].discarded
    assert not any(job.key.region == "background" for job in cut_layers(plan))
