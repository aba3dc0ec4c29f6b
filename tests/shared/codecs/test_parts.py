from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codecs.parts import pack_parts, split_parts
from shared.errors import CodecError

TABLE: list[tuple[list[bytes | int], bytes]] = [
    ([0], b"\x00\x00\x00"),
    ([300, 1], b"\x00\x00\xac\x02\x00\x01"),
    ([b"a"], b"\x00\x01a"),
    ([b"same", b"sad"], b"\x02sa\x02\x01med"),
    ([b"same", 7, b"same"], b"\x03sam\x01\x00\x07\x01ee"),
    ([b"x" * 300], b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45),
]


@pytest.mark.parametrize(("parts", "payload"), TABLE)
def test_each_payload_is_its_parts(parts: list[bytes | int], payload: bytes) -> None:
    assert pack_parts(parts) == payload
    assert split_parts(payload, len(parts)) == parts


@given(
    parts=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=40).map(lambda body: b"head" + body),
            st.integers(0, 65535),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(derandomize=True, deadline=None, database=None)
def test_parts_come_back_and_nothing_may_be_cut_or_added(parts: list[bytes | int]) -> None:
    payload = pack_parts(parts)
    assert split_parts(payload, len(parts)) == parts
    for broken in (payload[:-1], payload + b"\0"):
        with pytest.raises(CodecError):
            split_parts(broken, len(parts))


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b"", 1),
        (b"\x00", 1),
        (b"\x00\x01a", 2),  # fewer parts
        (b"\x00\x01\x01ab", 1),  # more parts
        (b"\x00\x02a", 1),  # a body cut off
        (b"\x00\x01ab", 1),  # a body too long
        (b"\x05abc", 1),  # the prefix cut off
        (b"\x00\x00", 1),  # a flat part without its value
        (b"\x00\x81\x00a", 1),  # 1 in two bytes
        (b"\x00\xff\xff\xff\xff\xff\xff\x01", 1),  # a number without end
        (b"\x00\xff\xff\xff\xff\x7f", 1),  # 34 GB
        (b"\x00\x00\x01", 1_000_000),
    ],
)
def test_refuses_tables_that_do_not_add_up(payload: bytes, count: int) -> None:
    with pytest.raises(CodecError):
        split_parts(payload, count)
