from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.intensity import SampleKind
from shared.steps import Step, at_step, find_step
from tests.shared.test_intensity import FLOATS, column, comes_back, quickly


@pytest.mark.parametrize("dtype", FLOATS)
@quickly
@given(
    step=st.floats(1e-6, 1e4, exclude_min=True),
    low=st.integers(-3000, 3000),
    gaps=st.lists(st.integers(1, 5), min_size=8, max_size=200),
)
def test_multiples_of_a_step_are_found_though_some_never_occur(
    dtype: str, step: float, low: int, gaps: list[int]
) -> None:
    """As PET and rescaled CT stored as floats: rounded once from whole numbers."""
    multiples = low + np.cumsum([0, *gaps])
    voxels = column(multiples * step, dtype)
    fitted = comes_back(voxels)
    if np.any(multiples == 0) or np.any(np.diff(np.unique(np.abs(multiples))) == 1):
        assert fitted.kind is SampleKind.STEP
    if fitted.kind is SampleKind.STEP:
        assert fitted.bits <= int(multiples[-1] - multiples[0]).bit_length()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gap", [2, 3, 4, 5, 6])
def test_a_step_is_found_where_no_two_neighbours_occur(dtype: str, gap: int) -> None:
    multiples = np.array([gap * 7, gap * 8, gap * 8 + gap + 1, 991])
    assert comes_back(column(multiples * 0.37, dtype)).kind is SampleKind.STEP


def test_a_pet_of_one_slope_is_coded_in_the_bits_of_its_whole_numbers() -> None:
    counts = np.random.default_rng(3).integers(0, 32768, (4, 32, 32))
    fitted = comes_back((counts * np.float32(0.2317)).astype("<f4"))
    assert (fitted.kind, fitted.bits) == (SampleKind.STEP, 15)


def test_a_step_with_as_many_multiples_as_16_bits_hold_is_the_last() -> None:
    assert comes_back(column(np.arange(65536) * 0.5, "<f8")).kind is SampleKind.STEP
    assert comes_back(column(np.arange(65537) * 0.5, "<f8")).kind is SampleKind.RAW


@pytest.mark.parametrize(
    "values",
    [
        [-1.7e308, 1.7e308, 0.0, 1.0],
        [5e-324, 1e308],
        [5e-324, 1e-323, 0.0],
        [np.finfo(np.float64).max, -np.finfo(np.float64).max],
        [np.finfo(np.float64).tiny, 3.0],
    ],
)
def test_floats_of_any_size_are_mapped_without_an_overflow(values: list[float]) -> None:
    comes_back(column(values, "<f8"))
    with np.errstate(over="ignore"):
        comes_back(column(values, ">f4"))


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_a_step_says_which_multiples_of_it_occur(dtype: str) -> None:
    values = at_step(np.array([-3, 0, 2, 9]), 0.25, np.dtype(dtype))
    assert values.tolist() == [-0.75, 0.0, 0.5, 2.25]
    assert find_step(values) == Step(0.25, -3, 9)


@pytest.mark.parametrize("values", [[], [0.0], [np.inf, 1.0], [np.nan], [-0.0, 1.0]])
def test_there_is_no_step_without_finite_values_beside_zero(values: list[float]) -> None:
    assert find_step(np.array(values, np.float32)) is None
