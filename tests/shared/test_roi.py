from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InputError
from shared.geometry import Affine, Box, Triple
from shared.roi import RECORD_BYTES, RoiRecord

BOX = Box((1, 4, 16), (3, 9, 300))
SHAPE = (155, 240, 512)
AFFINE: Affine = (-1.0, 0.0, 0.5, 90.25, 0.0, 2.0, 0.0, -126.0, 0.25, 0.0, 3.0, -72.0, 0, 0, 0, 1.0)
GOLDEN = bytes.fromhex(
    "1000 2b01"  # x 16..299
    "0400 0800"  # y 4..8
    "0100 0200"  # z 1..2
    "0002 f000 9b00"  # 512, 240, 155
    "000080bf 00000000 0000003f"  # -1 0 0.5
    "00000000 00000040 00000000"  # 0 2 0
    "0000803e 00000000 00004040"  # 0.25 0 3
)


def with_int16(index: int, value: int) -> bytes:
    """The golden record with one of its nine int16 changed."""
    record = bytearray(GOLDEN)
    struct.pack_into("<h", record, 2 * index, value)
    return bytes(record)


def test_a_record_is_these_54_bytes() -> None:
    assert len(GOLDEN) == RECORD_BYTES
    assert RoiRecord.of(BOX, SHAPE, AFFINE).pack() == GOLDEN


def test_these_54_bytes_are_that_record() -> None:
    record = RoiRecord.unpack(GOLDEN)
    assert record == RoiRecord(BOX, SHAPE, (-1.0, 0.0, 0.5, 0.0, 2.0, 0.0, 0.25, 0.0, 3.0))
    assert record.pack() == GOLDEN


def test_the_translation_is_not_in_the_record() -> None:
    moved = (*AFFINE[:3], 1e4, *AFFINE[4:])
    assert RoiRecord.of(BOX, SHAPE, moved).pack() == GOLDEN


axes = st.integers(1, 32767).flatmap(
    lambda length: st.integers(0, length - 1).flatmap(
        lambda start: st.integers(start + 1, length).map(lambda stop: (length, start, stop))
    )
)
floats = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.tuples(axes, axes, axes), st.tuples(*[floats] * 9))
@settings(deadline=None, derandomize=True)
def test_any_record_comes_back(z_y_x: tuple[Triple, Triple, Triple], nine: Affine) -> None:
    shape, start, stop = zip(*z_y_x, strict=True)
    affine = (*nine[0:3], 1.0, *nine[3:6], 2.0, *nine[6:9], 3.0, 0.0, 0.0, 0.0, 1.0)
    record = RoiRecord.of(Box(start, stop), shape, affine)
    assert record.linear == nine
    assert RoiRecord.unpack(record.pack()) == record


def test_affine_floats_are_rounded_once_to_float32() -> None:
    affine = (0.1, *AFFINE[1:])
    record = RoiRecord.of(BOX, SHAPE, affine)
    assert record.linear[0] == 0.10000000149011612
    assert RoiRecord.unpack(record.pack()) == record


@pytest.mark.parametrize("length", [0, 1, 53, 55, 108])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(InputError, match=f"54 bytes expected, got {length}"):
        RoiRecord.unpack((GOLDEN * 2)[:length])


@pytest.mark.parametrize("index", [0, 2, 4])
def test_a_box_that_begins_before_its_volume_is_refused(index: int) -> None:
    with pytest.raises(InputError, match="is no box"):
        RoiRecord.unpack(with_int16(index, -1))


@pytest.mark.parametrize("index", [1, 3, 5])
def test_a_box_that_ends_before_it_begins_is_refused(index: int) -> None:
    with pytest.raises(InputError, match="is no box"):
        RoiRecord.unpack(with_int16(index, 0))


@pytest.mark.parametrize(("index", "last"), [(1, 512), (3, 240), (5, 155), (1, 32767)])
def test_a_box_that_ends_outside_its_shape_is_refused(index: int, last: int) -> None:
    with pytest.raises(InputError, match="does not lie in its shape 155,240,512"):
        RoiRecord.unpack(with_int16(index, last))


@pytest.mark.parametrize("index", [6, 7, 8])
@pytest.mark.parametrize("size", [0, -1, -32768])
def test_a_shape_without_voxels_is_refused(index: int, size: int) -> None:
    with pytest.raises(InputError, match="does not lie in its shape"):
        RoiRecord.unpack(with_int16(index, size))


@pytest.mark.parametrize("bits", ["0000c07f", "0000807f", "000080ff"])
def test_an_affine_that_is_no_number_is_refused(bits: str) -> None:
    with pytest.raises(InputError, match="9 finite affine floats"):
        RoiRecord.unpack(GOLDEN[:-4] + bytes.fromhex(bits))


def test_big_endian_bytes_are_not_taken_for_a_record() -> None:
    fields = struct.unpack("<9h9f", GOLDEN)
    with pytest.raises(InputError):
        RoiRecord.unpack(struct.pack(">9h9f", *fields))


def test_an_axis_beyond_int16_is_refused() -> None:
    with pytest.raises(InputError, match="32768 voxels does not fit int16"):
        RoiRecord.of(BOX, (155, 240, 32768), AFFINE)


def test_a_box_outside_the_volume_is_refused() -> None:
    with pytest.raises(InputError, match="does not lie in its shape"):
        RoiRecord.of(BOX, (155, 240, 299), AFFINE)


def test_an_affine_beyond_float32_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit float32"):
        RoiRecord.of(BOX, SHAPE, (1e39, *AFFINE[1:]))


def test_a_record_without_nine_floats_is_refused() -> None:
    with pytest.raises(InputError, match="9 finite affine floats"):
        RoiRecord(BOX, SHAPE, (1.0,) * 8)
