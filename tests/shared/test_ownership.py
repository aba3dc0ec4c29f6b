from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.geometry import Box
from shared.layer import Quality, Region, RegionKind
from shared.mask import pack_mask
from shared.ownership import Cut, holes, marked_in, owned_count, owned_mask, owns_any
from tests.shared.test_geometry import boxes

some_holes = st.lists(boxes, max_size=4)


def owned_by_hand(box: Box, without: list[Box]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """The voxels of a box outside its holes, over a cube that holds all of them."""
    owned = np.zeros((6, 6, 6), np.bool_)
    owned[box.slices] = True
    for hole in without:
        owned[hole.slices] = False
    return owned


def inside(box: Box, without: list[Box]) -> tuple[Box, ...]:
    """Holes, cut to the box."""
    return tuple(cut for hole in without if (cut := hole.intersection(box)) is not None)


@given(boxes, some_holes)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_a_mask_is_true_where_no_hole_is(box: Box, without: list[Box]) -> None:
    mask = owned_mask(box, inside(box, without))
    by_hand = owned_by_hand(box, without)[box.slices]
    if mask is None:
        assert by_hand.all()
    else:
        assert mask.shape == box.shape
        assert np.array_equal(mask, by_hand)


@given(boxes, some_holes)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_counts_are_those_of_the_mask_though_holes_overlap(box: Box, without: list[Box]) -> None:
    count = int(owned_by_hand(box, without).sum())
    cut = inside(box, without)
    assert owned_count(box, cut) == count
    assert owns_any(box, cut) == (count > 0)


def test_a_box_without_holes_has_no_mask() -> None:
    box = Box((0, 0, 0), (2, 3, 4))
    assert owned_mask(box, ()) is None
    assert owned_count(box, ()) == 24
    assert owns_any(box, ())


def test_two_holes_that_cover_a_box_only_together_leave_nothing() -> None:
    box = Box((0, 0, 0), (1, 4, 2))
    halves = (Box((0, 0, 0), (1, 2, 2)), Box((0, 2, 0), (1, 4, 2)))
    assert not owns_any(box, halves)
    assert owned_count(box, halves) == 0


def test_a_hole_that_covers_a_huge_box_is_seen_without_making_a_mask() -> None:
    huge = Box.whole((16384, 16384, 16384))
    assert not owns_any(huge, (huge,))


@given(st.lists(boxes, min_size=1, max_size=4), boxes)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_regions_that_exclude_those_before_them_share_no_voxel(
    owners: list[Box], block: Box
) -> None:
    regions: dict[str, Region] = {}
    labels = np.full((6, 6, 6), -1)
    for number, box in enumerate(owners):
        labels[box.slices] = np.where(labels[box.slices] < 0, number, labels[box.slices])
        regions[f"roi{number}"] = Region(f"roi{number}", RegionKind.ROI, box, tuple(regions))
    for number, region in enumerate(regions.values()):
        part = region.box.intersection(block)
        if part is None:
            continue
        mask = owned_mask(part, holes(region, part, regions))
        mine = labels[part.slices] == number
        assert mine.all() if mask is None else np.array_equal(mask, mine)


def test_holes_are_cut_to_the_block_and_others_left_out() -> None:
    near = Region("roi0", RegionKind.ROI, Box((0, 0, 0), (4, 4, 4)))
    far = replace(near, name="roi1", box=Box((0, 0, 5), (4, 4, 6)))
    tissue = Region("tissue", RegionKind.TISSUE, Box.whole((4, 4, 6)), ("roi0", "roi1"))
    regions = {region.name: region for region in (near, far, tissue)}
    block = Box((1, 1, 2), (2, 2, 5))
    assert holes(tissue, block, regions) == (Box((1, 1, 2), (2, 2, 4)),)


@given(st.lists(st.tuples(boxes, st.integers(0, 2**32)), min_size=1, max_size=4), boxes)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_masks_own_their_marks_less_those_before_them_and_nothing_twice(
    owners: list[tuple[Box, int]], block: Box
) -> None:
    regions: dict[str, Region] = {}
    labels = np.full((6, 6, 6), -1)
    for number, (box, seed) in enumerate(owners):
        marked = np.random.default_rng(seed).random(box.shape) < (seed % 5) / 4
        here = labels[box.slices]
        here[marked & (here < 0)] = number
        name = f"roi{number}"
        packed = pack_mask(marked)
        regions[name] = Region(name, RegionKind.ROI, box, tuple(regions), mask=packed)
    for number, region in enumerate(regions.values()):
        part = region.box.intersection(block)
        if part is None:
            continue
        without = holes(region, part, regions)
        mine = labels[part.slices] == number
        mask = owned_mask(part, without)
        assert mine.all() if mask is None else np.array_equal(mask, mine)
        assert owned_count(part, without) == mine.sum()
        assert owns_any(part, without) == mine.any()
    seen = marked_in(regions.values(), block)
    assert np.array_equal(seen, labels[block.slices] >= 0)


def test_a_region_found_late_owns_what_is_not_on_its_way_at_that_quality() -> None:
    whole = Box.whole((2, 4, 4))
    shown = Region("surroundings", RegionKind.SURROUNDINGS, whole)
    late = Region("roi0", RegionKind.ROI, Box((0, 1, 1), (2, 3, 3)), ("surroundings",))
    regions = {region.name: region for region in (shown, late)}
    assert not owns_any(late.box, holes(late, late.box, regions, Quality.PREVIEW))
    assert owned_count(late.box, holes(late, late.box, regions, Quality.EXACT)) == 8


def test_a_cut_is_a_box_where_everything_is_marked_and_nothing_where_nothing_is() -> None:
    box = Box((0, 0, 0), (1, 2, 2))
    assert Cut.of(box, np.ones((1, 2, 2), np.bool_)) == box
    assert Cut.of(box, np.zeros((1, 2, 2), np.bool_)) is None
    cut = Cut.of(box, np.array([[[True, False], [False, False]]]))
    assert isinstance(cut, Cut)
    assert cut.marked().sum() == 1
