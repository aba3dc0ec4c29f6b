"""The 12-bit window of previews (`shared.intensity`): what it shows, and what it may never do."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.intensity import PREVIEW_MAX, PreviewWindow, fit_window, value_range
from tests.shared.test_intensity import FLOATS, INTEGERS, column, shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

quickly = settings(deadline=None, derandomize=True, max_examples=60)
EVERY_SAMPLE = np.arange(PREVIEW_MAX + 1, dtype=np.uint16)


def is_sound(voxels: NDArray[Any]) -> PreviewWindow:
    """The window of a volume, after checking what holds for every window."""
    window = fit_window(voxels)
    assert isfinite(window.high - window.low)
    assert window.low < window.high
    samples = window.to_preview(voxels)
    assert samples.dtype == np.uint16
    assert samples.shape == voxels.shape
    assert int(samples.max()) <= PREVIEW_MAX
    shown = window.from_preview(EVERY_SAMPLE, voxels.dtype)
    assert shown.dtype == voxels.dtype.newbyteorder("=")
    assert np.isfinite(shown).all()
    assert bool(np.all(shown[:-1] <= shown[1:]))
    return window


@pytest.mark.parametrize("dtype", INTEGERS)
@quickly
@given(content=st.data())
def test_any_volume_of_whole_numbers_has_a_window(dtype: str, content: st.DataObject) -> None:
    is_sound(content.draw(hnp.arrays(np.dtype(dtype), shapes)))


@pytest.mark.parametrize("dtype", FLOATS)
@quickly
@given(content=st.data())
def test_any_volume_of_bit_patterns_has_a_window(dtype: str, content: st.DataObject) -> None:
    whole = np.dtype(dtype.replace("f", "u"))
    is_sound(content.draw(hnp.arrays(whole, shapes)).view(dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_extremes_of_a_type_are_shown_as_they_are(dtype: str) -> None:
    limits = np.iinfo(np.dtype(dtype))
    for values in ([limits.min], [limits.max], [limits.min, limits.max]):
        voxels = np.array(values, dtype).reshape(1, 1, -1)
        window = is_sound(voxels)
        shown = window.from_preview(window.to_preview(voxels), voxels.dtype)
        error = [abs(int(a) - int(b)) for a, b in zip(shown.flat, voxels.flat, strict=True)]
        assert max(error) <= limits.max // 2**52  # float64 holds no more of an int64


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("share", [1.0, -1.0, 0.5])
def test_the_extremes_of_a_floating_type_keep_their_window(dtype: str, share: float) -> None:
    most = float(np.finfo(np.dtype(dtype)).max) * share
    is_sound(column([most], dtype))
    is_sound(column([-most, most], dtype))
    is_sound(column([most, 0.0], dtype))


@quickly
@given(
    dtype=st.sampled_from(INTEGERS),
    span=st.integers(0, PREVIEW_MAX),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_range_that_12_bits_hold_comes_back_exactly(
    dtype: str, span: int, share: float, seed: int
) -> None:
    limits = np.iinfo(np.dtype(dtype))
    span = min(span, limits.max - limits.min)
    room = min(limits.max - limits.min, 1 << 40) - span  # as far out as float64 tells 1 from 2
    low = max(limits.min, -(1 << 39)) + int(room * share)
    native = np.dtype(dtype).newbyteorder("=")
    chosen = np.random.default_rng(seed).integers(low, low + span, 50, native, endpoint=True)
    voxels = chosen.astype(dtype).reshape(2, 5, 5)
    window = is_sound(voxels)
    shown = window.from_preview(window.to_preview(voxels), voxels.dtype)
    assert shown.dtype == native
    assert np.array_equal(shown, voxels)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u4", "<f4", ">f8"])
def test_a_larger_value_is_never_shown_smaller(dtype: str) -> None:
    voxels = column(np.sort(np.random.default_rng(2).integers(0, 30000, 5000)), dtype)
    samples = fit_window(voxels).to_preview(voxels).ravel().astype(int)
    assert bool(np.all(np.diff(samples) >= 0))
    assert (samples[0], samples[-1]) == (0, PREVIEW_MAX)


@pytest.mark.parametrize("dtype", ["<i2", ">u2", "<i4", "<f4", ">f8"])
def test_one_hot_voxel_does_not_take_the_gray_levels_from_the_rest(dtype: str) -> None:
    voxels = np.random.default_rng(4).integers(0, 900, (4, 64, 64)).astype(dtype)
    voxels[2, 30, 30] = 32767
    window = is_sound(voxels)
    assert window.high <= 900
    assert int(window.to_preview(voxels)[2, 30, 30]) == PREVIEW_MAX


def test_outliers_stay_where_12_bits_hold_them() -> None:
    voxels = column([*range(100), 4095], "<i2")
    assert fit_window(voxels) == PreviewWindow(0.0, 4095.0)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_a_constant_volume_is_shown_as_it_is(dtype: str) -> None:
    voxels = np.full((2, 3, 4), 77, dtype)
    window = is_sound(voxels)
    assert np.array_equal(window.from_preview(window.to_preview(voxels), voxels.dtype), voxels)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_a_number_is_black_and_infinities_are_clipped(dtype: str) -> None:
    voxels = column([nan, inf, -inf, 1.0, 3.0], dtype)
    window = is_sound(voxels)
    assert (window.low, window.high) == (1.0, 3.0)
    assert window.to_preview(voxels).ravel().tolist() == [0, PREVIEW_MAX, 0, 0, PREVIEW_MAX]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_volume_without_a_finite_value_still_has_a_window(dtype: str, value: float) -> None:
    voxels = np.full((2, 2, 2), value, dtype)
    assert value_range(voxels) == (0.0, 0.0)
    assert is_sound(voxels) == PreviewWindow(0.0, 1.0)


@quickly
@given(content=st.data(), dtype=st.sampled_from([*INTEGERS, *FLOATS]))
def test_the_range_of_values_is_that_of_the_finite_ones(content: st.DataObject, dtype: str) -> None:
    voxels = content.draw(hnp.arrays(np.dtype(dtype), shapes))
    finite = [float(value) for value in voxels.flat if isfinite(value)]
    assert value_range(voxels) == ((min(finite), max(finite)) if finite else (0.0, 0.0))


def test_samples_beyond_12_bits_are_taken_for_the_brightest() -> None:
    window = PreviewWindow(-10.0, 400.0)
    wild = np.array([[[PREVIEW_MAX, PREVIEW_MAX + 1, 65535]]], np.uint16)
    assert window.from_preview(wild, np.dtype("<i2")).tolist() == [[[400, 400, 400]]]


@pytest.mark.parametrize("bounds", [(-1e308, 1e308), (0.0, 5e-324), (1e300, 1.7e308)])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_a_peers_window_shows_something_of_every_type(
    bounds: tuple[float, float], dtype: str
) -> None:
    """The receiver takes any finite window from the manifest."""
    shown = PreviewWindow(*bounds).from_preview(EVERY_SAMPLE, np.dtype(dtype))
    assert np.isfinite(shown).all()
    assert bool(np.all(shown[:-1] <= shown[1:]))
