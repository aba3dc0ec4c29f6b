"""The exact coder of our own: it brings everything back, in the same bytes with any threads."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage  # type: ignore[import-untyped]

from shared.codecs.base import Block
from shared.codecs.causal.bricks import Effort, Known, decode_brick, encode_brick
from shared.codecs.causal.rungs import Rung
from shared.codecs.causal3d import CAUSAL_3D, LADDERS, largest_error
from shared.codecs.given import Given
from shared.codecs.registry import codec_named
from shared.errors import CodecError
from tests.contracts.codec import (
    GOLDEN,
    UINT8,
    UINT16,
    ExactCodecContract,
    noise,
    quickly,
    real_scans,
)

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

    def test_labels_carry_no_weights(self) -> None:
        labels = np.zeros((9, 60, 60), UINT8)
        labels[2:6, 20:40, 25:30] = 1
        labels[3:5, 25:35, 26:28] = 2
        assert len(self.encode(labels, 2)) < 150
        self.same(labels, 2)

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


def ramp(shape: tuple[int, int, int], bits: int = 11) -> NDArray[Any]:
    """Slopes with noise, and air around: what a scan is like."""
    z, y, x = np.indices(shape)
    samples = (z * 9 + y * 5 + x * 3) % 600 + noise(shape, 4).astype(np.int64)
    samples[:, : shape[1] // 4] = 0
    found: NDArray[Any] = (samples % (1 << bits)).astype(UINT16)
    return found


LEVELS = [1, 2, 3]
LADDER_RUNGS = [
    pytest.param(ladder, level, id=f"{'-'.join(map(str, LADDERS[ladder]))}-level{level}")
    for ladder in range(1, len(LADDERS))
    for level in LEVELS
]


def climb(samples: NDArray[Any], ladder: int, level: int, given: Given) -> list[bytes]:
    """The encodings of every rung, each decoded and found within its bound."""
    payloads = []
    for rung, step in enumerate(LADDERS[ladder], 1):
        settings = {"ladder": ladder, "rung": rung, "level": level}
        payload = CAUSAL_3D.encode_given(Block(samples, 16), settings, given)
        found = CAUSAL_3D.decode_given(payload, samples.shape, samples.dtype, {}, given)
        wrong = np.abs(found.astype(object) - samples.astype(object))
        if given.owned is not None:
            wrong = wrong[given.owned]
            assert not found[~given.owned].any()
        assert wrong.max() <= step // 2 == largest_error(settings)
        given = replace(given, coarse=found)
        payloads.append(payload)
    return payloads


@pytest.mark.parametrize(("ladder", "level"), LADDER_RUNGS)
def test_every_rung_keeps_its_bound_and_the_last_is_exact(ladder: int, level: int) -> None:
    climb(ramp((5, 24, 30)), ladder, level, Given())


@given(
    samples=st.one_of(
        hnp.arrays(UINT16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)),
        hnp.arrays(np.int32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)),
    ),
    ladder=st.integers(1, len(LADDERS) - 1),
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 9),
)
@quickly
def test_any_voxels_climb_any_ladder_under_any_mask(
    samples: NDArray[Any], ladder: int, level: int, seed: int
) -> None:
    owned = np.random.default_rng(seed).integers(0, 2, samples.shape).astype(np.bool_)
    climb(samples, ladder, level, Given())
    if owned.any():
        climb(samples, ladder, level, Given(owned))


@pytest.mark.parametrize("level", LEVELS)
def test_only_owned_voxels_are_coded(level: int) -> None:
    samples = ramp((6, 40, 50))
    owned = np.zeros(samples.shape, np.bool_)
    owned[1:5, 12:30, 9:37] = noise((4, 18, 28), 2) > 0
    other = np.where(owned, samples, noise(samples.shape, 11)).astype(UINT16)
    mine, same = (
        CAUSAL_3D.encode_given(Block(each, 11), {"level": level}, Given(owned))
        for each in (samples, other)
    )
    assert mine == same
    found = CAUSAL_3D.decode_given(mine, samples.shape, UINT16, {}, Given(owned))
    assert np.array_equal(found, np.where(owned, samples, 0))
    with pytest.raises(CodecError, match="mask that is not given"):
        CAUSAL_3D.decode(mine, samples.shape, UINT16, {})


def test_who_owns_nothing_is_sent_nothing() -> None:
    given = Given(np.zeros((2, 9, 9), np.bool_))
    samples = noise((2, 9, 9), 12)
    payload = CAUSAL_3D.encode_given(Block(samples, 12), {}, given)
    assert len(payload) < 32
    assert not CAUSAL_3D.decode_given(payload, (2, 9, 9), UINT16, {}, given).any()


@pytest.mark.parametrize("level", LEVELS)
def test_a_preview_is_looked_at_and_pays(level: int) -> None:
    samples = (ramp((8, 48, 50)) + noise((8, 48, 50), 8)).astype(UINT16)
    preview = (samples // 4 * 4 + 1).astype(UINT16)
    seen = np.ones(samples.shape, np.bool_)
    seen[:, :3] = False
    owned = seen.copy()
    given = Given(owned, preview=preview, seen=seen)
    block, settings = Block(samples, 16), {"level": level}
    with_it = CAUSAL_3D.encode_given(block, settings, given)
    without = CAUSAL_3D.encode_given(block, settings, Given(owned))
    assert len(with_it) < 0.8 * len(without)
    found = CAUSAL_3D.decode_given(with_it, samples.shape, UINT16, {}, given)
    assert np.array_equal(found[owned], samples[owned])
    for wrong in (preview + UINT16.type(1), None):
        with pytest.raises(CodecError, match=r"another context|not given"):
            CAUSAL_3D.decode_given(
                with_it, samples.shape, UINT16, {}, replace(given, preview=wrong)
            )


def test_a_rung_tells_that_the_one_above_it_is_another() -> None:
    samples = ramp((3, 20, 20))
    coarse = Given(coarse=(samples // 17 * 17 + 8).astype(UINT16))
    payload = CAUSAL_3D.encode_given(Block(samples, 11), {"ladder": 1, "rung": 2}, coarse)
    other = Given(coarse=np.zeros_like(samples))
    for given_, sentence in ((other, "another context"), (Given(), "without the one above")):
        with pytest.raises(CodecError, match=sentence):
            CAUSAL_3D.decode_given(payload, samples.shape, UINT16, {}, given_)


def test_background_that_a_rung_has_shown_costs_nothing_below_it() -> None:
    z, y, x = np.indices((8, 64, 64))
    tissue = noise(z.shape, 2) > 0
    samples = np.where(tissue, 40 + z + y + x, 0).astype(UINT16)
    first, second, third = climb(samples, 1, 2, Given())
    assert len(first) > 3_000  # three in four are tissue: 0.8 bits each, to say which
    assert len(second) < len(first) // 4
    assert len(third) < len(first) // 4


def test_a_rung_takes_the_smaller_of_what_is_near_and_what_is_wide() -> None:

    is_wide = 64
    kinds = set()
    for seed, smooth in ((1, 0.0), (2, 0.8)):
        noisy = np.random.default_rng(seed).normal(300, 120, (12, 48, 48))
        samples = ndimage.gaussian_filter(noisy, smooth) if smooth else noisy
        samples = np.clip((samples - samples.min()) * 400 / np.ptp(samples), 0, 400).astype(UINT16)
        coarse = samples.astype(np.int32) // 5 * 5 + 2
        known = Known(samples.shape, 9, Rung((5, 1), coarse))
        kinds.add(encode_brick(samples, known, Effort.DEFAULT)[0] & is_wide)
    assert kinds == {0, is_wide}


@pytest.mark.parametrize("bit", [32, 64])
def test_refuses_a_brick_that_needs_a_rung_above_where_there_is_none(bit: int) -> None:

    samples = ramp((3, 20, 20))
    known = Known(samples.shape, 11, Rung((1,)))
    stream = bytearray(encode_brick(samples, known, Effort.DEFAULT))
    stream[0] |= bit
    with pytest.raises(CodecError, match="needs a rung above"):
        decode_brick(bytes(stream), known)


def test_refuses_a_rung_that_a_ladder_has_not() -> None:
    with pytest.raises(CodecError, match="no rung 3"):
        CAUSAL_3D.encode(Block(ramp((2, 9, 9)), 11), {"ladder": 4, "rung": 3})


@pytest.mark.parametrize(("ladder", "level"), LADDER_RUNGS)
def test_corrupted_rungs_are_told_or_decode_within_the_shape(ladder: int, level: int) -> None:
    samples = ramp((4, 20, 24))
    owned = noise(samples.shape, 2) > 0
    rng = np.random.default_rng(ladder)
    given = Given(owned)
    for rung, payload in enumerate(climb(samples, ladder, level, given), 1):
        for _ in range(60):
            mutant = bytearray(payload)
            for at in rng.integers(0, len(mutant), rng.integers(1, 4)):
                mutant[at] = int(rng.integers(256))
            _survive(bytes(mutant), samples, given)
        for length in range(0, len(payload), 7):
            _survive(payload[:length], samples, given)
        settings = {"ladder": ladder, "rung": rung, "level": level}
        whole = CAUSAL_3D.encode_given(Block(samples, 16), settings, given)
        given = replace(
            given, coarse=CAUSAL_3D.decode_given(whole, samples.shape, UINT16, {}, given)
        )


def _survive(payload: bytes, like: NDArray[Any], given: Given) -> None:
    try:
        found = CAUSAL_3D.decode_given(payload, like.shape, UINT16, {}, given)
    except CodecError:
        return
    assert found.shape == like.shape


@pytest.mark.parametrize("level", LEVELS)
def test_golden_bytes_of_every_level_and_rung(level: int) -> None:
    samples = ramp((3, 33, 37))
    for rung, payload in enumerate(climb(samples, 1, level, Given()), 1):
        file = GOLDEN / f"causal3d_level{level}_rung{rung}.bin"
        if os.environ.get("GENERATE") == "1":
            file.write_bytes(payload)
        assert file.read_bytes() == payload
