"""Floats that are whole multiples of a step: what a scanner's whole numbers became.

PET and rescaled CT are often kept as floats, though every value is a small whole number times a
slope, rounded once. Found again, the whole numbers code in half the bytes of the floats. A step is
checked on every value before it is believed, so that missing one only costs bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nextafter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_MULTIPLES = 1 << 16
"""Multiples from the first to the last: what samples of 16 bits can count."""
_DIVISORS = (1, 2, 3, 4, 5, 6)
"""The smallest difference between two values may be a few steps, where neighbours never occur."""
_NEIGHBOURS = 4
"""Floats tried on either side of a step: no more lie in what float64 values leave open."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step, and the multiples of it that occur."""

    size: float
    first: int
    last: int


def at_step(multiples: NDArray[np.int64], step: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The floats (native byte order) of whole multiples: one product in float64, rounded once."""
    return (multiples.astype(np.float64) * step).astype(dtype.newbyteorder("="))


def find_step(values: NDArray[Any]) -> Step | None:
    """A step of which every value is a whole multiple after one rounding, or None.

    Each value v = round(k * step) confines the step to [(v - slack) / k, (v + slack) / k]; taken in
    ascending order, the interval found so far fixes the next k. The differences between neighbours
    say where to begin.

    Args:
        values: distinct floats in native byte order.
    """
    if not np.isfinite(values).all() or bool(np.any((values == 0) & np.signbit(values))):
        return None
    sizes = np.unique(np.abs(values.astype(np.float64)))
    sizes = sizes[sizes > 0]
    if sizes.size == 0 or sizes[-1] > np.finfo(values.dtype).max / 2:  # so that no sum overflows
        return None
    slack = np.spacing(sizes.astype(values.dtype)).astype(np.float64)
    if values.dtype.itemsize < 8:
        slack /= 2  # half a unit in the last place; in float64 the bounds are rounded themselves
    gaps, doubt = np.diff(sizes, prepend=0.0), slack + np.append(0.0, slack[:-1])
    alike = gaps - doubt <= (gaps + doubt).min()
    low, high = float((gaps - doubt)[alike].max()), float((gaps + doubt)[alike].min())
    for divisor in _DIVISORS:
        for step in _floats_within(_narrow(sizes, slack, low / divisor, high / divisor)):
            multiples = np.rint(values.astype(np.float64) / step).astype(np.int64)
            first, last = int(multiples.min()), int(multiples.max())
            few = last - first < MAX_MULTIPLES
            if few and np.array_equal(at_step(multiples, step, values.dtype), values):
                return Step(step, first, last)
    return None


def _narrow(
    sizes: NDArray[np.float64], slack: NDArray[np.float64], low: float, high: float
) -> tuple[float, float]:
    """The part of low..high of which every size is a whole multiple; low > high where none is."""
    for size, half in zip(sizes.tolist(), slack.tolist(), strict=True):
        middle = (low + high) / 2
        if not low <= high or not middle / 2 < size < middle * MAX_MULTIPLES:
            return 1.0, 0.0
        multiple = round(size / middle)
        low, high = max(low, (size - half) / multiple), min(high, (size + half) / multiple)
    return low, high


def _floats_within(bounds: tuple[float, float]) -> list[float]:
    """The middle of low..high and the floats beside it: for float64 only one may be right."""
    low, high = bounds
    if low > high:
        return []
    found = [(low + high) / 2]
    for end in (low, high):
        step = found[0]
        for _ in range(_NEIGHBOURS):
            step = nextafter(step, end)
            found.append(step)
    return found
