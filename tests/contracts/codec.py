"""What every codec keeps: the tests each one inherits, by subclassing a contract with its codec."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.codecs.base import Block, Promise
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shared.codecs.base import Codec
    from shared.geometry import Triple

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "codecs"
GOLDEN_SAMPLES_DIGEST = "f3b0d0709165850e7f651e753f0065a89b6d5f57cbbb12efe614e17cab88877b"
UINT8, UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
SHAPES: tuple[Triple, ...] = (
    (1, 1, 1),
    (1, 1, 37),
    (3, 29, 1),
    (2, 2, 2),
    (7, 3, 5),
    (2, 16, 16),
    (2, 31, 33),
    (1, 203, 517),
)
quickly = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25,
    # A contract is inherited: its properties run under several classes on purpose.
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


def noise(shape: Triple, bits: int, dtype: np.dtype[Any] = UINT16, seed: int = 1) -> NDArray[Any]:
    """Samples in all of ``bits``: nothing to compress."""
    samples: NDArray[Any] = np.random.default_rng(seed).integers(0, 1 << bits, shape, np.uint32)
    return samples.astype(dtype)


def smooth(shape: Triple, bits: int, dtype: np.dtype[Any] = UINT16) -> NDArray[Any]:
    """A sloping block with a little texture, by whole numbers only: the same on every machine."""
    z, y, x = np.indices(shape)
    slope: NDArray[Any] = (z * 11 + y * y // 3 + x * 7 + (x * y) % 5) % (1 << bits)
    return slope.astype(dtype)


@cache
def real_scans() -> dict[str, Block]:
    """Real scans that come with nibabel and pydicom, as samples."""
    file = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    mr = np.asanyarray(nibabel.Nifti1Image.from_filename(file).dataobj)[..., 0].transpose(2, 1, 0)
    path = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(path, str)
    ct = pydicom.dcmread(path).pixel_array[None]
    return {name: _as_block(voxels) for name, voxels in (("mr", mr), ("ct", ct))}


def _as_block(voxels: NDArray[Any]) -> Block:
    raised = np.ascontiguousarray(voxels.astype(np.int64) - int(voxels.min())).astype(np.uint16)
    return Block(raised, int(raised.max()).bit_length())


def digest(samples: NDArray[Any]) -> str:
    """SHA-256 of samples in C order, little-endian."""
    return sha256(samples.astype(samples.dtype.newbyteorder("<")).tobytes()).hexdigest()


class CodecContract:
    """Any codec."""

    codec: ClassVar[Codec]
    max_bits: ClassVar[int] = 16
    golden_digest: ClassVar[str] = GOLDEN_SAMPLES_DIGEST
    """Of what tests/golden/codecs/NAME.bin decodes to; lossy codecs have their own."""

    def encode(self, samples: NDArray[Any], bits: int) -> bytes:
        return self.codec.encode(Block(samples, bits), {})

    def decode(self, payload: bytes, like: NDArray[Any]) -> NDArray[Any]:
        return self.codec.decode(payload, like.shape, like.dtype, {})

    def survives(self, payload: bytes, like: NDArray[Any]) -> None:
        """A damaged payload decodes to the declared shape, or is a CodecError: nothing else."""
        try:
            decoded = self.decode(payload, like)
        except CodecError:
            return
        assert (decoded.shape, decoded.dtype) == (like.shape, like.dtype)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("make", [noise, smooth], ids=["noise", "smooth"])
    def test_decodes_to_a_new_writable_array_of_the_shape(
        self, shape: Triple, make: Callable[..., NDArray[Any]]
    ) -> None:
        samples = make(shape, 12)
        kept = samples.copy()
        payload = self.encode(samples, 12)
        first, second = self.decode(payload, samples), self.decode(payload, samples)
        assert first.shape == shape
        assert first.dtype == UINT16
        assert first.flags.c_contiguous
        assert first.flags.owndata
        assert first.flags.writeable
        assert not np.shares_memory(first, second)
        assert np.array_equal(first, second)
        assert np.array_equal(samples, kept)

    def test_takes_only_what_it_says(self) -> None:
        assert self.codec.takes(UINT16)
        for dtype in (np.dtype(object), np.dtype("U3"), np.dtype(np.complex128)):
            assert not self.codec.takes(dtype)
            with pytest.raises(CodecError):
                self.codec.encode(Block(np.zeros((1, 4, 4), dtype), 8), {})
            with pytest.raises(CodecError):
                self.codec.decode(self.encode(smooth((1, 4, 4), 8), 8), (1, 4, 4), dtype, {})

    def test_stated_defaults_are_the_defaults(self) -> None:
        samples = smooth((2, 20, 24), 10)
        stated = self.codec.encode(Block(samples, 10), dict(self.codec.defaults))
        assert stated == self.encode(samples, 10)

    @pytest.mark.parametrize("value", [-1, 10**9, True, 2.0, "2", None])
    def test_refuses_settings_out_of_range_at_both_ends(self, value: int) -> None:
        samples = smooth((1, 20, 20), 8)
        payload = self.encode(samples, 8)
        for name in (*self.codec.defaults, "no such setting"):
            with pytest.raises(CodecError):
                self.codec.encode(Block(samples, 8), {name: value})
            with pytest.raises(CodecError):
                self.codec.decode(payload, samples.shape, samples.dtype, {name: value})

    @pytest.mark.parametrize(
        "shape", [(2, 40, 48), (4, 40, 48), (3, 40, 60), (3, 56, 48), (3, 1, 1)], ids=str
    )
    def test_refuses_another_shape_than_was_encoded(self, shape: Triple) -> None:
        payload = self.encode(noise((3, 40, 48), 12), 12)
        with pytest.raises(CodecError):
            self.decode(payload, np.empty(shape, UINT16))

    def test_refuses_another_type_than_was_encoded(self) -> None:
        payload = self.encode(noise((2, 20, 20), 12), 12)
        with pytest.raises(CodecError):
            self.decode(payload, np.empty((2, 20, 20), UINT8))

    def test_survives_any_truncation(self) -> None:
        samples = smooth((2, 18, 21), 11)
        payload = self.encode(samples, 11)
        for length in range(len(payload)):
            self.survives(payload[:length], samples)

    def test_survives_mutations(self, capfd: pytest.CaptureFixture[str]) -> None:
        rng = np.random.default_rng(7)
        for samples in (smooth((3, 24, 20), 12), noise((1, 17, 64), 9), smooth((2, 1, 3), 3)):
            payload = self.encode(samples, 12)
            for _ in range(250):
                mutant = bytearray(payload)
                for at in rng.integers(0, len(mutant), rng.integers(1, 5)):
                    mutant[at] = rng.choice((0, 0x7F, 0x80, 0xFF, int(rng.integers(256))))
                self.survives(bytes(mutant), samples)
        assert capfd.readouterr() == ("", "")  # C libraries say nothing of their own

    @given(junk=st.binary(max_size=200))
    @quickly
    def test_survives_junk(self, junk: bytes) -> None:
        self.survives(junk, np.empty((1, 5, 7), UINT16))

    def test_serves_several_threads_at_once(self) -> None:
        blocks = [smooth((4, 60, 70), 12) + np.uint16(shift) for shift in range(4)]
        payloads = [self.encode(samples, 13 if self.max_bits > 12 else 12) for samples in blocks]

        def again(samples: NDArray[Any]) -> bytes:
            return self.encode(samples, 13 if self.max_bits > 12 else 12)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(again, blocks)) == payloads
            for decoded, samples, payload in zip(
                pool.map(self.decode, payloads, blocks), blocks, payloads, strict=True
            ):
                assert np.array_equal(decoded, self.decode(payload, samples))

    def test_golden_payload_still_decodes_to_its_digest(self) -> None:
        samples = smooth((5, 37, 45), 12)
        file = GOLDEN / f"{self.codec.name}.bin"
        if os.environ.get("GENERATE") == "1":
            file.write_bytes(self.encode(samples, 12))
        assert digest(self.decode(file.read_bytes(), samples)) == self.golden_digest


class ExactCodecContract(CodecContract):
    """A codec that promises every sample."""

    def same(self, samples: NDArray[Any], bits: int) -> None:
        assert np.array_equal(self.decode(self.encode(samples, bits), samples), samples)

    def test_promises_exactness(self) -> None:
        assert self.codec.promise is Promise.EXACT

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_brings_every_shape_back(self, shape: Triple) -> None:
        self.same(np.zeros(shape, UINT16), 1)
        self.same(np.full(shape, 255, UINT8), 8)
        self.same(noise(shape, 16), 16)
        self.same(noise(shape, 8, UINT8), 8)
        self.same(smooth(shape, 11), 11)

    @pytest.mark.parametrize("bits", range(1, 17))
    def test_brings_every_depth_back(self, bits: int) -> None:
        for dtype in (UINT8, UINT16):
            if bits <= 8 * dtype.itemsize:
                top = (1 << bits) - 1
                self.same(noise((2, 33, 20), bits, dtype), bits)
                self.same(noise((1, 130, 210), 1, dtype) * dtype.type(top), bits)
                self.same(smooth((2, 9, 70), bits, dtype), bits)

    @pytest.mark.parametrize("name", ["mr", "ct"])
    def test_brings_real_scans_back_smaller(self, name: str) -> None:
        block = real_scans()[name]
        payload = self.codec.encode(block, {})
        assert len(payload) < 0.7 * block.samples.nbytes
        assert np.array_equal(self.decode(payload, block.samples), block.samples)

    @given(
        samples=st.one_of(
            hnp.arrays(UINT8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=11)),
            hnp.arrays(UINT16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=11)),
        )
    )
    @quickly
    def test_brings_anything_back(self, samples: NDArray[Any]) -> None:
        self.same(samples, 8 * samples.itemsize)
        self.same(samples >> 3, 8 * samples.itemsize - 3)


class SliceCodecContract(ExactCodecContract):
    """An exact codec for images, slice by slice."""

    def test_codes_uint8_and_uint16_only(self) -> None:
        for name in ("int8", "int16", "uint32", "float32", ">u2"):
            assert not self.codec.takes(np.dtype(name))

    def test_refuses_samples_above_their_bits(self) -> None:
        samples = smooth((1, 9, 9), 8)
        samples[0, 4, 4] = 1 << 10
        for bits in (10, 0, 17):
            with pytest.raises(CodecError):
                self.encode(samples, bits)

    def test_a_flat_slice_takes_a_few_bytes(self) -> None:
        assert len(self.encode(np.full((50, 300, 200), 40_000, UINT16), 16)) <= 1 + 50 * 4
