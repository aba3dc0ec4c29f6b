from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sender.segment import heights as heights_module
from sender.segment.heights import heights_of
from sender.segment.percentiles import percentiles
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

WANTED = (1.0, 50.0, 99.0)


def check(values: NDArray[Any]) -> None:
    found = percentiles(heights_of(volume_of(values)), WANTED)
    np.testing.assert_array_equal(found, np.percentile(values[values > 0], WANTED))


@given(arrays(np.float64, (2, 3, 7), elements=st.sampled_from([0.0, 0.1, 0.3, 1.7, 1e6])))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_percentiles_are_those_of_numpy_to_the_last_bit(values: NDArray[np.float64]) -> None:
    if (values > 0).any():
        check(values)


@pytest.mark.parametrize("sample_voxels", [1, 16, 200, 4096])
@pytest.mark.parametrize("seed", range(4))
def test_a_small_or_misleading_sample_costs_time_not_exactness(
    seed: int, sample_voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heights_module, "_SAMPLE_VOXELS", sample_voxels)
    rng = np.random.default_rng(seed)
    check(rng.integers(0, 30, (11, 20, 31)).astype(np.int16))
    check(np.maximum(rng.normal(size=(11, 20, 31)), 0))
    values = np.zeros((11, 20, 31))
    values[rng.integers(11), rng.integers(20), :] = rng.random(31)
    check(values)


def test_nothing_above_the_background_has_no_percentile() -> None:
    assert percentiles(heights_of(volume_of(np.zeros((2, 2, 2)))), WANTED) == []
