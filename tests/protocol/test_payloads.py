from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import limits
from protocol import messages as m
from protocol.payloads import MAX_MESSAGE_BYTES, pack_message, unpack_message
from shared.errors import RemoteProtocolError
from tests.golden import golden
from tests.protocol import examples

EVERY = pytest.mark.parametrize("name", examples.MESSAGES)


@EVERY
def test_a_message_comes_back_as_it_was(name: str) -> None:
    message = examples.MESSAGES[name]
    assert unpack_message(pack_message(message)) == message


@EVERY
def test_the_bytes_of_a_message_are_the_golden_ones(name: str) -> None:
    packed = pack_message(examples.MESSAGES[name])
    assert packed == golden(f"messages/{name}.bin", packed)


def test_every_kind_of_message_has_an_example() -> None:
    assert {type(message) for message in examples.MESSAGES.values()} == set(m.Message.__args__)


@EVERY
def test_a_truncated_message_is_refused(name: str) -> None:
    packed = pack_message(examples.MESSAGES[name])
    for size in range(len(packed)):
        with pytest.raises(RemoteProtocolError):
            unpack_message(packed[:size])


@EVERY
def test_a_message_with_a_field_too_many_is_refused(name: str) -> None:
    items = msgpack.unpackb(pack_message(examples.MESSAGES[name]))
    with pytest.raises(RemoteProtocolError):
        unpack_message(msgpack.packb([*items, 0]))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        msgpack.packb(7),
        msgpack.packb([]),
        msgpack.packb(["hello"]),
        msgpack.packb([99]),
        msgpack.packb({1: 2}),
        msgpack.packb([1, 1, "sender", b"not text"]),
        msgpack.packb([1, -1, "sender", "x"]),
        msgpack.packb([1, True, "sender", "x"]),
        msgpack.packb([1, 1, "somebody", "x"]),
        msgpack.packb([7, limits.MAX_LAYERS + 1]),
        msgpack.packb([4, "x" * (limits.MAX_TEXT + 1)]),
        msgpack.packb([16, b"short"]),
        msgpack.packb([16, bytes(33)]),
        msgpack.packb([1, msgpack.ExtType(1, b"x"), "sender", "x"]),
        b"\x91" * 5000 + b"\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_what_is_no_message_is_refused(packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_message(packed)


def test_only_a_manifest_its_answer_and_a_plan_may_be_large() -> None:
    with pytest.raises(RemoteProtocolError, match="kind 4 with 65"):
        unpack_message(msgpack.packb([4, bytes(MAX_MESSAGE_BYTES)]))
    with pytest.raises(RemoteProtocolError, match="kind 5 with"):
        unpack_message(msgpack.packb([5, 0, 1, [], bytes(limits.MAX_PLAN_BYTES)]))
    masks = tuple(
        replace(examples.REGIONS[0], name=f"roi{n}", mask=bytes(limits.MAX_MASK_BYTES))
        for n in range(3)
    )
    plan = replace(examples.PLAN, regions=masks)
    assert unpack_message(pack_message(plan)) == plan
    longer = replace(masks[0], mask=bytes(limits.MAX_MASK_BYTES + 1))
    with pytest.raises(RemoteProtocolError):
        unpack_message(pack_message(replace(plan, regions=(longer,))))


def test_our_own_text_is_cut_to_its_limit_and_not_refused() -> None:
    message = m.Refuse("é" * 5000)
    assert unpack_message(pack_message(message)) == m.Refuse("é" * limits.MAX_TEXT)


def test_infinite_errors_travel() -> None:
    message = replace(examples.offer(), max_error=math.inf)
    assert unpack_message(pack_message(message)) == message


_LEAVES: Any = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=70)
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=8)), max_size=16))
def test_any_msgpack_is_a_message_or_a_documented_error(items: list[Any]) -> None:
    try:
        message = unpack_message(msgpack.packb(items))
    except RemoteProtocolError:
        return
    assert isinstance(message, m.Message)
