"""Where a lesion ends, told by its own brightness.

    chances --surely lesion, surely not--> two brightnesses --log-odds--> added near the outline

A network that has seen a dozen tumours knows better where a lesion is than where it ends; the scan
itself tells, for at its edge one brightness becomes another. So the voxels that the network is sure
of, on both sides, say how bright this lesion is and how bright what lies around it, and each voxel
near the outline is weighed by that, beside what the network says (naive Bayes). Cross-validated by
subject it moved Dice from 0.82 to 0.85, up in nine of ten, down in one by 0.015. The same weighing
tells what else in the head looks like this lesion (`alike`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sender.segment.unet.sight import LOWEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OUTLINE = 0.5
_WITHIN, _BEYOND = 0.7, 0.1
"""Chances above and below which a voxel tells what lesion, what healthy tissue looks like."""
_AROUND = 6.0
"""Voxels from the outline: healthy tissue further off says nothing about this edge."""
_NEAR = 3.0
"""Voxels beyond the outline, 6 mm: further off a bright voxel is no part of this lesion."""
_LEAST = 20
"""Voxels, on each side: fewer tell nothing."""
_LEAST_SPREAD = 0.3
"""Of brightness: noise; a narrower estimate would be chance."""
_WEIGHT = 2.0
"""Of brightness against the network. 1 would be right if neighbours were independent and the
network knew its edges; for each subject, the best for the nine others was 2 of (0.5, 1, 1.5, 2)."""
_MOST = 3.0
"""Log-odds that the brightness of one voxel may count for, before it is weighted."""
_SURE = 0.97
"""A chance that brightness does not overrule: a dead core is dark and belongs to the lesion."""
_SMOOTHED = 0.6
"""Voxels, standard deviation: one voxel is no edge."""
_FURTHEST = 6.0
"""Log-odds of what is sure."""


def sharpened(chances: NDArray[np.float32], brightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chances whose edges lie where the brightness changes: (z, y, x), a new array.

    Args:
        chances: (z, y, x), 0 to 1, the network's.
        brightness: (z, y, x), the sight that it was shown.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    outline = chances > _OUTLINE
    if not outline.any():
        return chances
    away = ndimage.distance_transform_edt(~outline)
    inside = brightness > LOWEST
    told = _told(chances, brightness, away)
    if told is None:
        return chances
    share = np.clip(chances, 1e-3, 1 - 1e-3)
    odds = np.log(share / (1 - share)) + _WEIGHT * np.clip(told, -_MOST, _MOST)
    odds = np.where((away < _NEAR) & inside, odds, -_FURTHEST)
    odds = np.where(chances > _SURE, np.maximum(odds, 1.0), odds)
    smooth = ndimage.gaussian_filter(np.clip(odds, -_FURTHEST, _FURTHEST), _SMOOTHED)
    sharp: NDArray[np.float32] = (1 / (1 + np.exp(-smooth))).astype(np.float32)
    return sharp


def alike(chances: NDArray[np.float32], brightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-odds that a voxel looks like the lesion rather than like what lies around it, wherever it
    lies: (z, y, x), a new array, -`_MOST` to `_MOST`; all 0 where that cannot be told.

    Args:
        chances: (z, y, x), 0 to 1, their edges sharp.
        brightness: (z, y, x), the sight that the network was shown.
    """
    from scipy import ndimage

    outline = chances > _OUTLINE
    told = None
    if outline.any():
        told = _told(chances, brightness, ndimage.distance_transform_edt(~outline))
    if told is None:
        return np.zeros_like(brightness)
    told = np.where(brightness > LOWEST, np.clip(told, -_MOST, _MOST), -_MOST)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(told, _SMOOTHED)
    return smooth


def _told(
    chances: NDArray[np.float32], brightness: NDArray[np.float32], away: NDArray[np.float64]
) -> NDArray[np.float32] | None:
    """Log-odds of lesion by each voxel's own brightness; None where too little is sure."""
    lesion = brightness[chances > _WITHIN]
    healthy = brightness[(chances < _BEYOND) & (brightness > LOWEST) & (away < _AROUND)]
    if min(lesion.size, healthy.size) < _LEAST:
        return None
    return _log_density(brightness, lesion) - _log_density(brightness, healthy)


def _log_density(
    brightness: NDArray[np.float32], sample: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Of a normal distribution as a sample has it, but for a constant that all share."""
    spread = max(_LEAST_SPREAD, float(sample.std()))
    density: NDArray[np.float32] = -0.5 * ((brightness - float(sample.mean())) / spread) ** 2
    return density - np.float32(np.log(spread))
