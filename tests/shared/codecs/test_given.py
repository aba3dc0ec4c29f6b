"""What is given reaches another process as it was; one context has another digest than the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared.codecs.base import Block
from shared.codecs.given import (
    NOTHING,
    Given,
    GivenCodec,
    decode_with,
    encode_with,
    packed_given,
    unpacked_given,
)
from shared.codecs.registry import CODECS, GIVEN_CODECS
from tests.contracts.codec import UINT16, noise

SHAPE = (3, 5, 7)
OWNED = noise(SHAPE, 1).astype(np.bool_)


def test_what_is_given_comes_out_of_its_bytes() -> None:
    preview = noise(SHAPE, 9)
    given = Given(OWNED, preview=preview, seen=~OWNED)
    found = unpacked_given(packed_given(given), SHAPE, UINT16)
    for one, other in ((found.owned, OWNED), (found.preview, preview), (found.seen, ~OWNED)):
        assert one is not None
        assert np.array_equal(one, other)
    assert found.coarse is None
    assert found.digest() == given.digest()
    assert unpacked_given([], SHAPE, UINT16) is NOTHING


def test_another_context_has_another_digest() -> None:
    samples = noise(SHAPE, 9)
    given = Given(OWNED, preview=samples)
    others = (
        replace(given, preview=samples + UINT16.type(1)),
        replace(given, preview=samples.astype(np.int16)),
        replace(given, seen=OWNED),
        replace(given, coarse=samples[::-1]),
    )
    assert len({each.digest() for each in (given, *others)}) == 5
    assert Given(OWNED).digest() == b""


def test_only_causal3d_makes_use_of_it_and_the_others_go_on_without() -> None:
    assert {"causal3d"} == GIVEN_CODECS
    samples = np.where(OWNED, noise(SHAPE, 9), 0).astype(UINT16)
    for name, codec in CODECS.items():
        assert isinstance(codec, GivenCodec) == (name in GIVEN_CODECS)
        if name != "hevc":
            payload = encode_with(codec, Block(samples, 9), {}, Given(OWNED))
            found = decode_with(codec, payload, SHAPE, UINT16, {}, Given(OWNED))
            assert np.array_equal(found, samples)
