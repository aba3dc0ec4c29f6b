"""The scans of a fold in memory, as the network sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from sender.segment.train.augment import Example
from sender.segment.train.scans import Kind, learnt_by, read_scan
from sender.segment.unet.sight import body_of, normalised, see, see_labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PATCH = (64, 80, 64)
"""Of a volume: at 2 mm 13 x 16 x 13 cm, most of a brain, and at 3 mm all of it."""
_SLICE_PATCH = (16, 80, 80)
"""Of a slice that is repeated: the network is 3-D, the set figshare2d is not."""
_WEIGHTS = {Kind.FLAIR: 1.0, Kind.OTHER: 0.3, Kind.HEALTHY: 0.15}
"""How often a scan of a kind is looked at, against a FLAIR."""
_EVERY = 3
"""Of figshare2d's slices, neighbours of which are nearly alike."""
_SLICES_SHARE = 0.04
"""Of all looks, at figshare2d."""


def examples_of(fold: int | None, data: Path) -> list[Example]:
    """Everything that a fold's network learns from, read and reduced.

    Raises:
        InputError: a scan is missing or damaged.
    """
    found = []
    for scan in learnt_by(fold):
        volume, marked = read_scan(scan, data)
        sight = see(volume)
        assert sight is not None  # each of them has a body
        lesion = see_labels(marked, sight.placement)
        outside = _outside(sight.brightness)
        weight = _WEIGHTS[scan.kind]
        pastes = scan.kind is Kind.FLAIR
        found.append(
            Example(scan.name, sight.brightness, lesion, outside, PATCH, weight, pastes=pastes)
        )
    slices = _slices(data)
    each = _SLICES_SHARE / (1 - _SLICES_SHARE) * sum(e.weight for e in found) / len(slices)
    return found + [
        Example("figshare2d", bright, lesion, np.zeros_like(bright), _SLICE_PATCH, each)
        for bright, lesion in slices
    ]


def _outside(brightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Voxels to a brain that was cut out; zeros for a whole head."""
    cut_out = (brightness <= -3.0 + 1e-3).mean() > 0.3
    if not cut_out:
        return np.zeros_like(brightness)
    body = ndimage.binary_closing(brightness > -2.5, iterations=2)
    away: NDArray[np.float32] = ndimage.distance_transform_edt(~body).astype(np.float32)
    return away


def _slices(data: Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """figshare2d's slices, 1.9 mm a pixel, each repeated into a slab."""
    with np.load(data / "tumour/figshare2d/pack_128x128.npz") as pack:
        images, packed = pack["image"], pack["mask"]
    found = []
    for image, bits in zip(images[::_EVERY], packed[::_EVERY], strict=True):
        heights = image[np.newaxis].astype(np.float32)
        body = body_of(heights)
        if body is None:
            continue
        lesion = np.unpackbits(bits, axis=-1)[:, :128].astype(np.float32)
        bright = np.repeat(normalised(heights, body), 4, axis=0)
        found.append((bright, np.repeat(lesion[np.newaxis], 4, axis=0)))
    return found
