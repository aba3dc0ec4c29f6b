"""Heights: how far each voxel stands above the background, whatever a scan calls background.

MedROI's rules were written for raw MR, where background is 0. Here 0 is made to mean background
everywhere, so that the rules need no cases:

    height = max(real value - level, 0)      real value = stored value * slope + intercept
    height = max(level - real value, 0)      MONOCHROME1
    height = 0                               padding, NaN, infinities

Where ``level`` comes from is told in docs/tissue.md. Heights come a block of rows at a time: there
is never a second volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from shared.header import SeriesHeader
    from shared.volume import Volume

AIR_HU = -1000.0
"""Air on the Hounsfield scale, by its definition."""
_AIR_RANGE_HU = (-1100.0, -900.0)
"""What is taken for air where the file does not say CT: the scale's -1000 with scanner noise."""
_AIR_SHARE = 0.01
"""This share of voxels in the air range makes an unnamed volume a CT. Of the scans in the
development set CTs with negative values have 29 % to 82 %, everything else has none."""
_LOWEST_SHARE = 0.05
"""This share of voxels at one lowest, negative value makes it the background. Z-scored brains have
81 % to 88 %, MR with a few negatives below 0.1 %."""
_BLOCK_VOXELS = 1 << 18
"""Heights in hand at once: 2 MiB of float64, about a core's cache; a 512 x 512 slice."""
_SAMPLE_VOXELS = 1 << 18
"""Voxels that settle what is background: shares of 1 % and more are known to 0.1 %."""


@dataclass(frozen=True, slots=True)
class Heights:
    """The heights of a volume."""

    volume: Volume
    level: float
    """The background's real value."""

    def blocks(self) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
        """(z, first y, heights (y, x)) of a few rows at a time, in C order.

        All blocks share one buffer: a block may be written to, and lasts until the next one.
        """
        for z, y, real in _real_blocks(self.volume):
            yield z, y, self._of(real)

    def sample(self) -> NDArray[np.float64]:
        """Heights of 100,000s of voxels spread evenly; of all voxels where there are fewer."""
        return self._of(_sample(self.volume))

    def real_value(self, height: float) -> float:
        """The real value of a voxel of this height."""
        return self.level - height if self.volume.inverted else self.level + height

    def _of(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights in place of real values; NaN becomes 0."""
        if self.volume.inverted:
            np.subtract(self.level, real, out=real)
        elif self.level != 0.0:
            np.subtract(real, self.level, out=real)
        return np.fmax(real, 0.0, out=real)


def heights_of(volume: Volume) -> Heights:
    """The heights of a volume above what is background in it."""
    if volume.inverted:
        return Heights(volume, _highest(volume))
    real = _sample(volume)
    lowest = float(real.min()) if real.size else 0.0
    if lowest >= 0.0:
        return Heights(volume, 0.0)
    modality = volume.header.modality
    if modality == "CT" or (not modality and _within(real, _AIR_RANGE_HU).mean() >= _AIR_SHARE):
        return Heights(volume, AIR_HU)
    if (real == lowest).mean() >= _LOWEST_SHARE:
        return Heights(volume, lowest)
    return Heights(volume, 0.0)


def _real_blocks(volume: Volume) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """(z, first y, real values (y, x)); NaN for padding and what is not finite."""
    voxels, padding = volume.voxels, volume.padding
    depth, height, width = voxels.shape
    rows = max(1, min(height, _BLOCK_VOXELS // width))
    buffer = np.empty((rows, width))
    scales = _scales(volume.header)
    for z in range(depth):
        slope, intercept = scales[z % len(scales)]
        for y in range(0, height, rows):
            stored = voxels[z, y : y + rows]
            real = buffer[: len(stored)]
            np.copyto(real, stored, casting="unsafe")
            if padding is not None:
                real[_within(real, padding)] = np.nan
            if slope != 1.0 or intercept != 0.0:
                with np.errstate(over="ignore", invalid="ignore"):
                    real *= slope
                    real += intercept
            if stored.dtype.kind == "f":
                real[~np.isfinite(real)] = np.nan
            yield z, y, real


def _sample(volume: Volume) -> NDArray[np.float64]:
    """Finite real values spread evenly over the volume, without padding.

    The step shares no factor with a row or a slice: else it would visit the same columns only.
    """
    voxels = volume.voxels
    per_slice = voxels.shape[1] * voxels.shape[2]
    step = max(1, voxels.size // _SAMPLE_VOXELS)
    while gcd(step, per_slice) > 1:
        step += 1
    real = voxels.reshape(-1)[::step].astype(np.float64)
    if volume.padding is not None:
        real[_within(real, volume.padding)] = np.nan
    scales = np.array(_scales(volume.header))
    if len(scales) > 1:
        scales = scales[np.arange(0, voxels.size, step) // per_slice]
    with np.errstate(over="ignore", invalid="ignore"):
        real *= scales[:, 0]
        real += scales[:, 1]
    return real[np.isfinite(real)]


def _highest(volume: Volume) -> float:
    """The highest real value, without padding; 0 where there is none."""
    highest = -np.inf
    for _, _, real in _real_blocks(volume):
        highest = float(np.fmax(highest, np.fmax.reduce(real, axis=None)))
    return highest if np.isfinite(highest) else 0.0


def _scales(header: SeriesHeader) -> tuple[tuple[float, float], ...]:
    """(slope, intercept): one pair, or one for each slice (DICOM PS3.3 C.11.1)."""
    frames = header.frames
    if frames is not None and len(frames.rescale) == header.shape[0]:
        return frames.rescale
    return ((header.slope, header.intercept),)


def _within(values: NDArray[Any], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values >= bounds[0]) & (values <= bounds[1])
    return inside
