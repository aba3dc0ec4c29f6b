"""Rungs of a ladder: samples known to a step, then to a smaller one, at last exactly.

A rung cuts what is known of a sample at the multiples of its step, and says in which piece it lies;
the decoder takes the middle of the piece, so no sample is wrong by more than half a step. As every
step is odd, half of it is a whole number. What is known before a rung follows from the samples that
the rungs above it decode to: a middle lies in its own piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung, with those above it."""

    steps: tuple[int, ...]
    """Of every rung from the first to this one."""
    coarse: NDArray[np.int32] | None = None
    """(z, y, x), what the rung above decodes to; None for the first."""

    @property
    def step(self) -> int:
        """Its own."""
        return self.steps[-1]

    @property
    def _is_all(self) -> bool:
        """Whether there is no other rung: every piece is a sample."""
        return self.steps == (1,)

    def interval(self) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
        """Where samples may lie: (z, y, x) lowest, and one above the highest; None for anywhere."""
        if self.coarse is None:
            return None
        low, high = np.zeros_like(self.coarse), np.full_like(self.coarse, 1 << 20)
        for step in self.steps[:-1]:
            start = self.coarse // np.int32(step) * np.int32(step)
            np.maximum(low, start, out=low)
            np.minimum(high, start + np.int32(step), out=high)
        return low, high

    def piece(self, samples: NDArray[np.int32]) -> NDArray[np.int32]:
        """The number of the piece that a sample lies in, 0 for the lowest of what is known."""
        if self._is_all:
            return samples
        found = self.interval()
        first = 0 if found is None else found[0] // np.int32(self.step)
        return samples // np.int32(self.step) - first

    def pieces_bits(self, bits: int) -> int:
        """How many bits the number of a piece takes."""
        if self.coarse is None:
            return (((1 << bits) - 1) // self.step).bit_length()
        return ((min(self.steps[:-1]) - 2) // self.step + 1).bit_length()

    def middle(self, piece: NDArray[np.int32], most: int) -> NDArray[np.int32]:
        """What a decoder takes for the samples of a piece, none of them above ``most``."""
        if self._is_all:
            return piece.copy()
        found = self.interval()
        step = np.int32(self.step)
        if found is None:
            low, high = piece * step, piece * step + step
        else:
            start = (found[0] // step + piece) * step
            low, high = np.maximum(found[0], start), np.minimum(found[1], start + step)
        high = np.maximum(low + 1, np.minimum(high, most + 1))
        middle: NDArray[np.int32] = (low + high - 1) >> 1
        return middle
