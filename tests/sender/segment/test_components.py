from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sender.segment import components
from sender.segment.components import MAX_BOXES, MarkedBox, marked_boxes
from shared.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mask_of(shape: tuple[int, int, int], *boxes: Box) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for box in boxes:
        mask[box.slices] = True
    return mask


def speck(z: int, y: int, x: int) -> Box:
    return Box((z, y, x), (z + 1, y + 1, x + 1))


def check(mask: NDArray[np.bool_]) -> list[MarkedBox]:
    """What holds of every mask."""
    boxes, parts = marked_boxes(mask)
    assert len(boxes) <= min(parts, MAX_BOXES)
    assert sum(found.marked for found in boxes) == mask.sum()
    left = mask.copy()
    for found in boxes:
        assert mask[found.box.slices].sum() == found.marked
        left[found.box.slices] = False
    assert not left.any()
    assert all(one.box.distance_to(two.box) > 0 for one, two in combinations(boxes, 2))
    assert [found.marked for found in boxes] == sorted((f.marked for f in boxes), reverse=True)
    return boxes


@given(arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.booleans()))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_boxes_cover_the_mask_apart_and_fullest_first(mask: NDArray[np.bool_]) -> None:
    check(mask)


@pytest.mark.parametrize("density", [0.0005, 0.003, 0.02, 0.3])
@pytest.mark.parametrize("most_parts", [8, 64, 2048])
def test_a_mask_of_specks_becomes_few_boxes(
    density: float, most_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "_MAX_PARTS", most_parts)
    assert check(np.random.default_rng(7).random((40, 60, 50)) < density)


def test_an_empty_mask_has_no_box() -> None:
    assert marked_boxes(np.zeros((3, 4, 5), np.bool_)) == ([], 0)


def test_a_full_mask_is_one_box() -> None:
    assert marked_boxes(np.ones((3, 4, 5), np.bool_)) == ([MarkedBox(Box.whole((3, 4, 5)), 60)], 1)


def test_voxels_that_share_a_corner_are_one_part() -> None:
    mask = mask_of((4, 4, 4), speck(0, 0, 0), speck(1, 1, 1), speck(2, 2, 2))
    assert marked_boxes(mask) == ([MarkedBox(Box((0, 0, 0), (3, 3, 3)), 3)], 1)


def test_parts_with_a_voxel_between_them_stay_apart_fullest_first() -> None:
    small, large = speck(0, 0, 0), Box((0, 0, 2), (2, 3, 4))
    assert marked_boxes(mask_of((4, 4, 8), small, large)) == (
        [MarkedBox(large, 12), MarkedBox(small, 1)],
        2,
    )


def test_a_part_inside_another_s_box_joins_it() -> None:
    ring = mask_of((1, 9, 9), Box((0, 0, 0), (1, 9, 9)))
    ring[0, 1:8, 1:8] = False
    ring[0, 4, 4] = True
    assert marked_boxes(ring) == ([MarkedBox(Box.whole((1, 9, 9)), 33)], 2)


def test_boxes_that_touch_become_one_and_then_take_in_what_that_one_touches() -> None:
    stair = mask_of((1, 9, 9))
    stair[0, [0, 1, 2], [0, 1, 2]] = True  # box 0:3, 0:3
    stair[0, 0, 3] = True  # touches no marked voxel, but that box
    stair[0, [3, 4], [5, 5]] = True  # apart from all, until the box of the others
    assert marked_boxes(stair) == (
        [MarkedBox(Box((0, 0, 0), (1, 3, 4)), 4), MarkedBox(Box((0, 3, 5), (1, 5, 6)), 2)],
        3,
    )
    stair[0, 2, 4] = True
    assert marked_boxes(stair)[0] == [MarkedBox(Box((0, 0, 0), (1, 5, 6)), 7)]


def test_the_17th_part_joins_where_it_adds_the_fewest_voxels() -> None:
    parts = [Box((0, 0, 4 * n), (2, 2, 4 * n + 2)) for n in range(16)]
    near_the_last = speck(0, 4, 61)
    boxes, count = marked_boxes(mask_of((2, 5, 64), *parts, near_the_last))
    assert count == 17
    assert [found.box for found in boxes] == [Box((0, 0, 60), (2, 5, 62)), *parts[:15]]


def test_specks_gather_where_that_costs_less_than_joining_a_lesion() -> None:
    lesions = [Box((0, 0, 6 * n), (4, 4, 6 * n + 4)) for n in range(15)]
    specks = [speck(30, 30, 10 + 2 * n) for n in range(5)]
    boxes, count = marked_boxes(mask_of((40, 40, 90), *lesions, *specks))
    assert count == 20
    assert len(boxes) == MAX_BOXES
    assert {found.box for found in boxes[:15]} == set(lesions)
    assert boxes[15] == MarkedBox(Box((30, 30, 10), (31, 31, 19)), 5)


def test_a_turned_view_has_the_boxes_of_its_copy() -> None:
    mask = np.random.default_rng(3).random((9, 14, 11)) < 0.05
    view = mask.transpose(2, 0, 1)[::-1, :, ::-1]
    assert marked_boxes(view) == marked_boxes(view.copy())


def test_a_hundred_thousand_specks_take_no_minutes() -> None:
    mask = np.zeros((96, 96, 96), np.bool_)
    mask[::2, ::2, ::2] = True  # 110,592 parts, none touching another
    mask[:, :, 40:50] = False
    boxes = check(mask)
    assert len(boxes) <= MAX_BOXES
