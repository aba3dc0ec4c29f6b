"""The labelled scans: which there are, whose they are, and which fold tests them.

The folder is laid out as shared/data/README.md says. Every subject stands in one fold only, so a
fold's network has never seen the people it is tested on. BRATS-2013 is under a non-commercial
licence and MS is another disease: both are tested on and never learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from sender.read.source import read_study
from sender.segment.labelmap import open_labels
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.volume import Volume

FOLDS = 3


class Kind(StrEnum):
    """What a scan is for."""

    FLAIR = "flair"
    """BraTS-type: brain cut out, 1 mm, manual labels; the cross-validated figure is over these."""
    OTHER = "other"
    """Tumours in other contrasts, thick slices, whole heads, or with automatic labels."""
    HEALTHY = "healthy"
    """No lesion: the network should find none."""
    MS = "ms"
    """Multiple sclerosis: tested beside, never learnt from."""
    FOREIGN = "foreign"
    """BRATS-2013, non-commercial: tested on, never learnt from."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan and its labels."""

    name: str
    subject: str
    kind: Kind
    image: str
    """Path in the data folder."""
    labels: str | None
    """None where there is nothing to mark."""
    fold: int | None
    """Which fold tests it; None: every fold learns from it, or none does (`Kind`)."""

    @property
    def learnt(self) -> bool:
        """Whether shipped weights may learn from it."""
        return self.kind not in (Kind.MS, Kind.FOREIGN)


def _brats21(number: str, fold: int) -> Scan:
    name = f"brats2021_{number}"
    stem = f"tumour/{name}/BraTS2021_{number}"
    image, labels = f"{stem}_flair.nii.gz", f"{stem}_seg.nii.gz"
    return Scan(name, name, Kind.FLAIR, image, labels, fold)


def _brats13(number: str) -> Scan:
    name = f"brats2013_pat{number}"
    image, labels = (
        f"tumour/{name}/Flair_subtrMeanDivStd.nii.gz",
        f"tumour/{name}/OTMultiClass.nii.gz",
    )
    return Scan(name, name, Kind.FOREIGN, image, labels, None)


def _healthy(number: str, fold: int | None) -> Scan:
    image = f"mr/ds002748/sub-{number}_T1w.nii.gz"
    return Scan(f"ds002748_{number}", f"ds002748_{number}", Kind.HEALTHY, image, None, fold)


def _ms(number: str) -> Scan:
    stem = f"mr/open_ms/patient{number}_MNI"
    image, labels = f"{stem}_FLAIR.nii.gz", f"{stem}_lesionmask.nii.gz"
    return Scan(f"ms_patient{number}", f"ms_patient{number}", Kind.MS, image, labels, None)


def _other(name: str, subject: str, image: str, labels: str, fold: int) -> Scan:
    return Scan(name, subject, Kind.OTHER, image, labels, fold)


_T1CE = "tumour/brats2021_00006/BraTS2021_00006"
SCANS: tuple[Scan, ...] = (
    _brats21("00006", 0),
    _brats21("01476", 0),
    _brats21("01479", 0),
    _brats21("01482", 0),
    _brats21("01477", 1),
    _brats21("01480", 1),
    _brats21("01483", 1),
    _brats21("01478", 2),
    _brats21("01485", 2),
    Scan(
        "brats_unknown", "brats_unknown", Kind.FLAIR,
        "tumour/brats_unknown/flair.nii.gz", "tumour/brats_unknown/truth.nii.gz", 2,
    ),
    _other(
        "brats2021_00006_t1ce", "brats2021_00006",
        f"{_T1CE}_t1ce.nii.gz", f"{_T1CE}_seg.nii.gz", 0,
    ),
    _other(
        "brats17_t1ce", "brats17_CBICA_ARF_1",
        "tumour/brats17_CBICA_ARF_1/t1ce_zscored.nii.gz",
        "tumour/brats17_CBICA_ARF_1/seg_4c.nii.gz", 2,
    ),
    _other(
        "brain1_gd_t1", "pyradiomics_brain1",
        "tumour/pyradiomics/brain1_image.nii.gz", "tumour/pyradiomics/brain1_label.nii.gz", 1,
    ),
    _other(
        "tcga_FG-6692", "tcga_FG-6692",
        "tumour/tcga_FG-6692/fla_bet.nii.gz", "tumour/tcga_FG-6692/autoseg_mav.nii.gz", 1,
    ),
    _other(
        "tcga_DU-7294", "tcga_DU-7294",
        "tumour/tcga_DU-7294/fla_bet.nii.gz", "tumour/tcga_DU-7294/autoseg_mav.nii.gz", 2,
    ),
    _other(
        "brainix_flair", "brainix",
        "mr/dicom/brainix_flair", "mr/dicom/brainix_flair_tumour_mask.nii.gz", 0,
    ),
    _healthy("01", 0),
    _healthy("08", 1),
    _healthy("15", 2),
    _healthy("22", None),
    _healthy("29", None),
    _healthy("36", None),
    _ms("19"),
    _ms("26"),
    _brats13("0001"),
    _brats13("0002"),
    _brats13("0003"),
    _brats13("0005"),
    _brats13("0006"),
)  # fmt: skip


def learnt_by(fold: int | None) -> list[Scan]:
    """What the network of a fold learns from; None: the shipped network, which learns from all."""
    return [scan for scan in SCANS if scan.learnt and (fold is None or scan.fold != fold)]


def held_out_by(fold: int) -> list[Scan]:
    """What the network of a fold is tested on: its own subjects, and those nobody learns from."""
    return [scan for scan in SCANS if scan.fold == fold or not scan.learnt]


def read_scan(scan: Scan, data: Path) -> tuple[Volume, NDArray[np.bool_]]:
    """A scan and which of its voxels are lesion, in its own order.

    Raises:
        InputError: a file is missing or damaged, or scan and labels lie on different grids.
    """
    (volume,) = read_study([data / scan.image], series=None, volume=None).volumes
    if scan.labels is None:
        return volume, np.zeros(volume.header.shape, dtype=np.bool_)
    drawn = open_labels(data / scan.labels).drawn_on(volume.header, None)
    if drawn.resampled:
        raise InputError(data / scan.labels, f"not on the grid of {scan.name}")
    return volume, np.ascontiguousarray(drawn.marked)
