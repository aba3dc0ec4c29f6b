from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from protocol import limits
from sender.read.dicom_values import (
    code,
    first_item,
    integer,
    longs,
    number,
    numbers,
    ordinal,
    printable,
    refusing_damage,
    short,
    stored,
    text,
    texts,
    vector,
    very_longs,
)
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def holding(keyword: str, value: bytes | None, *, little: bool = True, length: int = -1) -> Dataset:
    """A data set of one raw element, as pydicom reads it."""
    tag = BaseTag(Tag(keyword))
    size = len(value or b"") if length < 0 else length
    return Dataset({tag: RawDataElement(tag, "UN", size, value, 0, False, little)})


@pytest.mark.parametrize("value", [None, b""])
def test_empty_and_absent_are_alike(value: bytes | None) -> None:
    for data_set in (Dataset(), holding("RescaleSlope", value)):
        assert stored(data_set, "RescaleSlope") == b""
        assert text(data_set, "RescaleSlope") == ""
        assert texts(data_set, "RescaleSlope") == ()
        assert number(data_set, "RescaleSlope") is None
        assert integer(data_set, "RescaleSlope") is None
        assert short(data_set, "RescaleSlope") is None
        assert vector(data_set, "RescaleSlope", length=3) is None
        assert ordinal(data_set, "RescaleSlope") == 0


def test_values_are_decoded_from_their_bytes() -> None:
    assert number(holding("RescaleSlope", b" 2.5e0 "), "RescaleSlope") == 2.5
    assert numbers(holding("ImagePositionPatient", b"1\\-2\\.5 "), "ImagePositionPatient") == (
        1,
        -2,
        0.5,
    )
    assert texts(holding("ImageType", b"ORIGINAL\\PRIMARY \0"), "ImageType") == (
        "ORIGINAL",
        "PRIMARY",
    )
    assert integer(holding("NumberOfFrames", b"12\\3"), "NumberOfFrames") == 12
    for little in (True, False):
        order = "<" if little else ">"
        rows = holding("Rows", struct.pack(order + "H", 65535), little=little)
        assert short(rows, "Rows") == 65535
        assert short(rows, "Rows", signed=True) == -1
        many = holding("DimensionIndexValues", struct.pack(order + "2L", 1, 1 << 31), little=little)
        assert longs(many, "DimensionIndexValues") == (1, 1 << 31)
    table = holding("ExtendedOffsetTable", struct.pack("<2Q", 0, 1 << 40))
    assert very_longs(table, "ExtendedOffsetTable") == (0, 1 << 40)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (number, b"abc"),
        (number, b"nan"),
        (number, b"inf"),
        (numbers, b"1\\\\2"),
        (integer, b"1A"),
        (short, b"\1\0\0\0"),
        (short, b"\1"),
        (longs, b"\1\0\0"),
    ],
)
def test_values_that_cannot_be_raise(read: Callable[[Dataset, str], object], value: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        read(holding("RescaleSlope", value), "RescaleSlope")


def test_a_vector_has_its_length() -> None:
    with pytest.raises(ValueError, match="has 2 values, 3 belong there"):
        vector(holding("ImagePositionPatient", b"1\\2"), "ImagePositionPatient", length=3)


def test_a_number_that_only_orders_may_be_nonsense() -> None:
    assert ordinal(holding("InstanceNumber", b"1A"), "InstanceNumber") == 0
    assert ordinal(holding("InstanceNumber", b"-7"), "InstanceNumber") == -7


def test_a_value_too_long_to_read_is_named() -> None:
    with pytest.raises(ValueError, match="PixelSpacing is 99999999 bytes long"):
        stored(holding("PixelSpacing", None, length=99_999_999), "PixelSpacing")


def test_a_sequence_is_no_value() -> None:
    data_set = Dataset()
    data_set.PlanePositionSequence = Sequence([Dataset()])
    with pytest.raises(ValueError, match="is a sequence"):
        stored(data_set, "PlanePositionSequence")
    assert first_item(data_set, "PlanePositionSequence") is not None
    assert first_item(data_set, "PlaneOrientationSequence") is None
    assert first_item(None, "PlanePositionSequence") is None


def test_shown_words_carry_no_control_characters_and_an_end() -> None:
    assert printable("a\r\nb\x1b[31m\x00  c\u202e") == "a b [31m c"
    assert len(printable("x" * 5000)) == limits.MAX_TEXT


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("bad\n  thing"), "damaged: bad thing"),
        (KeyError(), "damaged: KeyError"),
        (RecursionError(), "damaged: its sequences nest too deeply"),
        (MemoryError(), "damaged: it asks for more memory than there is"),
        (struct.error("unpack requires"), "damaged: it ends in the middle of a value"),
        (OSError("x" * 500), "damaged: " + "x" * 120),
        (NotImplementedError("later"), "damaged: later"),
    ],
)
def test_what_damage_raises_becomes_one_sentence(error: Exception, why: str) -> None:
    with pytest.raises(InputError) as caught, refusing_damage(Path("a.dcm")):
        raise error
    assert (caught.value.where, caught.value.why) == ("a.dcm", why)


def test_a_code_is_short_and_clean() -> None:
    assert code(holding("Modality", b"MR\nGHTWEIGHT\0CHAMPION"), "Modality") == "MR GHTWEIGHT CHA"


def test_our_own_errors_pass() -> None:
    with pytest.raises(InputError, match="as it was"), refusing_damage(Path("a.dcm")):
        raise InputError("b", "as it was")
