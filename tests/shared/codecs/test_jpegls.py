from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.codecs.base import Block
from shared.codecs.jpegls import JPEG_LS
from shared.codecs.parts import pack_parts, split_parts
from shared.errors import CodecError
from tests.contracts.codec import GOLDEN, UINT8, UINT16, SliceCodecContract, noise, smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TestJpegLs(SliceCodecContract):
    codec = JPEG_LS


def stream_of(samples: NDArray[Any], bits: int) -> bytes:
    (stream,) = split_parts(JPEG_LS.encode(Block(samples, bits), {}), 1)
    assert isinstance(stream, bytes)
    return stream


@pytest.mark.parametrize("tail", [b"", b"\xff\xd9"], ids=["as it was found", "with an end marker"])
@pytest.mark.parametrize("spiff", [True, False])
def test_the_stream_that_keeps_charls_busy_is_refused_at_once(tail: bytes, spiff: bool) -> None:
    stream = (GOLDEN / "hostile_jpegls_endless.jls").read_bytes() + tail
    if not spiff:
        stream = stream[:2] + stream[46:]
    started_s = perf_counter()
    with pytest.raises(CodecError):
        JPEG_LS.decode(pack_parts([stream]), (1, 64, 64), UINT16, {})
    assert perf_counter() - started_s < 0.5


@pytest.mark.parametrize("bits", [9, 11, 12, 13, 16])
def test_streams_declare_the_true_depth(bits: int) -> None:
    assert stream_of(smooth((1, 40, 50), bits), bits)[6] == bits


def test_large_slices_and_noise_fall_back_to_all_16_bits() -> None:
    assert stream_of(smooth((1, 600, 600), 11), 11)[6] == 16
    assert stream_of(noise((1, 1, 9), 12), 12)[6] == 16


def test_any_other_header_is_refused() -> None:
    samples = smooth((1, 40, 50), 13)
    stream = stream_of(samples, 13)
    header_bytes = stream.index(b"\xff\xda") + 10
    for at in range(header_bytes):
        mutant = bytearray(stream)
        mutant[at] ^= 1
        with pytest.raises(CodecError, match="header"):
            JPEG_LS.decode(pack_parts([bytes(mutant)]), samples.shape, UINT16, {})
    with pytest.raises(CodecError, match="header"):
        JPEG_LS.decode(pack_parts([stream]), samples.shape, UINT8, {})
