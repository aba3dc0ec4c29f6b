from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sender.filling import fill_forward, fill_zero

if TYPE_CHECKING:
    from numpy.typing import NDArray

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Samples, none of them 0, and which of them a layer owns."""
    shape = draw(shapes)
    samples = draw(hnp.arrays(np.uint16, shape, elements=st.integers(1, 9)))
    return samples, draw(hnp.arrays(np.bool_, shape))


def forward_by_hand(samples: NDArray[Any], owned: NDArray[np.bool_]) -> NDArray[Any]:
    """What the description of `fill_forward` says, voxel by voxel."""
    filled = samples.copy()
    for plane, mine in zip(filled, owned, strict=True):
        rows_with = [y for y in range(len(plane)) if mine[y].any()]
        for y in rows_with:
            last = plane[y, int(mine[y].argmax())]
            for x in range(plane.shape[1]):
                last = plane[y, x] if mine[y, x] else last
                plane[y, x] = last
        for y in range(len(plane)):
            if not rows_with:
                plane[y] = 0
            elif y not in rows_with:
                above = [row for row in rows_with if row < y]
                plane[y] = plane[above[-1] if above else rows_with[0]]
    return filled


@pytest.mark.parametrize("fill", [fill_zero, fill_forward])
@settings(deadline=None, derandomize=True, max_examples=150)
@given(drawn=blocks())
def test_owned_samples_are_never_touched(
    fill: Any, drawn: tuple[NDArray[Any], NDArray[np.bool_]]
) -> None:
    samples, owned = drawn
    before = samples.copy()
    assert fill(samples, owned) is samples
    assert np.array_equal(samples[owned], before[owned])


@settings(deadline=None, derandomize=True, max_examples=150)
@given(drawn=blocks())
def test_zero_is_everywhere_else(drawn: tuple[NDArray[Any], NDArray[np.bool_]]) -> None:
    samples, owned = drawn
    assert np.array_equal(fill_zero(samples, owned) == 0, ~owned)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(drawn=blocks())
def test_what_is_carried_on_is_what_the_description_says(
    drawn: tuple[NDArray[Any], NDArray[np.bool_]],
) -> None:
    samples, owned = drawn
    expected = forward_by_hand(samples, owned)
    assert np.array_equal(fill_forward(samples, owned), expected)


@pytest.mark.parametrize("fill", [fill_zero, fill_forward])
def test_a_layer_that_owns_its_whole_box_is_not_filled(fill: Any) -> None:
    samples = np.arange(1, 25, dtype=np.uint8).reshape(2, 3, 4)
    before = samples.copy()
    assert np.array_equal(fill(samples, None), before)
    assert np.array_equal(fill(samples, np.ones((2, 3, 4), np.bool_)), before)


def test_a_hole_in_the_middle_repeats_what_stands_before_it() -> None:
    samples = np.array([[[5, 6, 7, 8, 9], [1, 1, 1, 1, 1], [2, 3, 4, 5, 6]]], np.uint16)
    owned = np.ones((1, 3, 5), np.bool_)
    owned[0, 0, 2:4] = False
    owned[0, 1] = False
    owned[0, 2, :2] = False
    assert fill_forward(samples, owned)[0].tolist() == [
        [5, 6, 6, 6, 9],
        [5, 6, 6, 6, 9],
        [4, 4, 4, 5, 6],
    ]
