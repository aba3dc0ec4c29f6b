from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment import heights as module
from sender.segment.heights import heights_of
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from shared.volume import Volume


def all_heights(volume: Volume) -> NDArray[np.float64]:
    found = np.full(volume.voxels.shape, np.nan)
    for z, y, block in heights_of(volume).blocks():
        found[z, y : y + len(block)] = block
    return found


def level(volume: Volume) -> float:
    return heights_of(volume).level


def test_raw_mr_stands_above_0() -> None:
    volume = volume_of([[[0, 7, 1200]]], np.uint16)
    assert level(volume) == 0.0
    np.testing.assert_array_equal(all_heights(volume), [[[0, 7, 1200]]])


def test_a_few_negatives_of_mr_are_not_tissue() -> None:
    values = np.zeros((4, 5, 6), np.int16)
    values[1, 2, 3], values[2, 2, 2] = -47, 833
    volume = volume_of(values)
    assert level(volume) == 0.0
    np.testing.assert_array_equal(all_heights(volume), np.maximum(values, 0))


def test_ct_stands_above_air() -> None:
    volume = volume_of([[[-2000, -1024, -1000, -990, 40]]], np.int16, modality="CT")
    assert level(volume) == -1000.0
    np.testing.assert_array_equal(all_heights(volume), [[[0, 0, 0, 10, 1040]]])


def test_unsigned_ct_is_read_through_its_intercept() -> None:
    volume = volume_of([[[0, 24, 34, 1064]]], np.uint16, modality="CT", intercept=-1024.0)
    np.testing.assert_array_equal(all_heights(volume), [[[0, 0, 10, 1040]]])


def test_8_bit_ct_without_scaling_stands_above_0() -> None:
    volume = volume_of([[[30, 168]]], np.uint8, modality="CT")
    assert level(volume) == 0.0


def test_a_nifti_with_air_in_it_is_a_ct() -> None:
    values = np.full((10, 10, 10), 40, np.int16)
    values[0, 0] = -1003  # 1 %
    assert level(volume_of(values)) == -1000.0


def test_an_mr_with_such_values_is_none() -> None:
    values = np.full((10, 10, 10), 40, np.int16)
    values[0, :4] = [[-1003], [-1002], [-1001], [-1000]]
    assert level(volume_of(values, modality="MR")) == 0.0


def test_z_scored_data_stands_above_its_lowest_value() -> None:
    values = np.full((2, 5, 10), -3.625, np.float32)
    values[:, 1:3, 2:5] = [-0.5, 0.25, 4.0]
    volume = volume_of(values)
    assert level(volume) == -3.625
    np.testing.assert_array_equal(all_heights(volume), values.astype(np.float64) + 3.625)


def test_monochrome1_stands_below_its_highest_value() -> None:
    volume = volume_of([[[1023, 1000, 0]]], np.uint16, inverted=True)
    assert level(volume) == 1023.0
    np.testing.assert_array_equal(all_heights(volume), [[[0, 23, 1023]]])


def test_padding_is_not_the_highest_value_of_monochrome1() -> None:
    volume = volume_of([[[4095, 1023, 1000]]], np.uint16, inverted=True, padding=(4000.0, 4095.0))
    assert level(volume) == 1023.0
    np.testing.assert_array_equal(all_heights(volume), [[[0, 0, 23]]])


def test_padding_is_background_at_either_end() -> None:
    volume = volume_of([[[3000, 5, 0, 2999]]], np.int16, padding=(3000.0, 3000.0))
    np.testing.assert_array_equal(all_heights(volume), [[[0, 5, 0, 2999]]])


def test_padding_is_compared_before_scaling() -> None:
    volume = volume_of([[[0, 10, 20]]], np.uint16, slope=2.0, intercept=1.0, padding=(10.0, 10.0))
    np.testing.assert_array_equal(all_heights(volume), [[[1, 0, 41]]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_a_number_is_background(dtype: DTypeLike) -> None:
    volume = volume_of([[[np.nan, np.inf, -np.inf, 3.0]]], dtype)
    assert level(volume) == 0.0
    np.testing.assert_array_equal(all_heights(volume), [[[0, 0, 0, 3]]])


@pytest.mark.parametrize("inverted", [False, True])
def test_a_volume_without_a_number_has_no_heights(inverted: bool) -> None:
    volume = volume_of(np.full((2, 2, 2), np.nan, np.float32), inverted=inverted)
    assert not all_heights(volume).any()
    assert heights_of(volume).sample().size == 0


def test_a_scaled_value_beyond_float64_is_background() -> None:
    volume = volume_of([[[1e300, 1.0]]], np.float64, slope=1e30)
    np.testing.assert_array_equal(all_heights(volume), [[[0, 1e30]]])


def test_every_slice_is_scaled_by_its_own_slope() -> None:
    volume = volume_of(
        [[[10, 20]], [[10, 20]]], np.int16, modality="PT", rescale=((1.0, 0.0), (0.5, 2.0))
    )
    np.testing.assert_array_equal(all_heights(volume), [[[10, 20]], [[7, 12]]])
    np.testing.assert_array_equal(heights_of(volume).sample(), [10, 20, 7, 12])


def test_a_negative_slope_turns_the_values_round() -> None:
    volume = volume_of([[[0, 10, 30]]], np.int16, slope=-1.0, intercept=30.0)
    np.testing.assert_array_equal(all_heights(volume), [[[30, 20, 0]]])


@pytest.mark.parametrize("dtype", [">i2", "<i2", ">f4", "<u4", "<i8", "|u1"])
def test_every_type_and_byte_order_has_heights(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(all_heights(volume_of(values, dtype)), values)


def test_blocks_of_a_few_rows_cover_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(3 * 7 * 4).reshape(3, 7, 4)
    monkeypatch.setattr(module, "_BLOCK_VOXELS", 9)
    np.testing.assert_array_equal(all_heights(volume_of(values, np.int16)), values)
    monkeypatch.setattr(module, "_BLOCK_VOXELS", 1)
    np.testing.assert_array_equal(all_heights(volume_of(values, np.int16)), values)


def test_a_sample_visits_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE_VOXELS", 1 << 9)
    columns = np.broadcast_to(np.arange(64), (16, 64, 64))
    sample = heights_of(volume_of(columns, np.int16)).sample()
    assert 64 < sample.size <= 1 << 9
    assert set(sample) == set(range(64))


def test_a_sample_of_a_small_volume_is_all_of_it() -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    np.testing.assert_array_equal(heights_of(volume_of(values)).sample(), np.arange(60))


@pytest.mark.parametrize("inverted", [False, True])
def test_a_height_is_a_real_value_again(inverted: bool) -> None:
    volume = volume_of([[[-900, 500]]], np.int16, modality="CT", inverted=inverted)
    real = heights_of(volume).real_value(100.0)
    assert real == (400.0 if inverted else -900.0)
