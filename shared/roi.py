"""A region of interest as a segmenter finds it, and MedROI's 54-byte record of one."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shared.errors import InputError
from shared.geometry import Affine, Box, Triple

RECORD_BYTES = 54
_RECORD = struct.Struct("<6h3h9f")


@dataclass(frozen=True, slots=True)
class Roi:
    """Voxels that must be exact first."""

    box: Box
    label: str
    """What it is, such as ``lesion`` or ``tissue``."""
    rank: int
    """0 is sent first."""


@dataclass(frozen=True, slots=True)
class RoiRecord:
    """What MedROI keeps of a crop (Kim & Jang 2026): box, shape, and a 3x3 affine.

    The record alone loses the translation of the affine: a scanner position cannot be had from a
    box and a shape. Whoever keeps a record keeps the full affine beside it.
    """

    box: Box
    shape: Triple
    """Of the whole volume, (z, y, x)."""
    linear: tuple[float, ...]
    """Nine floats, the rows of the affine's upper left 3x3, as float32 holds them."""

    def pack(self) -> bytes:
        """54 bytes, little-endian: xmin, xmax, ymin, ymax, zmin, zmax (inclusive) and x, y, z sizes
        as int16, nine affine floats as float32, rows first.

        The paper does not name a byte order and its code writes the machine's; ours is fixed.
        """
        (z0, y0, x0), (z1, y1, x1) = self.box.start, self.box.stop
        z, y, x = self.shape
        return _RECORD.pack(x0, x1 - 1, y0, y1 - 1, z0, z1 - 1, x, y, z, *self.linear)

    @classmethod
    def unpack(cls, record: bytes) -> RoiRecord:
        """The record that `pack` wrote.

        Raises:
            InputError: it is not 54 bytes, or its box does not lie in its shape.
        """
        if len(record) != RECORD_BYTES:
            raise InputError("MedROI record", f"{RECORD_BYTES} bytes expected, got {len(record)}")
        x0, x1, y0, y1, z0, z1, x, y, z, *linear = _RECORD.unpack(record)
        try:
            box = Box((z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1))
            fits = box.inside(Box.whole((z, y, x)))
        except ValueError:
            fits = False
        if not fits:
            raise InputError("MedROI record", f"its box does not lie in its shape {x}x{y}x{z}")
        return cls(box, (z, y, x), tuple(linear))

    @classmethod
    def of(cls, box: Box, shape: Triple, affine: Affine) -> RoiRecord:
        """The record of a box in a volume.

        Raises:
            InputError: an axis is longer than an int16 can say.
        """
        if max(shape) > 32767:
            raise InputError("MedROI record", f"an axis of {max(shape)} voxels does not fit int16")
        rows = (affine[0:3], affine[4:7], affine[8:11])
        linear = tuple(struct.unpack("<f", struct.pack("<f", v))[0] for row in rows for v in row)
        return cls(box, shape, linear)
