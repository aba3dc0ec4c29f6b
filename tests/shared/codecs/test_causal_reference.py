"""The exact coder against a slow decoder that shares nothing with it: they read the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.codecs.base import Block
from shared.codecs.causal3d import CAUSAL_3D, LADDERS
from shared.codecs.given import Given
from tests.contracts.codec import GOLDEN, UINT16, noise, quickly
from tests.shared.codecs.causal_reference import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = [1, 2]


def scan(shape: tuple[int, int, int]) -> NDArray[Any]:
    """A blob with noise, air of one value around it."""
    z, y, x = np.indices(shape)
    samples = 300 + 40 * z + 9 * y + 5 * x + noise(shape, 5).astype(np.int64)
    samples[(y < shape[1] // 4) | (x > y + shape[2] // 2)] = 0
    found: NDArray[Any] = samples.astype(UINT16)
    return found


def agree(samples: NDArray[Any], level: int, given: Given, ladder: int = 0) -> None:
    """One and two threads write the same; the codec and the reference read it alike, exactly."""
    for rung in range(1, len(LADDERS[ladder]) + 1):
        settings = {"level": level, "ladder": ladder, "rung": rung}
        payload, again = (
            CAUSAL_3D.encode_given(Block(samples, 64), {**settings, "threads": threads}, given)
            for threads in (1, 2)
        )
        assert payload == again
        shape, dtype = samples.shape, samples.dtype
        found = CAUSAL_3D.decode_given(payload, shape, dtype, {}, given)
        known = (given.owned, given.coarse, given.preview, given.seen)
        assert np.array_equal(decode(payload, shape, dtype, *known), found)
        given = replace(given, coarse=found, preview=None, seen=None)
    mine = np.ones(samples.shape, np.bool_) if given.owned is None else given.owned
    assert np.array_equal(found, np.where(mine, samples, 0))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(8, 24, 24), (1, 24, 24), (2, 24, 24)])
def test_a_scan_with_air_around(level: int, shape: tuple[int, int, int]) -> None:
    agree(scan(shape), level, Given())


@pytest.mark.parametrize("level", LEVELS)
def test_a_masked_scan(level: int) -> None:
    samples = scan((6, 24, 24))
    z, y, x = np.indices(samples.shape)
    ball = (z - 3) ** 2 * 9 + (y - 12) ** 2 + (x - 12) ** 2 < 80
    agree(samples, level, Given(np.asarray(ball, np.bool_)))


@pytest.mark.parametrize("level", LEVELS)
def test_signed_samples_of_several_limbs(level: int) -> None:
    samples = scan((3, 12, 13)).astype(np.int64) * 12345 - (1 << 20)
    agree(samples, level, Given())


@pytest.mark.parametrize("level", LEVELS)
def test_labels(level: int) -> None:
    agree((scan((4, 16, 17)) // 300 % 4).astype(np.uint8), level, Given())


@pytest.mark.parametrize("level", LEVELS)
def test_a_preview_of_part_of_the_scan(level: int) -> None:
    samples = (scan((5, 20, 24)) + noise((5, 20, 24), 8)).astype(UINT16)
    seen = np.ones(samples.shape, np.bool_)
    seen[:, :3] = False
    preview = (samples // 8 * 8 + 2).astype(UINT16)
    agree(samples, level, Given(seen.copy(), preview=preview, seen=seen))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ladder", [1, 3])
def test_rungs_of_a_ladder(level: int, ladder: int) -> None:
    agree(scan((3, 16, 20)), level, Given(), ladder)


@pytest.mark.parametrize("level", LEVELS)
def test_rungs_under_a_mask(level: int) -> None:
    samples = scan((3, 14, 15))
    agree(samples, level, Given(noise(samples.shape, 2) > 0), 1)


@given(
    samples=hnp.arrays(
        st.sampled_from(["u1", "u2", "i2", "i4", "u8"]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    ),
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 9),
)
@quickly
def test_any_voxels_under_any_mask(samples: NDArray[Any], level: int, seed: int) -> None:
    agree(samples, level, Given())
    owned = np.random.default_rng(seed).integers(0, 2, samples.shape).astype(np.bool_)
    if owned.any():
        agree(samples, level, Given(owned))


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 14), st.integers(1, 14)),
    level=st.sampled_from(LEVELS),
    ladder=st.sampled_from([0, 0, 2]),
    seed=st.integers(0, 9),
)
@quickly
def test_scans_of_any_shape(
    shape: tuple[int, int, int], level: int, ladder: int, seed: int
) -> None:
    owned = np.asarray(np.random.default_rng(seed).integers(0, 5, shape) < seed // 2, np.bool_)
    agree(scan(shape), level, Given(owned) if owned.any() else Given(), ladder)


@pytest.mark.parametrize("level", LEVELS)
def test_every_array_layout(level: int) -> None:
    samples = scan((4, 12, 14))
    back = np.ascontiguousarray(samples[::-1, :, ::-1])[::-1, :, ::-1]
    payloads = {
        CAUSAL_3D.encode(Block(each, 16), {"level": level})
        for each in (samples, np.asfortranarray(samples), back)
    }
    assert len(payloads) == 1
    assert np.array_equal(decode(payloads.pop(), samples.shape, UINT16), samples)


@pytest.mark.parametrize("level", LEVELS)
def test_golden_bytes(level: int) -> None:
    shape, coarse = (3, 33, 37), None
    for rung in range(1, len(LADDERS[1]) + 1):
        payload = (GOLDEN / f"causal3d_level{level}_rung{rung}.bin").read_bytes()
        found = CAUSAL_3D.decode_given(payload, shape, UINT16, {}, Given(coarse=coarse))
        assert np.array_equal(decode(payload, shape, UINT16, None, coarse), found)
        coarse = found
