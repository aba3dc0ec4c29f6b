from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import volume as volume_module
from shared.header import Frames, SeriesHeader, Source
from shared.volume import Volume, region_digest, volume_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (3, 4, 5)
VOXELS: NDArray[Any] = np.arange(60, dtype="<i2").reshape(SHAPE) - 30
FRAMES = Frames(
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.5, 0.75),
    ((0.0, 0.0, 0.0), (0.0, 0.0, 2.0), (0.0, 0.0, 4.0)),
    ((1.0, 0.0), (2.0, 0.5), (1.5, -3.0)),
)
HEADER = SeriesHeader(
    label="CT",
    modality="CT",
    shape=SHAPE,
    dtype="<i2",
    affine=tuple(float(value) for value in range(16)),
    affine_known=True,
    slope=1.0,
    intercept=-1024.0,
    file_header=bytes(348),
    voxel_offset=352,
    frames=FRAMES,
)


def test_a_volume_digest_is_sha256_over_what_its_description_says() -> None:
    state = hashlib.sha256(b"medroi-volume-1" + b"i2")
    state.update(struct.pack("<III", *SHAPE) + b"\x01")
    state.update(struct.pack("<16d", *HEADER.affine) + struct.pack("<2d", 1.0, -1024.0))
    for pair in FRAMES.rescale:
        state.update(struct.pack("<2d", *pair))
    state.update(VOXELS.astype("<i2").tobytes())
    assert volume_digest(HEADER, VOXELS) == state.digest()


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "u8", "f4", "f8"])
def test_byte_order_does_not_matter(dtype: str) -> None:
    big, little = VOXELS.astype(f">{dtype}"), VOXELS.astype(f"<{dtype}")
    headers = replace(HEADER, dtype=f">{dtype}"), replace(HEADER, dtype=f"<{dtype}")
    assert volume_digest(headers[0], big) == volume_digest(headers[1], little)
    owned = VOXELS % 3 == 0
    assert region_digest(big, owned) == region_digest(little, owned)
    assert region_digest(big, None) == region_digest(little, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "<u2"},
        {"shape": (3, 5, 4)},
        {"affine": (*HEADER.affine[:15], 15.5)},
        {"affine_known": False},
        {"slope": 2.0},
        {"intercept": 0.0},
        {"frames": None},
        {"frames": replace(FRAMES, rescale=((1.0, 0.0),))},
        {"frames": replace(FRAMES, rescale=(*FRAMES.rescale[:2], (1.5, -3.5)))},
    ],
)
def test_what_changes_the_meaning_of_voxels_changes_the_digest(changed: dict[str, Any]) -> None:
    assert volume_digest(replace(HEADER, **changed), VOXELS) != volume_digest(HEADER, VOXELS)


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "another"},
        {"modality": "MR"},
        {"file_header": bytes(540)},
        {"voxel_offset": 400},
        {"remarks": ("a gap",)},
        {"identity": (("PatientID", "1"),)},
        {"source": Source.DICOM},
    ],
)
def test_what_does_not_change_their_meaning_does_not(changed: dict[str, Any]) -> None:
    assert volume_digest(replace(HEADER, **changed), VOXELS) == volume_digest(HEADER, VOXELS)


@settings(deadline=None, derandomize=True)
@given(at=st.integers(0, VOXELS.size - 1), bit=st.integers(0, 15))
def test_one_bit_of_one_voxel_changes_every_digest_that_it_belongs_to(at: int, bit: int) -> None:
    other = VOXELS.copy()
    other.view("<u2").reshape(-1)[at] ^= 1 << bit
    mine = np.zeros(SHAPE, np.bool_)
    mine.reshape(-1)[at] = True
    assert volume_digest(HEADER, other) != volume_digest(HEADER, VOXELS)
    assert region_digest(other, None) != region_digest(VOXELS, None)
    assert region_digest(other, mine) != region_digest(VOXELS, mine)
    assert region_digest(other, ~mine) == region_digest(VOXELS, ~mine)


def test_nans_and_zeros_count_with_their_bits() -> None:
    bits = np.array([[[0x7FC00000, 0x7F800001, 0]]], "<u4")
    others = [np.array([[[0x7FC00001, 0x7F800001, 0]]], "<u4"), bits | np.uint32(0)]
    others[1][0, 0, 2] = 0x80000000
    digest = region_digest(bits.view("<f4"), None)
    assert digest == hashlib.sha256(bits.tobytes()).digest()
    for other in others:
        assert region_digest(other.view("<f4"), None) != digest


def test_owned_voxels_are_hashed_in_c_order() -> None:
    owned = np.zeros(SHAPE, np.bool_)
    owned[1, :, 2:4] = True
    by_hand = VOXELS[1, :, 2:4].tobytes()
    assert region_digest(VOXELS, owned) == hashlib.sha256(by_hand).digest()
    everything = np.ones(SHAPE, np.bool_)
    assert region_digest(VOXELS, everything) == region_digest(VOXELS, None)


@pytest.mark.parametrize("dtype", ["|u1", ">i2", "<f8"])
@pytest.mark.parametrize("step_bytes", [1, 7, 64, 119, 1 << 22])
def test_a_digest_does_not_depend_on_the_steps_it_is_taken_in(
    monkeypatch: pytest.MonkeyPatch, dtype: str, step_bytes: int
) -> None:
    voxels = np.arange(60).astype(dtype).reshape(SHAPE)
    expected = hashlib.sha256(voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()).digest()
    monkeypatch.setattr(volume_module, "_HASH_STEP_BYTES", step_bytes)
    assert region_digest(voxels, None) == expected


def test_a_volume_without_anything_beside_its_voxels_has_an_empty_attachment() -> None:
    assert Volume(HEADER, VOXELS).attachment() == b""
