from __future__ import annotations

import numpy as np
import pytest

from sender.segment.unet.edges import alike, sharpened
from sender.segment.unet.sight import LOWEST

SHAPE = (30, 34, 32)
AWAY = np.sqrt(sum((axis - n / 2) ** 2 for axis, n in zip(np.indices(SHAPE), SHAPE, strict=True)))
LESION = AWAY < 7


def scan(lesion: float, healthy: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    noise = np.random.default_rng(0).normal(0, 0.3, SHAPE)
    bright = np.where(LESION, lesion, healthy) + noise
    return np.where(AWAY < 14, bright, LOWEST).astype(np.float32)


def told(radius: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A network that is right about where, and soft and wrong about how far."""
    chances: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    chances = (1 / (1 + np.exp(AWAY - radius))).astype(np.float32)
    return chances


def dice(chances: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    outline = chances > 0.5
    return 2 * float((outline & LESION).sum()) / float(outline.sum() + LESION.sum())


@pytest.mark.parametrize("radius", [5.5, 8.5])
@pytest.mark.parametrize(("lesion", "healthy"), [(2.0, 0.0), (-1.5, 0.5)])
def test_an_outline_moves_to_where_the_brightness_changes(
    radius: float, lesion: float, healthy: float
) -> None:
    bright, chances = scan(lesion, healthy), told(radius)
    assert dice(sharpened(chances, bright)) > max(0.93, dice(chances))


def test_where_brightness_tells_nothing_the_network_is_believed() -> None:
    bright, chances = scan(0.5, 0.5), told(7)
    assert dice(sharpened(chances, bright)) > dice(chances) - 0.02


def test_a_dark_core_that_the_network_is_sure_of_stays() -> None:
    bright, chances = scan(2.0, 0.0), told(7)
    bright[AWAY < 3] = -1.0
    assert (sharpened(chances, bright)[AWAY < 2] > 0.5).all()


def test_a_bright_spot_far_from_the_outline_is_not_taken_in() -> None:
    bright, chances = scan(2.0, 0.0), told(7)
    bright[14:16, 28:30, 15:17] = 2.0
    assert sharpened(chances, bright)[14:16, 28:30, 15:17].max() < 0.5


def test_nothing_found_stays_nothing_and_specks_stay_as_they_are() -> None:
    nothing = np.full(SHAPE, 0.01, np.float32)
    np.testing.assert_array_equal(sharpened(nothing, scan(1.0, 0.0)), nothing)
    speck = nothing.copy()
    speck[15, 17, 16] = 0.9
    np.testing.assert_array_equal(sharpened(speck, scan(1.0, 0.0)), speck)


def test_what_is_as_bright_as_the_lesion_looks_like_it_wherever_it_lies() -> None:
    bright, chances = scan(2.0, 0.0), told(7)
    bright[14:17, 27:30, 15:18] = 2.0
    likeness = alike(chances, bright)
    assert likeness[15, 28, 16] > 1
    assert np.median(likeness[(AWAY > 8.5) & (AWAY < 10)]) < -1
    assert likeness[AWAY > 16].max() < -1  # where there is no tissue


def test_nothing_looks_like_a_lesion_where_none_is_found_or_too_little_of_it() -> None:
    nothing = np.full(SHAPE, 0.01, np.float32)
    assert not alike(nothing, scan(2.0, 0.0)).any()
    nothing[15, 17, 16] = 0.9
    assert not alike(nothing, scan(2.0, 0.0)).any()
