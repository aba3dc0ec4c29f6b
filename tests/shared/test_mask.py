from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared import mask as module
from shared.errors import CodecError
from shared.geometry import Box
from shared.mask import pack_mask, unpack_mask

marks = arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3))
quickly = settings(deadline=None, derandomize=True, max_examples=150)


@quickly
@given(marks)
def test_a_mask_comes_back(marked: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]) -> None:
    found = unpack_mask(pack_mask(marked), marked.shape)
    assert found.dtype == np.bool_
    assert np.array_equal(found, marked)
    found[...] = True  # it is the caller's: what others ask for stays as it was
    assert np.array_equal(unpack_mask(pack_mask(marked), marked.shape), marked)


@quickly
@given(marks, st.data())
def test_a_part_is_that_part_of_the_whole(
    marked: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]], data: st.DataObject
) -> None:
    start = tuple(data.draw(st.integers(0, length - 1)) for length in marked.shape)
    stop = tuple(
        data.draw(st.integers(low + 1, length))
        for low, length in zip(start, marked.shape, strict=True)
    )
    part = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    assert np.array_equal(unpack_mask(pack_mask(marked), marked.shape, part), marked[part.slices])


def test_no_bytes_are_the_whole_box() -> None:
    assert pack_mask(np.ones((2, 3, 4), np.bool_)) == b""
    assert unpack_mask(b"", (2, 3, 4)).all()
    assert unpack_mask(b"", (9, 9, 9), Box((1, 1, 1), (2, 3, 4))).shape == (1, 2, 3)


def test_a_lesion_takes_far_less_than_its_bits() -> None:
    z, y, x = np.indices((60, 60, 60)) - 30
    ball = z**2 + y**2 + x**2 < 28**2
    assert len(pack_mask(ball)) < 60**3 / 8 / 10


@pytest.mark.parametrize(
    "packed",
    [b"\0", b"not zstd", pack_mask(np.zeros((2, 3, 5), np.bool_)), b"\x28\xb5\x2f\xfd\x04"],
)
def test_what_is_no_mask_of_this_box_is_refused(packed: bytes) -> None:
    with pytest.raises(CodecError):
        unpack_mask(packed, (4, 9, 9))


def test_a_bomb_never_gets_more_than_its_box_needs() -> None:
    bomb = pack_mask(np.zeros((64, 512, 512), np.bool_))
    assert len(bomb) < 2048
    with pytest.raises(CodecError):
        unpack_mask(bomb, (1, 8, 8))


def test_a_mask_over_too_many_voxels_is_neither_made_nor_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = pack_mask(np.eye(8, dtype=np.bool_)[np.newaxis])
    monkeypatch.setattr(module, "MAX_MASK_VOXELS", 63)
    module._bits.cache_clear()
    with pytest.raises(ValueError, match="64 voxels"):
        pack_mask(np.eye(8, dtype=np.bool_)[np.newaxis])
    with pytest.raises(CodecError, match="64 voxels"):
        unpack_mask(packed, (1, 8, 8))
