from __future__ import annotations

import hashlib
import random

import pytest

from protocol import limits
from protocol.chunks import Assembly, BadChunk, chunk_count, chunk_digests, encoding_name
from shared.errors import RemoteProtocolError

STEP = limits.CHUNK_BYTES
ENCODING = random.Random(1).randbytes(2 * STEP + 777)


def _fragments(size: int) -> list[tuple[int, bytes]]:
    pieces = []
    for chunk in range(0, len(ENCODING), STEP):
        stop = min(chunk + STEP, len(ENCODING))
        pieces += [(i, ENCODING[i : min(i + size, stop)]) for i in range(chunk, stop, size)]
    return pieces


def test_digests_are_those_of_each_chunk() -> None:
    digests = chunk_digests(ENCODING)
    assert len(digests) == 32 * chunk_count(len(ENCODING)) == 96
    assert digests[32:64] == hashlib.sha256(ENCODING[STEP : 2 * STEP]).digest()
    assert encoding_name(digests) == hashlib.sha256(digests).digest()


@pytest.mark.parametrize("seed", range(5))
def test_fragments_in_any_order_and_twice_make_the_encoding(seed: int) -> None:
    order = _fragments(5000) * 2
    random.Random(seed).shuffle(order)
    assembly = Assembly(len(ENCODING), chunk_digests(ENCODING))
    complete, new = [assembly.complete], 0
    for offset, content in order:
        fresh, bad = assembly.add(offset, content)
        assert bad is None
        new += fresh
        complete.append(assembly.complete)
    assert new == len(ENCODING)
    assert complete == sorted(complete)
    assert set(complete) == {False, True}
    assert assembly.payload() == ENCODING


def test_a_wrong_chunk_is_named_dropped_and_may_come_again() -> None:
    assembly = Assembly(len(ENCODING), chunk_digests(ENCODING))
    wrong = bytearray(ENCODING[STEP : 2 * STEP])
    wrong[5] ^= 1
    assert assembly.add(STEP, bytes(wrong))[1] == BadChunk(STEP, bytes(wrong))
    assert list(assembly.arrived) == []
    for offset, content in _fragments(STEP):
        assembly.add(offset, content)
    assert assembly.payload() == ENCODING


def test_proven_bytes_are_never_written_again() -> None:
    assembly = Assembly(len(ENCODING), chunk_digests(ENCODING))
    for offset, content in _fragments(STEP):
        assembly.add(offset, content)
    assert assembly.add(3, b"lies") == (0, None)
    assert assembly.payload() == ENCODING


@pytest.mark.parametrize(
    ("offset", "size"),
    [(len(ENCODING), 1), (len(ENCODING) - 1, 2), (STEP - 1, 2), (0, 0), (2**31, 5)],
)
def test_a_fragment_outside_one_chunk_is_refused(offset: int, size: int) -> None:
    assembly = Assembly(len(ENCODING), chunk_digests(ENCODING))
    with pytest.raises(RemoteProtocolError):
        assembly.add(offset, bytes(size))


def test_digests_of_another_size_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="chunk digests"):
        Assembly(len(ENCODING), chunk_digests(ENCODING)[:-32])
