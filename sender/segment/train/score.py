"""How good a network is on a scan: what counts for a transfer, and Dice beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from sender.segment.options import MARGIN_VOXELS
from sender.segment.train.scans import Scan, read_scan
from sender.segment.unet.lesions import SURE
from sender.segment.unet.segmenter import answer_of, looks_of
from sender.segment.unet.sight import see
from shared.geometry import Box
from shared.mask import unpack_mask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from sender.segment.base import Segmentation
    from sender.segment.unet.network import Network
    from sender.segment.unet.segmenter import Looked
    from sender.segment.unet.sight import Sight
    from shared.volume import Volume

LEAST_COMPONENT_ML = 0.1
"""Components of manual labels above this must be touched by an ROI, each of them."""


@dataclass(frozen=True, slots=True)
class Score:
    """One scan under one network. Shares and Dice from 0 to 1."""

    name: str
    kind: str
    lesion_ml: float
    components: int
    """Of the labels, above `LEAST_COMPONENT_ML`."""
    missed: int
    """Components that no ROI touches."""
    recall: float
    """Lesion voxels inside the ROIs."""
    coarse_recall: float
    """The same for the coarse answer."""
    roi_share: float
    """ROI voxels, margin included, of the volume."""
    roi_to_lesion: float
    rois: int
    dice: float
    """Of what the network outlines, at the volume's own resolution."""
    seconds: float
    """From voxels in memory to ROIs, on this machine, whatever else it does."""


def score(scan: Scan, data: Path, network: Network) -> Score:
    """A network on a scan.

    Raises:
        InputError: the scan is missing or damaged.
    """
    return score_volume(scan, *read_scan(scan, data), network)


def score_volume(scan: Scan, volume: Volume, marked: NDArray[np.bool_], network: Network) -> Score:
    """A network on the voxels of a scan, which may have been changed since they were read.

    Args:
        scan: what they are called.
        volume: the voxels.
        marked: (z, y, x), its labels.
        network: what is scored.
    """
    started_s = time.perf_counter()
    sight = see(volume)
    assert sight is not None  # every scan of the set has a body
    coarse, fine = looks_of(network, sight.brightness)
    answers = [answer_of(volume, sight, looked, MARGIN_VOXELS, "unet") for looked in (coarse, fine)]
    seconds = time.perf_counter() - started_s
    rough, held = (_held(answer, marked.shape) for answer in answers)
    voxel_ml = sight.placement.voxel_mm3(volume.header) / 1000
    sizes = _components(marked, held, voxel_ml)
    lesion = int(marked.sum())
    return Score(
        name=scan.name,
        kind=scan.kind.value,
        lesion_ml=round(lesion * voxel_ml, 2),
        components=len(sizes),
        missed=sum(not touched for touched in sizes),
        recall=_share(marked & held, lesion),
        coarse_recall=_share(marked & rough, lesion),
        roi_share=float(held.mean()),
        roi_to_lesion=_share(held, lesion),
        rois=len(answers[1].rois),
        dice=_dice(marked, _outline(sight, fine)),
        seconds=round(seconds, 2),
    )


def table(scores: Iterable[Score]) -> str:
    """Scores as a Markdown table, in the order given."""
    lines = [
        "| scan | kind | lesion, ml | missed | in ROI | coarse | ROI, volume | / lesion | Dice |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {s.name} | {s.kind} | {s.lesion_ml:.1f} | {s.missed} of {s.components} | "
        f"{s.recall:.1%} | {s.coarse_recall:.1%} | {s.roi_share:.1%} | {s.roi_to_lesion:.1f} | "
        f"{s.dice:.3f} |"
        for s in scores
    ]
    return "\n".join(lines)


def _held(answer: Segmentation, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    held = np.zeros(shape, dtype=np.bool_)
    for roi in answer.rois:
        held[roi.box.slices] |= unpack_mask(roi.mask, roi.box.shape)
    return held


def _components(marked: NDArray[np.bool_], held: NDArray[np.bool_], voxel_ml: float) -> list[bool]:
    """Whether each component of the labels that counts is touched."""
    labels, count = ndimage.label(marked, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)
    touched = np.bincount(labels[held], minlength=count + 1) > 0
    counts = sizes * voxel_ml > LEAST_COMPONENT_ML
    return [bool(touched[number]) for number in range(1, count + 1) if counts[number]]


def _outline(sight: Sight, looked: Looked) -> NDArray[np.bool_]:
    whole = Box.whole(sight.placement.shape)
    return sight.placement.up(looked.chances, whole) > SURE


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _share(part: NDArray[np.bool_], whole: int) -> float:
    return int(part.sum()) / whole if whole else 1.0
