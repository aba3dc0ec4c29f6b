from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared.codecs.base import Block, Promise
from shared.codecs.hevc import HEVC, PRESETS
from shared.codecs.parts import pack_parts, split_parts
from shared.errors import CodecError
from tests.contracts.codec import UINT8, UINT16, CodecContract, noise, real_scans, smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Triple


class TestHevc(CodecContract):
    codec = HEVC
    max_bits = 12
    golden_digest = "d57fbc6d014d38a26d74ca6b441d3396f358249240e2892046949bc13a927505"


def scan() -> NDArray[Any]:
    """A real scan in all 12 bits."""
    samples = real_scans()["mr"].samples
    filled: NDArray[Any] = np.rint(samples * (4095 / samples.max())).astype(np.uint16)
    return filled


def code(samples: NDArray[Any], **settings: int) -> tuple[int, NDArray[Any]]:
    payload = HEVC.encode(Block(samples, 12), settings)
    return len(payload), HEVC.decode(payload, samples.shape, UINT16, settings)


def psnr(samples: NDArray[Any], decoded: NDArray[Any]) -> float:
    error = np.mean((samples.astype(float) - decoded) ** 2)
    return float(10 * np.log10(4095**2 / error)) if error else float("inf")


def packets_of(samples: NDArray[Any]) -> list[bytes | int]:
    return split_parts(HEVC.encode(Block(samples, 12), {}), len(samples))


def test_is_lossy_and_takes_12_bits_of_uint16_only() -> None:
    assert HEVC.promise is Promise.LOSSY
    assert not HEVC.takes(UINT8)
    for samples, bits in ((smooth((1, 20, 20), 8, UINT8), 8), (smooth((1, 20, 20), 12), 13)):
        with pytest.raises(CodecError):
            HEVC.encode(Block(samples, bits), {})
    with pytest.raises(CodecError):
        HEVC.encode(Block(smooth((1, 90, 90), 12), 11), {})


def test_a_lower_crf_is_closer_and_larger() -> None:
    samples = scan()
    results = [code(samples, crf=crf) for crf in (42, 33, 24, 15, 5)]
    sizes = [size for size, _ in results]
    qualities = [psnr(samples, decoded) for _, decoded in results]
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert qualities[0] < 35 < 50 < qualities[-1]
    assert sizes[1] < samples.nbytes / 40


def test_slices_are_predicted_from_each_other() -> None:
    one = scan()[10:11]
    size, _ = code(np.repeat(one, 12, axis=0))
    assert size < 3 * code(one)[0]


@pytest.mark.parametrize("preset", range(len(PRESETS)))
def test_every_preset_codes_small_and_narrow_frames(preset: int) -> None:
    for shape in ((1, 1, 1), (3, 9, 40), (6, 30, 24)):
        samples = smooth(shape, 12)
        _, decoded = code(samples, preset=preset, crf=4)
        assert psnr(samples, decoded) > 25


@pytest.mark.parametrize("shape", [(2, 1, 9000), (2, 9000, 1), (40, 5, 3)], ids=str)
def test_long_and_thin_blocks_are_coded(shape: Triple) -> None:
    samples = smooth(shape, 12) // 4 + 1000
    assert psnr(samples, code(samples, crf=10)[1]) > 40


def test_edges_are_as_good_as_the_rest() -> None:
    samples = scan()[4:12, :45, 30:79]  # neither side a multiple of 8
    _, decoded = code(samples, crf=20)
    assert psnr(samples[:, -3:, -3:], decoded[:, -3:, -3:]) > psnr(samples, decoded) - 6


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_threads_change_at_most_the_bytes(threads: int) -> None:
    samples = scan()
    _, decoded = code(samples, threads=threads)
    assert psnr(samples, decoded) > psnr(samples, code(samples)[1]) - 1


@pytest.mark.parametrize("shape", [(3, 64, 96), (3, 48, 64), (3, 72, 64)], ids=str)
def test_frames_of_another_size_are_refused(shape: Triple) -> None:
    packets = packets_of(smooth((3, 64, 64), 12))
    with pytest.raises(CodecError):
        HEVC.decode(pack_parts(packets), shape, UINT16, {})


def test_a_missing_surplus_or_misplaced_frame_is_refused() -> None:
    a, b, c = (part for part in packets_of(smooth((3, 64, 64), 12)) if isinstance(part, bytes))
    no_picture = b"\0\0\0\1\x50\1\x80"  # a supplemental message alone
    cases: list[list[bytes | int]] = [
        [a, b, no_picture],
        [no_picture, no_picture, no_picture],
        [a, b, 7],
        [a + b, c],
        [a, b, c, c],
        [b, a, c],
    ]
    for parts in cases:
        with pytest.raises(CodecError):
            HEVC.decode(pack_parts(parts), (len(parts), 64, 64), UINT16, {})


def test_noise_decodes_to_12_bits() -> None:
    assert code(noise((3, 50, 50), 12), crf=0)[1].max() <= 4095
