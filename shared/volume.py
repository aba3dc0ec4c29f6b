"""A volume: voxels, their header, and the digests that prove them.

The digests' byte order is written down here and nowhere else: voxels in C order (z, y, x), each
value little-endian, whatever the byte order of the source file.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shared.header import SeriesHeader

_HASH_STEP_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Volume:
    """A series in memory."""

    header: SeriesHeader
    voxels: NDArray[Any]
    """(z, y, x), stored values, ``header.dtype``, C-contiguous."""
    padding: tuple[float, float] | None = None
    """Lowest and highest stored value that mean "no pixel here" (DICOM Pixel Padding Value)."""
    inverted: bool = False
    """MONOCHROME1: high stored values are shown dark."""
    attachment: Callable[[], bytes] = field(default=bytes, repr=False)
    """Makes the headers layer, before coding: what the source holds beside the voxels (NIfTI
    extensions, or a zip of the DICOM files without their pixels). Called once the ROI is on its
    way, in a worker, because it may read the source again; the default gives no bytes."""


def volume_digest(header: SeriesHeader, voxels: NDArray[Any]) -> bytes:
    """SHA-256 over dtype, shape, affine, scaling and voxels: what "the same volume" means.

    Hashed, in this order: the text ``medroi-volume-1``; kind and size of the dtype (``i2``); shape
    as three uint32; affine_known as uint8; affine, slope and intercept as float64; for each frame's
    rescale pair two float64; the voxels. Numbers little-endian. Byte order is not hashed: 1 is 1.
    """
    dtype = np.dtype(header.dtype)
    state = hashlib.sha256(b"medroi-volume-1")
    state.update(f"{dtype.kind}{dtype.itemsize}".encode())
    state.update(struct.pack("<3IB", *header.shape, header.affine_known))
    state.update(struct.pack("<18d", *header.affine, header.slope, header.intercept))
    for pair in header.frames.rescale if header.frames else ():
        state.update(struct.pack("<2d", *pair))
    _hash_voxels(state, voxels)
    return state.digest()


def region_digest(voxels: NDArray[Any], owned: NDArray[np.bool_] | None) -> bytes:
    """SHA-256 over the owned voxels of a block, C order, little-endian.

    Args:
        voxels: (z, y, x) stored values.
        owned: (z, y, x) bool, or None for all.
    """
    state = hashlib.sha256()
    _hash_voxels(state, voxels if owned is None else voxels[owned])
    return state.digest()


def _hash_voxels(state: hashlib._Hash, voxels: NDArray[Any]) -> None:
    """Feed the voxels a few megabytes at a time, so that no second volume is ever made."""
    little = voxels.dtype.newbyteorder("<")
    flat = voxels.reshape(-1)  # a view: volumes and blocks are C-contiguous
    step = max(1, _HASH_STEP_BYTES // voxels.itemsize)
    for start in range(0, flat.size, step):
        part = np.ascontiguousarray(flat[start : start + step], dtype=little)
        state.update(part.data)
