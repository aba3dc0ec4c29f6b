"""Sample maps bring every voxel back bitwise, whatever the type; see test_preview_window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.errors import CodecError
from shared.intensity import MAX_LEVELS, SampleKind, SampleMap, fit_sample_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

INTEGERS = ["|i1", "|u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4"]
INTEGERS += ["<i8", ">i8", "<u8", ">u8"]
FLOATS = ["<f4", ">f4", "<f8", ">f8"]
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))
quickly = settings(deadline=None, derandomize=True, max_examples=60)


def comes_back(voxels: NDArray[Any]) -> SampleMap:
    """The map of a volume, after checking that it is exact, for the volume and for a block."""
    fitted = fit_sample_map(voxels)
    for part in (voxels, voxels[:1, ::-1, 1:]):
        samples = fitted.to_samples(part)
        assert samples.dtype == fitted.sample_dtype(voxels.dtype)
        assert samples.shape == part.shape
        assert samples.flags.c_contiguous
        assert not np.shares_memory(samples, voxels)
        if fitted.kind is not SampleKind.RAW:
            assert fitted.bits <= 16
            assert int(samples.max(initial=0)) < 1 << fitted.bits
        back = fitted.from_samples(samples, voxels.dtype)
        assert back.dtype == voxels.dtype.newbyteorder("=")
        assert back.astype(voxels.dtype).tobytes() == np.ascontiguousarray(part).tobytes()
    return fitted


def column(values: object, dtype: str) -> NDArray[Any]:
    """A volume of these values, one after the other."""
    return np.asarray(values).astype(dtype).reshape(1, 1, -1)


@pytest.mark.parametrize("dtype", INTEGERS)
@quickly
@given(content=st.data())
def test_any_volume_of_whole_numbers_comes_back(dtype: str, content: st.DataObject) -> None:
    comes_back(content.draw(hnp.arrays(np.dtype(dtype), shapes)))


@pytest.mark.parametrize("dtype", FLOATS)
@quickly
@given(content=st.data())
def test_any_volume_of_bit_patterns_comes_back(dtype: str, content: st.DataObject) -> None:
    """Signalling NaNs, infinities, subnormals and both zeros among them."""
    whole = np.dtype(dtype.replace("f", "u"))
    comes_back(content.draw(hnp.arrays(whole, shapes)).view(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@quickly
@given(content=st.data())
def test_any_volume_of_floats_comes_back(dtype: str, content: st.DataObject) -> None:
    width = np.dtype(dtype).itemsize * 8
    some = st.floats(width=32 if width == 32 else 64)
    comes_back(content.draw(hnp.arrays(np.dtype(dtype), shapes, elements=some)))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_values_at_either_end_of_a_type_are_counted_from_the_lowest(dtype: str) -> None:
    limits = np.iinfo(np.dtype(dtype))
    low = np.array([limits.min, limits.min + 3], dtype).reshape(1, 1, 2)
    high = np.array([limits.max, limits.max - 3], dtype).reshape(1, 1, 2)
    for voxels, offset in ((low, limits.min), (high, limits.max - 3)):
        assert comes_back(voxels) == SampleMap(SampleKind.INTEGER, 2, offset=offset)


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<u4", "<i8", ">i8", "<u8", ">u8"])
def test_few_values_of_a_range_beyond_16_bits_become_levels(dtype: str) -> None:
    limits = np.iinfo(np.dtype(dtype))
    values = [limits.max, limits.min, limits.max // 3, limits.min, limits.max - 1]
    fitted = comes_back(np.array(values, dtype).reshape(1, 1, -1))
    assert (fitted.kind, fitted.bits) == (SampleKind.LEVELS, 2)
    little = np.dtype(dtype).newbyteorder("<")
    table = np.frombuffer(fitted.levels, little)
    assert table.tolist() == sorted(set(values))


def test_a_range_of_exactly_16_bits_needs_no_levels_and_one_more_does() -> None:
    assert comes_back(column([0, 65535], "<i4")).kind is SampleKind.INTEGER
    assert comes_back(column([0, 65536], "<i4")).kind is SampleKind.LEVELS


def test_whole_numbers_beyond_16_bits_with_too_many_values_stay_raw() -> None:
    assert comes_back(column(np.arange(MAX_LEVELS) * 100, "<i4")).kind is SampleKind.LEVELS
    fitted = comes_back(column(np.arange(MAX_LEVELS + 1) * 100, ">i4"))
    assert fitted == SampleMap(SampleKind.RAW, 32)
    assert comes_back(column(np.arange(70_000) * 1000, "<i8")) == SampleMap(SampleKind.RAW, 64)


@pytest.mark.parametrize("value", [0, 7, -3])
def test_a_constant_volume_takes_one_bit(value: int) -> None:
    assert comes_back(column([value] * 4, "<i2")) == SampleMap(SampleKind.INTEGER, 1, offset=value)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -0.0])
def test_a_value_that_is_no_multiple_of_anything_makes_levels(dtype: str, odd: float) -> None:
    fitted = comes_back(column([0.0, 1.0, 2.0, odd, 3.0], dtype))
    assert fitted.kind is SampleKind.LEVELS


def test_every_nan_keeps_its_bits() -> None:
    patterns = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x80000000, 0], "<u4")
    fitted = comes_back(patterns.view("<f4").reshape(1, 2, 3))
    assert (fitted.kind, fitted.bits) == (SampleKind.LEVELS, 3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_continuous_values_stay_raw(dtype: str) -> None:
    fitted = comes_back(np.random.default_rng(5).normal(size=(3, 40, 60)).astype(dtype))
    assert fitted == SampleMap(SampleKind.RAW, np.dtype(dtype).itemsize * 8)


def test_raw_samples_are_a_copy_so_that_filling_them_spares_the_volume() -> None:
    voxels = np.random.default_rng(0).normal(size=(2, 50, 60))
    fitted = fit_sample_map(voxels)
    assert fitted.kind is SampleKind.RAW
    fitted.to_samples(voxels)[...] = 0
    assert voxels.any()


def test_a_sample_beyond_the_levels_is_not_what_was_coded() -> None:
    three = SampleMap(SampleKind.LEVELS, 2, levels=np.array([1, 5, 9], "<i4").tobytes())
    good = three.from_samples(np.array([[[2, 0]]], np.uint8), np.dtype(">i4"))
    assert good.tolist() == [[[9, 1]]]
    with pytest.raises(CodecError, match="sample 3 of only 3 levels"):
        three.from_samples(np.array([[[3]]], np.uint8), np.dtype("<i4"))


@pytest.mark.parametrize(("bits", "dtype"), [(1, "u1"), (8, "u1"), (9, "u2"), (16, "u2")])
def test_samples_are_bytes_up_to_eight_bits(bits: int, dtype: str) -> None:
    assert SampleMap(SampleKind.INTEGER, bits).sample_dtype(np.dtype("<i4")) == np.dtype(dtype)
    assert SampleMap(SampleKind.RAW, 64).sample_dtype(np.dtype(">f8")) == np.dtype("=f8")
