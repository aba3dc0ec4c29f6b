from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest

from shared.codecs.base import Block
from shared.codecs.jpegxl import JPEG_XL
from shared.codecs.parts import pack_parts, split_parts
from shared.errors import CodecError
from tests.contracts.codec import UINT8, UINT16, SliceCodecContract, noise, real_scans, smooth

if TYPE_CHECKING:
    from shared.geometry import Triple


class TestJpegXl(SliceCodecContract):
    codec = JPEG_XL


@pytest.mark.parametrize("effort", range(1, 10))
def test_every_effort_is_exact(effort: int) -> None:
    for samples, bits in ((smooth((1, 60, 70), 11), 11), (noise((1, 20, 33), 16), 16)):
        payload = JPEG_XL.encode(Block(samples, bits), {"effort": effort})
        assert np.array_equal(JPEG_XL.decode(payload, samples.shape, UINT16, {}), samples)


def test_more_effort_is_fewer_bytes_on_a_real_scan() -> None:
    block = real_scans()["mr"]
    sizes = [len(JPEG_XL.encode(block, {"effort": effort})) for effort in (1, 3, 5)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("bits", [8, 12, 13, 16])
def test_streams_come_without_a_container(bits: int) -> None:
    for shape in ((1, 30, 40), (1, 700, 900)):
        samples = smooth(shape, bits)
        (stream,) = split_parts(JPEG_XL.encode(Block(samples, bits), {}), 1)
        assert isinstance(stream, bytes)
        assert stream.startswith(b"\xff\x0a")


@pytest.mark.parametrize(
    "shape",
    [
        *[(1, side, 1) for side in (7, 8, 511, 512, 513, 8192, 8193)],
        *[(1, 1, side) for side in (7, 8, 511, 512, 513, 8192, 8193)],
        *[(1, 8, 8), (1, 256, 256), (1, 264, 264), (1, 50, 60), (1, 60, 80), (1, 40, 60)],
        *[(1, 90, 160), (1, 40, 50), (1, 30, 60), (1, 256, 240), (1, 255, 257)],
    ],
    ids=str,
)
def test_the_header_s_ways_to_say_a_size_are_all_understood(shape: Triple) -> None:
    samples = smooth(shape, 9)
    payload = JPEG_XL.encode(Block(samples, 9), {"effort": 1})
    assert np.array_equal(JPEG_XL.decode(payload, shape, UINT16, {}), samples)
    for other in ((1, shape[1] + 1, shape[2]), (1, shape[1], shape[2] + 1)):
        with pytest.raises(CodecError, match=r"jpegxl: \d+ x \d+, not"):
            JPEG_XL.decode(payload, other, UINT16, {})


def _others() -> dict[str, bytes | bytearray]:
    gray = noise((1, 40, 40), 8, UINT8)[0]
    film = noise((3, 40, 40), 8, UINT8)
    return {
        "colour": imagecodecs.jpegxl_encode(noise((40, 40, 3), 8, UINT8), lossless=True),
        "with alpha": imagecodecs.jpegxl_encode(noise((40, 40, 2), 8, UINT8), lossless=True),
        "film": imagecodecs.jpegxl_encode(film, lossless=True, photometric="gray"),
        "lossy": imagecodecs.jpegxl_encode(gray, distance=2.0),
        "deeper": imagecodecs.jpegxl_encode(noise((1, 40, 40), 12)[0], lossless=True),
        "floating": imagecodecs.jpegxl_encode(gray.astype(np.float32) / 255, lossless=True),
        "boxed": imagecodecs.jpegxl_encode(gray, lossless=True, usecontainer=True),
    }


@pytest.mark.parametrize("name", _others())
def test_any_image_but_one_exact_gray_one_is_refused_by_its_header(name: str) -> None:
    payload = pack_parts([bytes(_others()[name])])
    with pytest.raises(CodecError, match=r"jpegxl: (more than|not a bare|[0-9]+ bits)"):
        JPEG_XL.decode(payload, (1, 40, 40), UINT8, {})
