"""How far a preview is from the truth: squared error, largest error, PSNR."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf, log10
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The error of some voxels; two of them add up to that of all their voxels."""

    voxels: int = 0
    squared_error: float = 0.0
    """Summed over the voxels, stored units squared."""
    max_error: float = 0.0
    """The largest absolute error, stored units; inf where a voxel is not a finite number."""

    def __add__(self, other: Fidelity) -> Fidelity:
        return Fidelity(
            self.voxels + other.voxels,
            self.squared_error + other.squared_error,
            max(self.max_error, other.max_error),
        )

    def psnr_db(self, value_range: tuple[float, float]) -> float:
        """PSNR over the volume's range, 20 log10((max - min) / RMSE); inf for no error, and -inf
        for errors or a range whose squares are no number in float64."""
        peak = value_range[1] - value_range[0]
        if self.squared_error == 0 or self.voxels == 0 or peak == 0:
            return inf
        if isinf(self.squared_error) or isinf(peak * peak):
            return -inf
        return 10 * log10(peak * peak * self.voxels / self.squared_error)


def measure(truth: NDArray[Any], shown: NDArray[Any], owned: NDArray[np.bool_] | None) -> Fidelity:
    """The error of ``shown`` over the owned voxels of a block, a slice at a time.

    Args:
        truth, shown: (z, y, x) stored values, same dtype.
        owned: (z, y, x) bool, or None for all.

    Voxels of the truth that are not finite count as an unbounded error and are left out of the sum.
    """
    total = Fidelity()
    for z in range(truth.shape[0]):
        with np.errstate(invalid="ignore", over="ignore"):  # NaNs, and doubles near their end
            error = shown[z].astype(np.float64) - truth[z].astype(np.float64)
        if owned is not None:
            error = error[owned[z]]
        if error.size == 0:
            continue
        finite = np.isfinite(error)
        if finite.all():
            worst = float(np.abs(error).max())
        else:
            error, worst = error[finite], inf
        with np.errstate(over="ignore"):
            squared = float(np.dot(error.ravel(), error.ravel()))
        total += Fidelity(error.size, squared, worst)
    return total
