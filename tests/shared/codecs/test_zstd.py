from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.codecs.base import Block
from shared.codecs.zstd import ZSTD
from shared.errors import CodecError
from tests.contracts.codec import UINT8, ExactCodecContract, quickly, real_scans

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TestZstd(ExactCodecContract):
    codec = ZSTD


@given(
    samples=st.sampled_from(("i1", "<i2", ">u4", "<i8", "<f2", "<f4", ">f8")).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3, max_side=8))
    )
)
@quickly
def test_brings_every_bit_of_any_type_back(samples: NDArray[Any]) -> None:
    payload = ZSTD.encode(Block(samples, 0), {})
    decoded = ZSTD.decode(payload, samples.shape, samples.dtype, {})
    assert decoded.dtype == samples.dtype
    assert decoded.tobytes() == samples.tobytes()  # NaNs with their payloads, -0.0


def test_layout_by_planes_is_taken_where_it_is_smaller() -> None:
    curve = np.sqrt(np.arange(5000, dtype=np.float32)).reshape(5, 20, 50)
    for samples, layout in ((curve, 1), (np.arange(99, dtype=np.uint8).reshape(1, 9, 11), 0)):
        assert ZSTD.encode(Block(samples, 0), {})[0] == layout


def test_a_higher_level_is_smaller() -> None:
    block = real_scans()["mr"]
    assert len(ZSTD.encode(block, {"level": 19})) < len(ZSTD.encode(block, {"level": 1}))


@pytest.mark.parametrize("layout", [0, 1])
def test_a_bomb_is_an_error(layout: int) -> None:
    bomb = bytes([layout]) + imagecodecs.zstd_encode(bytes(1 << 28))
    assert len(bomb) < 30_000
    with pytest.raises(CodecError):
        ZSTD.decode(bomb, (1, 10, 10), UINT8, {})


@pytest.mark.parametrize("size", [99, 101, 0])
def test_a_byte_more_or_less_is_an_error(size: int) -> None:
    payload = b"\0" + imagecodecs.zstd_encode(bytes(size))
    with pytest.raises(CodecError):
        ZSTD.decode(payload, (1, 10, 10), UINT8, {})


@pytest.mark.parametrize("payload", [b"", b"\0", b"\2(\xb5/\xfd"])
def test_a_payload_without_layout_or_frame_is_an_error(payload: bytes) -> None:
    with pytest.raises(CodecError):
        ZSTD.decode(payload, (1, 10, 10), UINT8, {})
