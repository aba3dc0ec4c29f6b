"""Exact percentiles of the heights above the background, without sorting or holding them.

A sample says between which two heights a percentile lies; one pass over the volume counts what is
below and keeps the few heights between. Where the sample was wrong, a wider bracket is tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sender.segment.heights import Heights

_MARGINS = (0.005, 0.05, 1.0)
"""How far a sample's rank may be off, as a share of all: ten times what is to be expected of 50,000
voxels; of 500; and everything, for a sample that shares a period with the volume."""


@dataclass(slots=True)
class _Bracket:
    """Heights between two that a sample named, and how many lie below them."""

    low: float
    high: float
    below: int = 0
    at_low: int = 0
    at_high: int = 0
    between: list[NDArray[np.float64]] = field(default_factory=list)
    """Strictly between: many voxels may share ``low`` or ``high``, so those are only counted."""

    def add(self, heights: NDArray[np.float64]) -> None:
        reaches = heights >= self.low
        self.below += heights.size - int(np.count_nonzero(reaches))
        reaches &= heights <= self.high
        inside = heights[reaches]
        is_low, is_high = inside == self.low, inside == self.high
        self.at_low += int(np.count_nonzero(is_low))
        if self.high > self.low:
            self.at_high += int(np.count_nonzero(is_high))
        self.between.append(inside[~(is_low | is_high)])

    def close(self) -> None:
        """Sort what was kept; nothing can be added after it."""
        self.between = [np.sort(np.concatenate(self.between))]

    def at(self, rank: int) -> float | None:
        """The height of a rank, 0 for the lowest of all; None where it is not in the bracket."""
        (kept,) = self.between
        rank -= self.below
        if rank < 0:
            return None
        if rank < self.at_low:
            return self.low
        rank -= self.at_low
        if rank < kept.size:
            return float(kept[rank])
        return self.high if rank - kept.size < self.at_high else None


def percentiles(heights: Heights, wanted: Sequence[float]) -> list[float]:
    """Percentiles, in percent, of all heights above 0, interpolated as `numpy.percentile` does.

    Returns:
        One height for each wanted percentile; none where no voxel stands above the background.
    """
    sample = heights.sample()
    sample = sample[sample > 0]
    for margin in _MARGINS:
        brackets = [_bracket(sample, percent / 100, margin) for percent in wanted]
        voxels = 0
        for _, _, block in heights.blocks():
            tissue = block[block > 0]
            voxels += tissue.size
            for bracket in brackets:
                bracket.add(tissue)
        if voxels == 0:
            return []
        found = [
            _interpolated(bracket, voxels, percent / 100)
            for bracket, percent in zip(brackets, wanted, strict=True)
        ]
        known = [value for value in found if value is not None]
        if len(known) == len(found):
            return known
    raise AssertionError("a bracket that holds everything lacks a rank")


def _bracket(sample: NDArray[np.float64], share: float, margin: float) -> _Bracket:
    """The bracket of a share: from 0 or to infinity where the margin reaches the end."""
    low, high = 0.0, np.inf
    if sample.size and share > margin:
        low = float(np.quantile(sample, share - margin, method="lower"))
    if sample.size and share + margin < 1:
        high = float(np.quantile(sample, share + margin, method="higher"))
    return _Bracket(low, high)


def _interpolated(bracket: _Bracket, voxels: int, share: float) -> float | None:
    """Linear between the two heights around a share's rank among so many voxels."""
    bracket.close()
    place = (voxels - 1) * share
    rank = int(place)
    part = place - rank
    one, two = bracket.at(rank), bracket.at(min(rank + 1, voxels - 1))
    if one is None or two is None:
        return None
    # Two forms, as in numpy: exact at either end, and the same to the last bit.
    return one + (two - one) * part if part < 0.5 else two - (two - one) * (1 - part)
