from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage  # type: ignore[import-untyped]

from sender.segment import grow as module
from sender.segment.grow import Marks, grow, reach_of, rois_of
from shared.mask import unpack_mask
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    import pytest

marks = arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3))
reaches = st.tuples(*[st.integers(0, 4)] * 3)
quickly = settings(deadline=None, derandomize=True, max_examples=120)


@quickly
@given(marks, reaches)
def test_a_mask_grows_as_far_as_its_reach_and_no_further(
    marked: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]], reach: tuple[int, int, int]
) -> None:
    before = marked.copy()
    grown = grow(marked, reach)
    assert np.array_equal(marked, before)
    assert not (marked & ~grown).any()
    box = ndimage.maximum_filter(marked, [2 * by + 1 for by in reach], mode="constant")
    assert not (grown & ~box).any()
    for axis in range(3):  # along each axis, all the way
        line = [1, 1, 1]
        line[axis] = 2 * reach[axis] + 1
        straight = ndimage.maximum_filter(marked, line, mode="constant")
        assert not (straight & ~grown).any()


def test_three_voxels_around_one_are_nearly_a_ball() -> None:
    one = np.zeros((9, 9, 9), np.bool_)
    one[4, 4, 4] = True
    count = int(grow(one, (3, 3, 3)).sum())
    assert 4 / 3 * np.pi * 3**3 < count < 0.6 * 7**3


def test_a_margin_is_as_many_millimetres_in_thick_slices_and_one_slice_at_least() -> None:
    def reach(z_mm: float, margin: int = 3) -> tuple[int, int, int]:
        affine = np.diag([0.5, 0.5, z_mm, 1.0])
        return reach_of(volume_of(np.zeros((2, 2, 2), np.int16), affine=affine).header, margin)

    assert reach(0.5) == (3, 3, 3)
    assert reach(1.0) == (2, 3, 3)
    assert reach(6.0) == (1, 3, 3)
    assert reach(6.0, margin=0) == (0, 0, 0)


@quickly
@given(st.lists(marks, min_size=1, max_size=1), st.integers(1, 3), st.integers(0, 99))
def test_ranked_groups_hold_their_marks_and_share_no_voxel(
    one: list[np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]], groups: int, seed: int
) -> None:
    shape = one[0].shape
    rng = np.random.default_rng(seed)
    given_marks = [one[0], *(rng.random(shape) < 0.1 for _ in range(groups))]
    found = rois_of([Marks(str(n), each) for n, each in enumerate(given_marks)], (1, 1, 1))
    count = np.zeros(shape, np.int64)
    for rank, roi in enumerate(found.rois):
        assert roi.rank == rank
        count[roi.box.slices] += unpack_mask(roi.mask, roi.box.shape)
    assert count.max(initial=0) <= 1
    assert np.array_equal(count > 0, grow(np.logical_or.reduce(given_marks), (1, 1, 1)))
    assert found.voxels == count.sum()
    labels = [roi.label for roi in found.rois]
    assert labels == sorted(labels)


def test_no_answer_has_more_rois_than_a_plan_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ROIS", 5)
    specks = np.zeros((1, 40, 40), np.bool_)
    specks[0, ::4, ::4] = True
    found = rois_of([Marks("a", specks), Marks("b", ~specks)], (0, 0, 0), most=4)
    assert [roi.label for roi in found.rois] == ["a"] * 4 + ["b"]
