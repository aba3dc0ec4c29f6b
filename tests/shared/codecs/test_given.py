"""What both ends know: one context has another digest than the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared.codecs.base import Block
from shared.codecs.given import Given, GivenCodec, decode_with, encode_with
from shared.codecs.registry import CODECS
from tests.contracts.codec import UINT16, noise

SHAPE = (3, 5, 7)
OWNED = noise(SHAPE, 1).astype(np.bool_)


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
    samples = np.where(OWNED, noise(SHAPE, 9), 0).astype(UINT16)
    for name, codec in CODECS.items():
        assert isinstance(codec, GivenCodec) == (name == "causal3d")
        if name != "hevc":
            payload = encode_with(codec, Block(samples, 9), {}, Given(OWNED))
            found = decode_with(codec, payload, SHAPE, UINT16, {}, Given(OWNED))
            assert np.array_equal(found, samples)
