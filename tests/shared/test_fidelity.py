from __future__ import annotations

from math import inf, log10, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.fidelity import Fidelity, measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = ["|i1", "|u1", "<i2", ">u2", "<i4", ">i8", "<u8", "<f4", ">f8"]


def noisy_pair(dtype: str, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """A block and the same block with some error."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(40, 90, (3, 5, 7))
    return truth.astype(dtype), (truth + rng.integers(-30, 31, truth.shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [None, 0.4, 0.02])
def test_errors_are_those_of_the_owned_voxels(dtype: str, share: float | None) -> None:
    truth, shown = noisy_pair(dtype)
    owned = None if share is None else np.random.default_rng(1).random(truth.shape) < share
    error = shown.astype(float) - truth.astype(float)
    error = error.ravel() if owned is None else error[owned]
    found = measure(truth, shown, owned)
    assert found.voxels == error.size
    assert found.squared_error == pytest.approx(float((error**2).sum()))
    assert found.max_error == float(np.abs(error).max(initial=0.0))


def test_psnr_is_over_the_given_range() -> None:
    truth, shown = noisy_pair("<i2")
    rmse = sqrt(float(((shown.astype(float) - truth) ** 2).mean()))
    found = measure(truth, shown, None)
    assert found.psnr_db((-24.0, 1000.0)) == pytest.approx(20 * log10(1024 / rmse))


def test_differences_of_small_unsigned_types_do_not_wrap() -> None:
    truth, shown = np.zeros((1, 1, 2), np.uint8), np.full((1, 1, 2), 255, np.uint8)
    assert measure(truth, shown, None) == Fidelity(2, 2 * 255.0**2, 255.0)
    assert measure(shown, truth, None) == Fidelity(2, 2 * 255.0**2, 255.0)


@settings(deadline=None, derandomize=True)
@given(cut=st.integers(1, 4), seed=st.integers(0, 50))
def test_the_error_of_parts_adds_up_to_that_of_the_whole(cut: int, seed: int) -> None:
    truth, shown = noisy_pair("<i2", seed)
    parts = [
        measure(truth[:, rows], shown[:, rows], None) for rows in (slice(0, cut), slice(cut, 5))
    ]
    whole = measure(truth, shown, None)
    added = parts[0] + parts[1]
    assert (added.voxels, added.max_error) == (whole.voxels, whole.max_error)
    assert added.squared_error == pytest.approx(whole.squared_error)


@pytest.mark.parametrize("odd", [nan, inf, -inf])
def test_a_voxel_that_is_no_finite_number_has_an_unbounded_error_and_leaves_the_sum(
    odd: float,
) -> None:
    truth = np.array([[[1.0, odd, 3.0]], [[4.0, 5.0, 6.0]]], np.float32)
    shown = np.array([[[2.0, 9.0, 3.0]], [[4.0, 5.0, 8.0]]], np.float32)
    assert measure(truth, shown, None) == Fidelity(5, 5.0, inf)
    assert measure(truth, shown, np.isfinite(truth)) == Fidelity(5, 5.0, 2.0)


def test_a_volume_of_nothing_but_nan_is_measured() -> None:
    truth = np.full((2, 2, 2), nan, ">f4")
    found = measure(truth, np.zeros((2, 2, 2), np.float32), None)
    assert found == Fidelity(0, 0.0, inf)


def test_signalling_nans_are_measured_without_a_complaint() -> None:
    truth = np.array([[[0x7F800001, 0x3F800000]]], "<u4").view("<f4")
    assert measure(truth, np.ones((1, 1, 2), np.float32), None) == Fidelity(1, 0.0, inf)


def test_no_error_is_infinitely_good() -> None:
    truth, _ = noisy_pair("<i2")
    assert measure(truth, truth.copy(), None).psnr_db((0.0, 100.0)) == inf
    assert Fidelity().psnr_db((0.0, 100.0)) == inf


@pytest.mark.parametrize("size", [1e160, 1.7e308])
def test_errors_whose_squares_no_float_holds_are_infinitely_bad(size: float) -> None:
    truth = np.array([[[size, -size, 1.0]]])
    found = measure(truth, -truth, None)
    assert found.psnr_db((-size, size)) == -inf
    assert found.max_error >= 2 * size
    one_off = Fidelity(2, 4.0, 2.0)
    assert one_off.psnr_db((-size, size)) == -inf


def test_nothing_owned_has_no_error() -> None:
    truth, shown = noisy_pair("<i2")
    assert measure(truth, shown, np.zeros(truth.shape, np.bool_)) == Fidelity()
