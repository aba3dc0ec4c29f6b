from __future__ import annotations

from time import perf_counter

import pytest

from shared.codecs.htj2k import HTJ2K
from shared.codecs.parts import pack_parts
from shared.errors import CodecError
from tests.contracts.codec import GOLDEN, UINT16, SliceCodecContract, noise


class TestHtj2k(SliceCodecContract):
    codec = HTJ2K


def test_the_stream_that_hangs_openjph_is_refused_at_once() -> None:
    payload = pack_parts([(GOLDEN / "hostile_htj2k_xosiz.jph").read_bytes()])
    started_s = perf_counter()
    with pytest.raises(CodecError, match="SIZ"):
        HTJ2K.decode(payload, (1, 64, 64), UINT16, {})
    assert perf_counter() - started_s < 0.5


def test_damage_that_openjph_would_turn_into_zeros_is_an_error() -> None:
    stream = bytearray(HTJ2K.encode_slice(noise((1, 64, 64), 12)[0], 12, {}))
    stream[-40:-2] = b"\xff" * 38
    with pytest.raises(CodecError):
        HTJ2K.decode(pack_parts([bytes(stream)]), (1, 64, 64), UINT16, {})
