from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.geometry import Box

if TYPE_CHECKING:
    from shared.geometry import Triple

_SIDE = 6
"""Boxes are drawn inside a cube of this side, small enough to look at every voxel."""
_spans = st.integers(0, _SIDE - 1).flatmap(
    lambda low: st.integers(low + 1, _SIDE).map(lambda high: (low, high))
)
boxes = st.tuples(_spans, _spans, _spans).map(
    lambda zyx: Box((zyx[0][0], zyx[1][0], zyx[2][0]), (zyx[0][1], zyx[1][1], zyx[2][1]))
)
by_brute_force = settings(deadline=None, derandomize=True, max_examples=200)


def voxels_of(box: Box) -> set[Triple]:
    """Every voxel of a box, one by one."""
    ranges = (range(low, high) for low, high in zip(box.start, box.stop, strict=True))
    return {(z, y, x) for z, y, x in itertools.product(*ranges)}


@given(boxes)
@by_brute_force
def test_a_box_holds_as_many_voxels_as_its_index_picks(box: Box) -> None:
    picked = np.zeros((_SIDE, _SIDE, _SIDE), np.bool_)
    picked[box.slices] = True
    indices = {(int(z), int(y), int(x)) for z, y, x in np.argwhere(picked)}
    assert indices == voxels_of(box)
    assert box.voxels == len(indices)
    assert picked[box.slices].shape == box.shape


@given(boxes, boxes)
@by_brute_force
def test_an_intersection_is_what_both_boxes_hold(one: Box, other: Box) -> None:
    common = one.intersection(other)
    assert (voxels_of(common) if common else set()) == voxels_of(one) & voxels_of(other)
    assert common == other.intersection(one)


@given(boxes, boxes)
@by_brute_force
def test_a_box_is_inside_another_where_the_other_holds_all_its_voxels(one: Box, other: Box) -> None:
    assert one.inside(other) == (voxels_of(one) <= voxels_of(other))


@given(boxes, boxes)
@by_brute_force
def test_distance_counts_the_voxels_between_on_the_axis_with_the_largest_gap(
    one: Box, other: Box
) -> None:
    gaps = []
    for axis in range(3):
        mine = range(one.start[axis], one.stop[axis])
        its = range(other.start[axis], other.stop[axis])
        gaps.append(max(min(abs(a - b) for a in mine for b in its) - 1, 0))
    assert one.distance_to(other) == max(gaps)
    assert one.distance_to(other) == other.distance_to(one)


@given(boxes, boxes)
@by_brute_force
def test_a_box_counted_from_another_picks_the_same_voxels(one: Box, other: Box) -> None:
    common = one.intersection(other)
    if common is None:
        return
    numbered = np.arange(_SIDE**3).reshape(_SIDE, _SIDE, _SIDE)
    within = numbered[other.slices][common.relative_to(other).slices]
    assert np.array_equal(within, numbered[common.slices])


def test_a_box_that_starts_before_another_cannot_be_counted_from_it() -> None:
    with pytest.raises(ValueError, match="is not a box"):
        Box((0, 0, 0), (2, 2, 2)).relative_to(Box((1, 0, 0), (2, 2, 2)))


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ((0, 0, 0), (1, 1, 0)),
        ((0, 0, 0), (0, 1, 1)),
        ((2, 0, 0), (1, 1, 1)),
        ((-1, 0, 0), (1, 1, 1)),
        ((0, 0, -3), (1, 1, -1)),
    ],
)
def test_a_box_without_a_voxel_or_below_zero_is_refused(start: Triple, stop: Triple) -> None:
    with pytest.raises(ValueError, match="is not a box"):
        Box(start, stop)


def test_the_whole_of_a_shape_starts_at_zero() -> None:
    whole = Box.whole((3, 4, 5))
    assert (whole.start, whole.shape, whole.voxels) == ((0, 0, 0), (3, 4, 5), 60)


def test_a_box_says_its_ranges_as_the_command_line_takes_them() -> None:
    assert str(Box((1, 2, 3), (4, 5, 6))) == "1:4,2:5,3:6"


def test_boxes_that_touch_are_at_no_distance() -> None:
    below, above = Box((0, 0, 0), (2, 2, 2)), Box((2, 0, 0), (3, 2, 2))
    assert below.distance_to(above) == 0
    assert below.intersection(above) is None
