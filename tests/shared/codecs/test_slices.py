from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared.codecs.base import Block
from shared.codecs.parts import pack_parts
from shared.codecs.slices import SliceCodec
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def _encode(plane: NDArray[Any], bits: int, settings: Mapping[str, int]) -> bytes:
    if plane[0, 0] == 13:
        raise ValueError("thirteen")
    return plane.tobytes()


def _decode(stream: bytes, plane: NDArray[Any]) -> None:
    plane[...] = np.frombuffer(stream, plane.dtype).reshape(plane.shape)


RAW = SliceCodec("raw", {}, _encode, _decode)
UINT8 = np.dtype(np.uint8)


def test_flat_slices_are_their_value() -> None:
    samples = np.array([[[5, 5]], [[1, 2]], [[0, 0]]], np.uint8)
    payload = RAW.encode(Block(samples, 8), {})
    assert payload == pack_parts([5, b"\x01\x02", 0])
    assert np.array_equal(RAW.decode(payload, (3, 1, 2), UINT8, {}), samples)


def test_a_flat_value_must_be_a_sample() -> None:
    assert RAW.decode(pack_parts([255]), (1, 2, 2), UINT8, {}).min() == 255
    with pytest.raises(CodecError, match="256 is not a uint8 sample"):
        RAW.decode(pack_parts([256]), (1, 2, 2), UINT8, {})


def test_a_library_s_error_names_codec_and_slice() -> None:
    with pytest.raises(CodecError, match="raw: slice 1: "):
        RAW.decode(pack_parts([b"\x01\x02", b"\x01"]), (2, 1, 2), UINT8, {})
    with pytest.raises(CodecError, match="raw cannot code a slice: thirteen"):
        RAW.encode(Block(np.array([[[13, 2]]], np.uint8), 8), {})


def test_the_number_of_slices_is_that_of_the_shape() -> None:
    for count in (1, 3):
        with pytest.raises(CodecError):
            RAW.decode(pack_parts([b"\x01\x02"] * 2), (count, 1, 2), UINT8, {})
