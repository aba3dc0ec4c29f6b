from __future__ import annotations

import numpy as np
import pytest

from sender.segment.unet.lesions import (
    LOW,
    SURE,
    Budget,
    marked_in_volume,
    parts_of,
    satellites_of,
    united,
    widened,
    within_share,
)
from sender.segment.unet.sight import Placement
from shared.geometry import Box

SHAPE = (20, 24, 22)
SAME = Placement(SHAPE, (0, 1, 2), (False, False, False), (1.0, 1.0, 1.0), Box.whole(SHAPE))


def chances(
    *balls: tuple[tuple[int, int, int], float, float],
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """Balls of (middle, radius, chance) in nothing."""
    found = np.zeros(SHAPE, np.float32)
    for middle, radius, chance in balls:
        away = sum((axis - at) ** 2 for axis, at in zip(np.indices(SHAPE), middle, strict=True))
        found[np.asarray(away) <= radius**2] = chance
    return found


def test_a_part_that_is_sure_anywhere_is_a_lesion_down_to_its_edge() -> None:
    seen = chances(((10, 12, 11), 6, LOW + 0.05), ((10, 12, 11), 2, 0.9))
    (part,) = parts_of(seen, 0.008)
    assert part.sure
    assert part.highest == pytest.approx(0.9)
    assert part.size_ml == pytest.approx(0.008 * np.count_nonzero(seen))


def test_what_is_nowhere_sure_is_a_possible_lesion_and_comes_after_all_that_are() -> None:
    seen = chances(((5, 5, 5), 4, SURE - 0.1), ((15, 17, 16), 3, 0.8), ((15, 5, 16), 2, 0.7))
    parts = parts_of(seen, 0.008)
    assert [part.sure for part in parts] == [True, True, False]
    assert parts[0].size_ml > parts[1].size_ml


def test_specks_are_no_lesions() -> None:
    assert parts_of(chances(((5, 5, 5), 0, 0.9)), 0.008) == []
    assert len(parts_of(chances(((5, 5, 5), 0, 0.9)), 0.2)) == 1


def test_a_part_holds_the_core_that_it_encloses_or_half_encloses() -> None:
    seen = chances(((10, 12, 11), 7, 0.9), ((10, 12, 11), 4, 0.0))
    seen[10:13, 12:20, 11] = 0  # the core opens to one side
    (part,) = parts_of(seen, 0.008)
    whole = united([part], SHAPE)
    assert whole[10, 12, 11]
    assert whole[10, 9, 11]


INSIDE = np.ones(SHAPE, np.bool_)
INSIDE[:, :, 15:] = False
BALL = chances(((10, 12, 11), 5, 1.0)) > 0
CORE = chances(((10, 12, 11), 4, 1.0)) > 0
MANY = 20 * 24 * 22


def test_an_roi_is_widened_by_the_doubt_and_not_where_there_is_no_tissue() -> None:
    assert np.array_equal(widened(BALL, BALL, INSIDE, Budget(0, MANY)), BALL)  # no doubt at all
    some = widened(BALL, CORE, INSIDE, Budget(0, MANY))
    more = widened(BALL, chances(((10, 12, 11), 3, 1.0)) > 0, INSIDE, Budget(0, MANY))
    assert BALL.sum() < some.sum() < more.sum()
    assert not (BALL & ~some).any()
    assert not more[:, :, 17:].any()


def test_an_roi_takes_the_least_that_it_is_given_and_no_more_than_the_most() -> None:
    count = int(BALL.sum())
    taken = widened(BALL, BALL, INSIDE, Budget(2 * count, MANY)).sum()
    assert 2 * count <= taken < 2.4 * count  # voxels that are as near come together
    tight = widened(BALL, CORE, INSIDE, Budget(0, count))
    assert np.array_equal(tight, BALL)


def test_the_least_is_bounded_by_a_small_lesion_and_the_most_by_none_that_is_large() -> None:
    speck = chances(((10, 12, 11), 1, 1.0)) > 0
    assert widened(speck, speck, INSIDE, Budget(MANY, MANY)).sum() < 10 * speck.sum()
    large = widened(BALL, chances(((10, 12, 11), 4.5, 1.0)) > 0, INSIDE, Budget(0, 1))
    assert large.sum() >= BALL.sum()


def test_nothing_sure_is_not_widened() -> None:
    nothing = np.zeros(SHAPE, np.bool_)
    assert not widened(nothing, nothing, INSIDE, Budget(MANY, MANY)).any()


def test_a_budget_is_a_share_of_the_volume_on_whatever_grid() -> None:
    fine, coarse = Budget.of((100, 100, 100), 1.0, 1.0), Budget.of((100, 100, 100), 1.0, 8.0)
    assert 0 < fine.least < fine.most < 100_000
    assert coarse.most == fine.most // 8


def test_marks_come_back_to_the_volume_with_their_edge_between_voxels() -> None:
    seen = chances(((10, 12, 11), 5, 0.9))
    chosen = seen > LOW
    np.testing.assert_array_equal(marked_in_volume(chosen, seen, SAME), chosen)
    nothing = np.zeros(SHAPE, np.bool_)
    assert not marked_in_volume(nothing, seen, SAME).any()
    twice = Placement(
        (40, 48, 44), (0, 1, 2), (False, False, False), (2.0, 2.0, 2.0), Box.whole(SHAPE)
    )
    large = marked_in_volume(chosen, seen, twice)
    assert 7 < large.sum() / chosen.sum() < 12


def test_possible_lesions_have_a_share_of_the_volume_and_sure_ones_have_all() -> None:
    seen = chances(((5, 5, 5), 3, 0.45), ((15, 17, 16), 5, 0.8), ((5, 17, 16), 2, 0.4))
    parts = parts_of(seen, 0.008)
    kept = within_share(parts, SHAPE, 0.008 / 1)
    assert next(part.sure for part in kept)
    assert len(within_share(parts, (1, 1, 1), 1e-9)) == 1
    assert len(within_share(parts, (200, 200, 200), 0.008)) == 3


def likeness(
    *balls: tuple[tuple[int, int, int], float, float],
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    return chances(*balls) - np.float32(1)


def test_what_looks_like_a_lesion_near_one_is_a_possible_lesion_the_most_evident_first() -> None:
    near = likeness(((10, 12, 11), 5, 4.0), ((10, 20, 4), 1, 4.0), ((3, 3, 17), 2, 4.0))
    parts = satellites_of(near, BALL, BALL, 0.02)
    assert [part.sure for part in parts] == [False, False]
    assert parts[0].size_ml > parts[1].size_ml
    found = united(parts, SHAPE)
    assert found[10, 20, 4]
    assert found[3, 3, 17]
    assert not (found & BALL).any()


def test_a_larger_lesion_has_room_for_more_satellites_and_a_small_one_for_little() -> None:
    near = likeness(((10, 20, 4), 2, 4.0), ((3, 3, 17), 1, 4.0))
    small = chances(((10, 12, 11), 2, 1.0)) > 0
    assert len(satellites_of(near, BALL, BALL, 0.02)) == 2
    (only,) = satellites_of(near, small, small, 0.02)
    assert only.size_ml == pytest.approx(7 * 0.02)  # the larger one is passed over


def test_no_satellite_without_a_lesion_nor_far_from_one_nor_of_a_speck() -> None:
    shape = (8, 8, 60)
    lesion, bright = np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
    lesion[2:6, 2:6, 2:8] = True
    bright[2:5, 2:5, 40:43] = 3.0
    bright[3, 3, 12] = 3.0
    assert satellites_of(bright, lesion, lesion, 0.02) == []
    assert satellites_of(bright, np.zeros_like(lesion), lesion, 0.02) == []
    bright[2:5, 2:5, 15:17] = 3.0
    assert len(satellites_of(bright, lesion, lesion, 0.02)) == 1
