"""The exact coder of our own: it brings everything back, in the same bytes with any threads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.codecs.base import Block
from shared.codecs.causal3d import CAUSAL_3D
from shared.codecs.registry import codec_named
from shared.errors import CodecError
from tests.contracts.codec import UINT8, UINT16, ExactCodecContract, noise, quickly, real_scans

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TestCausal3D(ExactCodecContract):
    codec = CAUSAL_3D

    @given(
        samples=hnp.arrays(
            st.sampled_from(["i1", "i2", "i4", "u4", "i8", "u8"]),
            hnp.array_shapes(min_dims=3, max_dims=3, max_side=7),
        )
    )
    @quickly
    def test_brings_back_signed_and_wide_numbers(self, samples: NDArray[Any]) -> None:
        decoded = self.decode(self.encode(samples, 64), samples)
        assert decoded.dtype == samples.dtype
        assert np.array_equal(decoded, samples)

    @given(
        owned=hnp.arrays(np.bool_, (3, 17, 19)),
        value=st.sampled_from([0, 7, 4095]),
    )
    @quickly
    def test_brings_masked_blocks_back(self, owned: NDArray[np.bool_], value: int) -> None:
        self.same(np.where(owned, noise(owned.shape, 6), value).astype(UINT16), 12)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
    def test_codes_any_array_layout_to_the_same_bytes(self, order: tuple[int, int, int]) -> None:
        samples = noise((5, 30, 20), 5)
        back = tuple(int(axis) for axis in np.argsort(order))
        other = np.ascontiguousarray(samples.transpose(order)).transpose(back)
        assert self.encode(other, 5) == self.encode(samples, 5)

    def test_one_and_two_threads_write_and_read_the_same(self) -> None:
        z, y, x = np.indices((9, 500, 600))
        waves = 900 + 300 * np.sin(x / 31 + z) + 200 * np.cos(y / 17)
        samples = (waves + noise((9, 500, 600), 4)).astype(np.uint16)
        alone, together = (
            CAUSAL_3D.encode(Block(samples, 11), {"threads": threads}) for threads in (1, 2)
        )
        assert alone == together
        for threads in (1, 2):
            decoded = CAUSAL_3D.decode(alone, samples.shape, UINT16, {"threads": threads})
            assert np.array_equal(decoded, samples)

    @pytest.mark.parametrize("bits", [1, 7, 8, 12, 16])
    def test_noise_never_grows_by_more_than_a_thousandth_and_32_bytes(self, bits: int) -> None:
        for shape in ((1, 1, 1), (1, 5, 3), (40, 50, 60)):
            samples = noise(shape, bits, UINT16)
            raw = samples.size * bits / 8
            assert len(self.encode(samples, bits)) <= 1.001 * raw + 32

    def test_a_constant_block_takes_a_few_bytes(self) -> None:
        assert len(self.encode(np.full((50, 300, 200), 40_000, UINT16), 16)) < 32

    def test_tells_a_damaged_brick(self) -> None:
        block = real_scans()["mr"]
        payload = bytearray(self.codec.encode(block, {}))
        for at in range(len(payload) // 3, len(payload) - 2, len(payload) // 9):
            mutant = payload.copy()
            mutant[at] ^= 0x10
            with pytest.raises(CodecError):
                self.decode(bytes(mutant), block.samples)

    def test_refuses_another_version(self) -> None:
        payload = self.encode(noise((1, 4, 4), 8), 8)
        with pytest.raises(CodecError, match="version 9"):
            self.decode(b"\x09" + payload[1:], np.empty((1, 4, 4), UINT16))

    def test_says_so_where_it_cannot_be_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "shared.codecs.causal.model", None)
        with pytest.raises(CodecError, match="cannot be compiled here"):
            self.encode(noise((1, 4, 4), 8), 8)

    @pytest.mark.parametrize("name", ["mr", "ct"])
    def test_real_scans_take_fewer_bytes_than_in_jpeg_xl(self, name: str) -> None:
        block = real_scans()[name]
        standard = codec_named("jpegxl").encode(block, {"effort": 7})
        assert len(self.codec.encode(block, {})) < 0.97 * len(standard)

    def test_the_width_of_a_sample_changes_no_byte(self) -> None:
        samples = noise((4, 33, 41), 3, UINT8)
        assert self.encode(samples, 8) == self.encode(samples.astype(UINT16), 8)
