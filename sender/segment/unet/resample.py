"""Linear resampling along one axis at a time.

Going down it averages (a triangle as wide as the step, so that nothing is aliased), going up it
interpolates. The weights of a place always sum to 1; at the edges the outermost voxel is carried
on. Taps are gathered and added, without BLAS: on matrices this small its threads cost ten times
what they save, and more where other work has the cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Taps:
    """What each place along an axis takes of which voxels."""

    indices: NDArray[np.intp]
    """(places, taps)."""
    weights: NDArray[np.float32]
    """(places, taps), each row sums to 1."""

    def __len__(self) -> int:
        """How many places there are."""
        return len(self.indices)

    def along(self, voxels: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        """Voxels resampled along one axis: a new array."""
        shape = [1] * voxels.ndim
        shape[axis] = len(self)
        found: NDArray[np.float32] | None = None
        for indices, weights in zip(self.indices.T, self.weights.T, strict=True):
            part = voxels.take(indices, axis=axis)
            part *= weights.reshape(shape)
            if found is None:
                found = part
            else:
                found += part
        assert found is not None  # there is at least one tap
        return found


def axis_taps(length: int, places: NDArray[np.floating[Any]], width: float = 1.0) -> Taps:
    """The taps of an axis.

    Args:
        length: voxels of the axis.
        places: where to look, in voxel indices; the middle of voxel 3 is 3.0.
        width: how many voxels of the axis one step of the places spans; above 1 it averages.
    """
    reach = max(1.0, width)
    inside = np.clip(places, 0.0, length - 1.0)
    first = np.floor(inside - reach).astype(np.intp) + 1
    indices = first[:, np.newaxis] + np.arange(ceil(2 * reach))
    weights = np.maximum(0.0, 1.0 - np.abs(indices - inside[:, np.newaxis]) / reach)
    weights[(indices < 0) | (indices >= length)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(np.clip(indices, 0, length - 1), weights.astype(np.float32))


def along_axes(voxels: NDArray[np.float32], *taps: Taps) -> NDArray[np.float32]:
    """(z, y, x) voxels resampled by the taps of each axis: a new array."""
    for axis, each in enumerate(taps):
        voxels = each.along(voxels, axis)
    return voxels
