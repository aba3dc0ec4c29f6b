"""Volumes and label maps that the segmenters' tests are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from sender.read.source import read_study
from shared.header import Frames, SeriesHeader
from shared.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, DTypeLike, NDArray

OBLIQUE = np.array(
    [
        [-0.8, 0.01, 0.3, 115.9],
        [0.02, 0.79, 0.7, -118.8],
        [0.03, -0.2, 5.9, -25.4],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""A thick oblique stack: no axis is along another's."""

ORIENTATIONS = [
    list(zip(axes, flips, strict=True))
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    for flips in np.array(np.meshgrid([1, -1], [1, -1], [1, -1])).reshape(3, 8).T
]
"""The 48 ways to order a box, as nibabel writes them: for x, y, z the new axis and its sign."""


def volume_of(
    voxels: ArrayLike,
    dtype: DTypeLike | None = None,
    *,
    modality: str = "",
    affine: NDArray[Any] | None = OBLIQUE,
    slope: float = 1.0,
    intercept: float = 0.0,
    rescale: tuple[tuple[float, float], ...] = (),
    padding: tuple[float, float] | None = None,
    inverted: bool = False,
    label: str = "",
) -> Volume:
    """A volume of these voxels, (z, y, x); of unknown place where the affine is None."""
    array = np.ascontiguousarray(voxels, dtype)
    place = np.eye(4) if affine is None else affine
    frames = Frames((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0), (), rescale) if rescale else None
    header = SeriesHeader(
        label=label,
        modality=modality,
        shape=(array.shape[0], array.shape[1], array.shape[2]),
        dtype=array.dtype.str,
        affine=tuple(place.ravel().tolist()),
        affine_known=affine is not None,
        slope=slope,
        intercept=intercept,
        file_header=b"",
        voxel_offset=352,
        frames=frames,
    )
    return Volume(header=header, voxels=array, padding=padding, inverted=inverted)


def read_scan(path: Path) -> Volume:
    """A real scan, a NIfTI file or a folder of one DICOM series."""
    (volume,) = read_study([path], series=None, volume=None).volumes
    return volume


def write_labels(
    path: Path,
    labels: NDArray[Any],
    affine: NDArray[Any] | None = OBLIQUE,
    kind: type[nibabel.nifti1.Nifti1Image] = nibabel.nifti1.Nifti1Image,
) -> Path:
    """A label map (z, y, x) as a NIfTI file; of unknown place where the affine is None."""
    image = kind(labels.T, affine, dtype=labels.dtype)
    image.to_filename(path)
    return path
