from __future__ import annotations

import numpy as np

from shared.codecs.base import Block
from shared.codecs.jpeg2000 import JPEG_2000
from tests.contracts.codec import UINT8, SliceCodecContract, noise


class TestJpeg2000(SliceCodecContract):
    codec = JPEG_2000


def test_noise_of_one_bit_does_not_overrun_openjpeg_s_buffers() -> None:
    samples = noise((1, 200, 600), 1, UINT8)
    payload = JPEG_2000.encode(Block(samples, 1), {})
    assert np.array_equal(JPEG_2000.decode(payload, samples.shape, UINT8, {}), samples)
