"""``unet``: the lesions that the network finds, and where it is in doubt.

    volume -> sight (2 mm) -> 3 mm -> network -> chances -> sure, possible lesions -> masks
                   |                                  coarse answer
                   `-> 3 networks, beside its mirror image and alone -> together -> edges
                                                                        fine answer

The masks are grown by the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.base import Segmentation
from sender.segment.grow import Marks, reach_of, rois_of
from sender.segment.options import MARGIN_VOXELS
from sender.segment.unet.edges import alike, sharpened
from sender.segment.unet.lesions import (
    SURE,
    Budget,
    marked_in_volume,
    parts_of,
    satellites_of,
    united,
    widened,
    within_share,
)
from sender.segment.unet.network import ALONE, BESIDE, Network, why_not
from sender.segment.unet.resample import along_axes, axis_taps
from sender.segment.unet.sight import LOWEST, see
from shared.errors import SettingsError
from shared.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sender.segment.unet.lesions import Part
    from sender.segment.unet.network import Way
    from sender.segment.unet.sight import Sight
    from shared.errors import MedroiError
    from shared.header import SeriesHeader
    from shared.volume import Volume

NOTHING = "No lesion found by the network: the study goes in plain order."
_COARSER = 1.5
"""Of the coarse answer: 3 mm, a third of the work."""
_TOGETHER = 8.0
"""Voxels, 16 mm."""
_DOUBTED = 0.45
"""The highest chance of what one way of looking sees alone: below `SURE`."""
_MM3_PER_ML = 1000.0


@dataclass(frozen=True, slots=True)
class UnetSegmenter:
    """Lesions of the brain on MR: a coarse answer after a quick look, a fine one after two more."""

    margin_voxels: int = MARGIN_VOXELS
    name: str = "unet"

    @classmethod
    def parse(cls, argument: str | None, margin_voxels: int = MARGIN_VOXELS) -> UnetSegmenter:
        """The segmenter of ``unet``.

        Raises:
            SettingsError: something stands behind it.
        """
        if argument is not None:
            raise SettingsError(f"--roi unet expected, got unet:{argument}")
        return cls(margin_voxels)

    @property
    def slow(self) -> bool:
        """Some seconds."""
        return True

    def misfit(self, header: SeriesHeader) -> MedroiError | None:
        """What keeps the network from being run at all: it is the user who chose it."""
        return why_not()

    def native(self, header: SeriesHeader) -> bool:
        """It looks at every series itself."""
        return True

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        """A coarse answer, then a fine one; one alone where nothing stands out at all.

        Raises:
            SettingsError: ONNX Runtime is not installed.
            InputError: the network's files are damaged.
        """
        network = Network.shipped()
        sight = see(volume)
        if sight is None:
            yield Segmentation((), NOTHING, self.name)
            return
        for looked in looks_of(network, sight.brightness):
            yield answer_of(volume, sight, looked, self.margin_voxels, self.name)


@dataclass(frozen=True, slots=True)
class Looked:
    """What the network has seen so far, on the sight's grid."""

    chances: NDArray[np.float32]
    """(z, y, x): the best estimate, of which `SURE` is the outline."""
    any_look: NDArray[np.float32]
    """(z, y, x): the highest of all looks. A lesion that one of them sees is in the ROI."""


def looks_of(network: Network, brightness: NDArray[np.float32]) -> Iterator[Looked]:
    """A quick look, then the whole: every network, with the mirror image and without."""
    coarse = look(network, brightness, _COARSER)
    yield Looked(sharpened(coarse, brightness), coarse)
    beside, alone = (_together(network, brightness, way) for way in (BESIDE, ALONE))
    fine, any_look = agreed(beside, alone, coarse)
    sharp = sharpened(fine, brightness)
    yield Looked(sharp, np.maximum(np.maximum(any_look, sharp), coarse))


def _together(network: Network, brightness: NDArray[np.float32], way: Way) -> NDArray[np.float32]:
    """The mean of all networks."""
    total = np.zeros_like(brightness)
    for member in range(len(network)):
        total += network.chances(brightness, way.mirrored, member, beside=way.beside)
    total /= len(network)
    return total


def agreed(
    beside: NDArray[np.float32], alone: NDArray[np.float32], coarse: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What two ways of looking say together: the best estimate, and what may be lesion.

    A scan beside its mirror image shows what one side has and the other has not; so a lesion is cut
    off where it crosses the midline. Without the image nothing is cut off, and more is taken for
    lesion that is none. So the mean of both holds near what the first has found, coarse and fine;
    further off, what either doubts is at best a possible lesion.

    Args:
        beside: (z, y, x), chances of the scan beside its mirror image.
        alone: (z, y, x), of the scan alone.
        coarse: (z, y, x), of the quick look, beside its mirror image.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    both = (beside + alone) / 2
    found = (beside + coarse) / 2 > SURE
    near = ndimage.distance_transform_edt(~found) < _TOGETHER if found.any() else found
    fine: NDArray[np.float32] = np.where(near, both, np.minimum(beside, alone))
    possible: NDArray[np.float32] = np.where(near, both, np.minimum(both, _DOUBTED))
    return fine, np.maximum(fine, possible)


def answer_of(
    volume: Volume, sight: Sight, looked: Looked, margin_voxels: int, name: str
) -> Segmentation:
    """The ROIs of what has been seen."""
    header, placement, chances = volume.header, sight.placement, looked.any_look
    voxel_ml = placement.voxel_mm3(header) / _MM3_PER_ML
    own_ml = voxel_ml * prod(placement.steps)
    parts = within_share(parts_of(chances, own_ml), header.shape, voxel_ml)
    sure = united((part for part in parts if part.sure), chances.shape)
    outline = sure & (looked.chances > SURE)
    budget = Budget.of(header.shape, voxel_ml, own_ml)
    sure = widened(sure, outline, sight.brightness > LOWEST, budget)
    likeness = alike(looked.chances, sight.brightness)
    parts += satellites_of(likeness, outline, sure, own_ml)
    possible = united((part for part in parts if not part.sure), chances.shape)
    groups = [
        Marks(label, marked_in_volume(chosen, chances, placement))
        for label, chosen in (("lesion", sure), ("possible lesion", possible & ~sure))
        if chosen.any()
    ]
    grown = rois_of(groups, reach_of(header, margin_voxels))
    if not grown.rois:
        return Segmentation((), NOTHING, name)
    share = grown.voxels / Box.whole(header.shape).voxels
    return Segmentation(grown.rois, _reason(parts, share), name)


def look(network: Network, brightness: NDArray[np.float32], coarser: float) -> NDArray[np.float32]:
    """What the network says of a scan that it is shown on a coarser grid, brought back to its own.

    Args:
        network: the one that looks.
        brightness: (z, y, x), the scan's sight.
        coarser: how many voxels of it one of that grid spans.
    """
    shape = brightness.shape
    sizes = [ceil(length / coarser) for length in shape]
    down = [
        axis_taps(length, (np.arange(size) + 0.5) * coarser - 0.5, coarser)
        for length, size in zip(shape, sizes, strict=True)
    ]
    up = [
        axis_taps(size, (np.arange(length) + 0.5) / coarser - 0.5)
        for length, size in zip(shape, sizes, strict=True)
    ]
    return along_axes(network.chances(along_axes(brightness, *down)), *up)


def _reason(parts: list[Part], share: float) -> str:
    sure = [part for part in parts if part.sure]
    possible = len(parts) - len(sure)
    if sure:
        size_ml = sum(part.size_ml for part in sure)
        words = f"The network found {_count(len(sure), 'lesion')} of {size_ml:.1f} ml"
        words += f" and {_count(possible, 'possible one')}" if possible else ""
    else:
        words = f"The network is sure of no lesion and found {_count(possible, 'possible one')}"
    return f"{words}: {share:.1%} of the volume with their margin."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
