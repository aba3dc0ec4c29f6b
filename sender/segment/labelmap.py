"""A NIfTI label map: where it lies, and which voxels it marks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sender.read.nifti import open_nifti, read_nifti
from sender.segment.grid import Grid
from sender.segment.supplied import GridLabels, space_of
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sender.read.nifti import NiftiFile
    from sender.segment.supplied import Wanted
    from shared.header import SeriesHeader

_WHOLE_TOLERANCE = 1e-3
"""How far a scaled label may be from a whole number, for slope and intercept are float32. Labels
without scaling must be whole."""


def open_labels(path: Path) -> GridLabels:
    """The header of a label map, checked; no voxel is read.

    Raises:
        InputError: it is no NIfTI file that we read, or has more than three axes.
    """
    file = open_nifti(path)
    header = file.header
    if header.volumes != 1:
        raise InputError(path, f"a label map has three axes, this is {header.volumes} volumes")
    grid = Grid(header.shape, header.affine if header.affine_known else None)
    return GridLabels(path, grid, "", space_of(header.raw), partial(read_marked, file))


def read_marked(file: NiftiFile, wanted: Wanted | None = None) -> NDArray[np.bool_]:
    """Which voxels carry a label other than 0, or one of these: (z, y, x), in the file's own order.

    Raises:
        InputError: the file is damaged, or a value is not a whole number.
    """
    volume = read_nifti(file, volume=None)
    marked = np.empty(volume.voxels.shape, dtype=np.bool_)
    values = None if wanted is None else sorted(wanted)
    for z, plane in enumerate(volume.voxels):
        labels = _labels(file.path, plane, volume.header, z)
        if values is None:
            np.not_equal(labels, 0, out=marked[z])
        else:
            marked[z] = np.isin(labels, values)
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
