"""Rungs: pieces and their middles, against what they are defined to be."""

from __future__ import annotations

import numpy as np
import pytest

from shared.codecs.causal.rungs import Rung

SAMPLES = np.arange(0, 700, dtype=np.int32).reshape(1, 7, 100)


@pytest.mark.parametrize("steps", [(1,), (17, 5, 1), (9, 3, 1), (5, 1), (255, 7, 3, 1)], ids=str)
def test_a_middle_lies_in_its_piece_and_every_piece_in_the_one_above(
    steps: tuple[int, ...],
) -> None:
    coarse = None
    for count, step in enumerate(steps, 1):
        rung = Rung(steps[:count], coarse)
        piece = rung.piece(SAMPLES)
        found = rung.middle(piece, 699)
        assert np.abs(found - SAMPLES).max() <= step // 2
        assert np.array_equal(rung.piece(found), piece)
        assert piece.min() >= 0
        assert int(piece.max()).bit_length() <= rung.pieces_bits(10)
        interval = rung.interval()
        if interval is not None:
            low, high = interval
            assert (low <= SAMPLES).all()
            assert (high > SAMPLES).all()
            assert (high - low).max() <= min(steps[: count - 1])
        coarse = found
    assert np.array_equal(found, SAMPLES)


def test_no_middle_is_above_the_largest_sample() -> None:
    samples = np.array([[[0, 33, 34, 35]]], np.int32)
    rung = Rung((17,))
    assert rung.middle(rung.piece(samples), 35).tolist() == [[[8, 25, 34, 34]]]
