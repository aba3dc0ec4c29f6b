"""``--roi-out``: the ROIs that were used, as a NIfTI label map or a DICOM Segmentation.

    FILE.nii, FILE.nii.gz   a label map on the grid of the series: rank 0 is 1, rank 1 is 2, ...
    FILE.dcm                a segmentation with a segment for each ROI
    FILE                    both

A series after the first that has ROIs of its own gets a file with its number: ``FILE-2.nii``.
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import numpy as np

from sender.read.nifti_header import series_header
from shared.errors import SettingsError
from shared.mask import unpack_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sender.segment.base import Segmentation
    from shared.roi import Roi
    from shared.volume import Volume

_SUFFIXES = (".nii.gz", ".nii", ".dcm")
_LEVEL = 4
"""Of gzip: masks are small at any."""


def check_roi_out(path: Path) -> Path:
    """The path, if files can be put there.

    Raises:
        SettingsError: it is a folder, or its folder is not there.
    """
    if path.is_dir():
        raise SettingsError(f"--roi-out {path}: expected a file, this is a folder")
    if not path.parent.is_dir():
        raise SettingsError(f"--roi-out {path}: there is no such folder to put it in")
    return path


def write_rois(path: Path, found: Sequence[tuple[Volume, Segmentation]]) -> list[Path]:
    """Write the ROIs of every series that has some; the files, whole or not there at all.

    Raises:
        InputError: a DICOM source has gone or changed since it was read.
    """
    stem, suffix = _split(path)
    written = []
    for number, (volume, segmentation) in enumerate(found, start=1):
        if not segmentation.rois and number > 1:
            continue
        name = stem if number == 1 else f"{stem}-{number}"
        for kind in [suffix] if suffix else [".nii.gz", ".dcm"]:
            target = path.with_name(name + kind)
            _put(target, _content(kind, volume, segmentation))
            written.append(target)
    return written


def label_map(rois: Sequence[Roi], volume: Volume) -> NDArray[np.uint8]:
    """Rank + 1 where an ROI is, else 0: (z, y, x)."""
    labels = np.zeros(volume.header.shape, dtype=np.uint8)
    for roi in rois:
        labels[roi.box.slices][unpack_mask(roi.mask, roi.box.shape)] = roi.rank + 1
    return labels


def nifti_of(rois: Sequence[Roi], volume: Volume) -> bytes:
    """A label map as the bytes of a .nii file."""
    header = series_header(
        volume.header.shape,
        np.dtype("<u1"),
        volume.header.affine,
        affine_known=volume.header.affine_known,
        slope=1.0,
        intercept=0.0,
        description="ROIs by rank + 1",
    )
    return header + bytes(4) + label_map(rois, volume).tobytes()


def _content(kind: str, volume: Volume, segmentation: Segmentation) -> bytes:
    if kind == ".dcm":
        from sender.write.seg import seg_of

        return seg_of(segmentation, volume)
    plain = nifti_of(segmentation.rois, volume)
    return gzip.compress(plain, _LEVEL, mtime=0) if kind == ".nii.gz" else plain


def _split(path: Path) -> tuple[str, str]:
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :].lower()
    return path.name, ""


def _put(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
