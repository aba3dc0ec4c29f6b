"""A NIfTI label map: where it lies, and which voxels it marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sender.read.nifti import open_nifti, read_nifti
from sender.segment.grid import Grid
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sender.read.nifti import NiftiFile
    from shared.header import SeriesHeader

_WHOLE_TOLERANCE = 1e-3
"""How far a scaled label may be from a whole number, for slope and intercept are float32. Labels
without scaling must be whole."""


def open_labels(path: Path) -> NiftiFile:
    """The header of a label map, checked; no voxel is read.

    Raises:
        InputError: it is no NIfTI file that we read, or has more than three axes.
    """
    file = open_nifti(path)
    if file.header.volumes != 1:
        raise InputError(path, f"a label map has three axes, this is {file.header.volumes} volumes")
    return file


def grid_of(file: NiftiFile) -> Grid:
    """Where a label map lies."""
    header = file.header
    return Grid(header.shape, header.affine if header.affine_known else None)


def read_marked(file: NiftiFile) -> NDArray[np.bool_]:
    """Which voxels carry a label other than 0: (z, y, x), in the file's own order.

    Call it once the grid is found to be that of the volume: that bounds what it takes.

    Raises:
        InputError: the file is damaged, or a value is not a whole number.
    """
    volume = read_nifti(file, volume=None)
    marked = np.empty(volume.voxels.shape, dtype=np.bool_)
    for z, plane in enumerate(volume.voxels):
        np.not_equal(_labels(file.path, plane, volume.header, z), 0, out=marked[z])
    return marked


def _labels(path: Path, plane: NDArray[Any], header: SeriesHeader, z: int) -> NDArray[Any]:
    """The labels of a slice, whole numbers."""
    scaled = (header.slope, header.intercept) != (1.0, 0.0)
    if not scaled and plane.dtype.kind in "iu":
        return plane
    with np.errstate(over="ignore", invalid="ignore"):  # what is not a number is refused below
        real = plane.astype(np.float64) * header.slope + header.intercept
        labels = np.rint(real)
        whole = np.abs(real - labels) <= (_WHOLE_TOLERANCE if scaled else 0.0)
    if not whole.all():
        y, x = (int(index) for index in np.argwhere(~whole)[0])
        raise InputError(
            path, f"not a label map: voxel (z, y, x) = ({z}, {y}, {x}) is {real[y, x]:g}"
        )
    return labels
