"""The scan that every peer sends, and what the truth about it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAX_SPAN = 1 << 15
"""Between the smallest and the largest value: low resolutions of wavelet codecs overshoot, and are
read as signed."""


@dataclass(frozen=True)
class Scan:
    """One volume of whole numbers, and where a lesion is in it."""

    path: Path
    """The NIfTI file that it is."""
    voxels: NDArray[np.int32]
    """(z, y, x), stored values."""
    affine: NDArray[np.float64]
    """Voxel (x, y, z) to patient mm, RAS."""
    roi: NDArray[np.bool_]
    """(z, y, x); the boxes that medroi makes exact first."""

    @property
    def raw_bytes(self) -> int:
        """Of its voxels, at 16 bits each."""
        return 2 * self.voxels.size

    @property
    def value_range(self) -> float:
        """Largest less smallest value: the peak of PSNR."""
        return float(self.voxels.max() - self.voxels.min())

    def samples(self) -> NDArray[np.uint16]:
        """The voxels less the smallest one, for codecs that want them unsigned."""
        samples: NDArray[np.uint16] = (self.voxels - self.voxels.min()).astype(np.uint16)
        return samples

    def psnr_db(self, square_error: float, count: int) -> float:
        """Peak signal to noise over so many voxels; infinite where there is no error."""
        if square_error == 0:
            return inf
        return float(10 * np.log10(self.value_range**2 * count / square_error))


def read_scan(path: Path, boxes: Sequence[Sequence[Sequence[int]]]) -> Scan:
    """A scan with an ROI of boxes as medroi's reports have them.

    Raises:
        InputError: not one volume of whole numbers of up to 15 bits.
    """
    image: Any = nibabel.load(path)
    stored = np.asarray(image.dataobj.get_unscaled())
    if stored.ndim != 3 or stored.dtype.kind not in "iu":
        raise InputError(str(path), "the comparison wants one volume of whole numbers")
    voxels = np.ascontiguousarray(stored.T).astype(np.int32)
    if int(voxels.max()) - int(voxels.min()) >= MAX_SPAN or voxels.max() == voxels.min():
        raise InputError(str(path), "the comparison wants values of up to 15 bits, not all alike")
    roi = np.zeros(voxels.shape, bool)
    for (z0, z1), (y0, y1), (x0, x1) in boxes:
        roi[z0:z1, y0:y1, x0:x1] = True
    return Scan(path, voxels, np.asarray(image.affine, float), roi)


def nifti_layout(header: bytes) -> tuple[int, np.dtype[Any]]:
    """Where the voxels of a NIfTI-1 file begin, and their type."""
    if len(header) < 352:
        return 352, np.dtype("u1")
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    (code,) = struct.unpack_from(order + "h", header, 70)
    kinds = {2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4"}
    return int(struct.unpack_from(order + "f", header, 108)[0]), np.dtype(order + kinds[code])
