from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.rendezvous.names import NAME_BYTES
from shared.rendezvous.wire import (
    MAX_FRAME_BYTES,
    MAX_NAMES,
    pack_join,
    pack_line,
    read_join,
    read_line,
)
from shared.transports.webrtc.sealed import MAX_LINE_CHARS

NAMES = tuple(bytes([number]) * NAME_BYTES for number in range(MAX_NAMES + 1))
LONGEST = "medroi:" + "x" * (MAX_LINE_CHARS - len("medroi:"))


def test_a_join_and_a_line_are_these_bytes() -> None:
    assert pack_join(NAMES[1:3]) == b"mdrv\x01" + b"\x01" * 32 + b"\x02" * 32
    assert pack_line(3, "medroi:AYbz-_") == b"\x03medroi:AYbz-_"


@pytest.mark.parametrize("count", [1, 2, MAX_NAMES])
def test_names_come_back(count: int) -> None:
    frame = pack_join(NAMES[:count])
    assert read_join(frame) == NAMES[:count]
    assert len(frame) <= MAX_FRAME_BYTES


def test_a_line_comes_back_up_to_the_longest_there_is() -> None:
    assert read_line(pack_line(1, LONGEST), 2) == (1, LONGEST)
    assert len(pack_line(1, LONGEST)) == MAX_FRAME_BYTES


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"", "did not begin as"),
        (b"mdrv", "did not begin as"),
        (b"GET / HTTP/1.1", "did not begin as"),
        (b"mdrv\x02" + NAMES[0], "speaks version 2, expected 1"),
        (pack_join([]), "expected 1 to 64 names"),
        (pack_join(NAMES), "expected 1 to 64 names"),
        (pack_join(NAMES[:2])[:-1], "expected 1 to 64 names"),
        (pack_join([NAMES[1], NAMES[1]]), "names a mailbox twice"),
    ],
)
def test_what_is_no_join_is_refused(frame: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        read_join(frame)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"", "was not joined"),
        (b"\x02medroi:AA", "was not joined"),
        (b"\x00", "no sealed line"),
        (b"\x00medroi:", "no sealed line"),
        (b"\x00hello there", "no sealed line"),
        (b"\x00medroi:AA\n", "no sealed line"),
        (b"\x00medroi:A\xff", "no sealed line"),
        (pack_line(0, LONGEST + "x"), "no sealed line"),
    ],
)
def test_what_is_no_line_is_refused(frame: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        read_line(frame, 2)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"mdrv\x01" + rest))
def test_whatever_comes_first_is_a_join_or_refused(frame: bytes) -> None:
    try:
        names = read_join(frame)
    except RemoteProtocolError:
        return
    assert pack_join(names) == frame


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda x: b"\x00medroi:" + x.encode()))
def test_whatever_comes_then_is_a_line_or_refused(frame: bytes) -> None:
    try:
        which, line = read_line(frame, 2)
    except RemoteProtocolError:
        return
    assert pack_line(which, line) == frame
    assert which < 2
