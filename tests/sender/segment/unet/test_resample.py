from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sender.segment.unet.resample import along_axes, axis_taps


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.integers(1, 40), st.floats(0.2, 6.0))
def test_taps_are_a_triangle_as_wide_as_the_step_and_sum_to_1(length: int, step: float) -> None:
    places = (np.arange(max(1, int(np.ceil(length / step)))) + 0.5) * step - 0.5
    taps = axis_taps(length, places, step)
    values = np.random.default_rng(length).random(length).astype(np.float32)
    inside = np.clip(places, 0, length - 1)
    reach = max(1.0, step)
    weights = np.maximum(0, 1 - np.abs(np.arange(length) - inside[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(taps.along(values, 0), weights @ values, atol=1e-5)
    assert len(taps) == len(places)


def test_a_constant_stays_what_it_is_and_a_ramp_stays_straight() -> None:
    taps = axis_taps(30, np.arange(10) * 2.5 + 2)
    flat = np.full((30, 3, 3), 7, np.float32)
    np.testing.assert_allclose(taps.along(flat, 0), 7, rtol=1e-6)
    ramp = np.arange(30, dtype=np.float32)
    np.testing.assert_allclose(taps.along(ramp, 0), np.arange(10) * 2.5 + 2, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_axis_is_resampled_by_its_own_taps(axis: int) -> None:
    voxels = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
    taps = [axis_taps(n, np.arange(n, dtype=np.float64)) for n in voxels.shape]
    np.testing.assert_allclose(along_axes(voxels, *taps), voxels, atol=1e-6)
    taps[axis] = axis_taps(voxels.shape[axis], np.array([2.0]))
    np.testing.assert_allclose(
        along_axes(voxels, *taps).take(0, axis), voxels.take(2, axis), atol=1e-6
    )
