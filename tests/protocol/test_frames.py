from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import limits
from protocol.frames import (
    HEADER_BYTES,
    Fragment,
    Frame,
    FrameKind,
    decode_frame,
    encode_frame,
    pack_fragment,
    unpack_fragment,
)
from shared.errors import RemoteProtocolError
from tests.golden import golden

CONTROL = encode_frame(FrameKind.CONTROL, 0xDEADBEEF, b"payload")
FRAGMENT = encode_frame(FrameKind.FRAGMENT, 1, pack_fragment(Fragment(7, 65536, b"bytes")))


def test_a_frame_comes_back_as_it_was() -> None:
    assert decode_frame(CONTROL) == Frame(FrameKind.CONTROL, 0xDEADBEEF, b"payload")


def test_a_fragment_comes_back_as_it_was() -> None:
    assert unpack_fragment(decode_frame(FRAGMENT).payload) == Fragment(7, 65536, b"bytes")


@pytest.mark.parametrize(("name", "frame"), [("control", CONTROL), ("fragment", FRAGMENT)])
def test_the_bytes_of_a_frame_are_the_golden_ones(name: str, frame: bytes) -> None:
    assert frame == golden(f"frames/{name}.bin", frame)


@pytest.mark.parametrize("frame", [CONTROL, FRAGMENT])
def test_no_single_changed_bit_passes(frame: bytes) -> None:
    for place in range(len(frame) * 8):
        broken = bytearray(frame)
        broken[place // 8] ^= 1 << (place % 8)
        with pytest.raises(RemoteProtocolError):
            decode_frame(bytes(broken))


@pytest.mark.parametrize("frame", [CONTROL, FRAGMENT])
def test_a_truncated_or_lengthened_frame_is_refused(frame: bytes) -> None:
    for size in range(len(frame)):
        with pytest.raises(RemoteProtocolError):
            decode_frame(frame[:size])
    with pytest.raises(RemoteProtocolError):
        decode_frame(frame + b"\0")


def test_an_oversized_frame_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="bytes"):
        decode_frame(bytes(limits.MAX_FRAME_BYTES + 1))


def test_an_empty_or_oversized_fragment_is_refused() -> None:
    for size in (0, limits.MAX_FRAGMENT_BYTES + 1):
        with pytest.raises(RemoteProtocolError):
            unpack_fragment(pack_fragment(Fragment(0, 0, bytes(size))))
    with pytest.raises(RemoteProtocolError):
        unpack_fragment(b"abc")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=3 * HEADER_BYTES))
def test_any_bytes_are_a_frame_or_a_documented_error(raw: bytes) -> None:
    try:
        decode_frame(raw)
    except RemoteProtocolError:
        return
