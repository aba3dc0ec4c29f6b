"""A region of interest as a segmenter finds it, and MedROI's 54-byte record of one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from shared.errors import InputError
from shared.geometry import Box

if TYPE_CHECKING:
    from shared.geometry import Affine, Triple

RECORD_BYTES = 54
_RECORD = struct.Struct("<6h3h9f")
_LINEAR_FLOATS = 9
_INT16_MAX = (1 << 15) - 1


@dataclass(frozen=True, slots=True)
class Roi:
    """Voxels that must be exact first."""

    box: Box
    label: str
    """What it is, such as ``lesion`` or ``tissue``."""
    rank: int
    """0 is sent first."""
    mask: bytes = b""
    """`shared.mask`'s: which voxels of the box they are; empty for all of them."""


@dataclass(frozen=True, slots=True)
class RoiRecord:
    """What MedROI keeps of a crop (Kim & Jang 2026): box, shape, and a 3x3 affine.

    The record alone loses the translation of the affine: a scanner position cannot be had from a
    box and a shape. Whoever keeps a record keeps the full affine beside it.

    Raises:
        InputError: the box does not lie in the shape, an axis is longer than an int16 can say, or
            the floats are not nine finite numbers.
    """

    box: Box
    shape: Triple
    """Of the whole volume, (z, y, x)."""
    linear: tuple[float, ...]
    """Nine floats, the rows of the affine's upper left 3x3, as float32 holds them."""

    def __post_init__(self) -> None:
        z, y, x = self.shape
        if max(self.shape) > _INT16_MAX:
            raise _refusal(f"an axis of {max(self.shape)} voxels does not fit int16")
        if min(self.shape) < 1 or not self.box.inside(Box.whole(self.shape)):
            raise _refusal(f"its box {self.box} does not lie in its shape {z},{y},{x}")
        if len(self.linear) != _LINEAR_FLOATS or not all(map(isfinite, self.linear)):
            raise _refusal(f"{_LINEAR_FLOATS} finite affine floats expected, got {self.linear}")

    def pack(self) -> bytes:
        """54 bytes, little-endian: xmin, xmax, ymin, ymax, zmin, zmax (inclusive) and x, y, z sizes
        as int16, nine affine floats as float32, rows first.

        The paper does not name a byte order and its code writes the machine's; ours is fixed.

        Raises:
            InputError: an affine float is beyond float32.
        """
        (z0, y0, x0), (z1, y1, x1) = self.box.start, self.box.stop
        z, y, x = self.shape
        try:
            return _RECORD.pack(x0, x1 - 1, y0, y1 - 1, z0, z1 - 1, x, y, z, *self.linear)
        except OverflowError:
            raise _refusal(f"an affine float does not fit float32: {self.linear}") from None

    @classmethod
    def unpack(cls, record: bytes) -> RoiRecord:
        """The record that `pack` wrote.

        Raises:
            InputError: it is not 54 bytes, its box is empty or does not lie in its shape, or an
                affine float is not finite.
        """
        if len(record) != RECORD_BYTES:
            raise _refusal(f"{RECORD_BYTES} bytes expected, got {len(record)}")
        x0, x1, y0, y1, z0, z1, x, y, z, *linear = _RECORD.unpack(record)
        try:
            box = Box((z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1))
        except ValueError:
            raise _refusal(f"x {x0} to {x1}, y {y0} to {y1}, z {z0} to {z1} is no box") from None
        return cls(box, (z, y, x), tuple(linear))

    @classmethod
    def of(cls, box: Box, shape: Triple, affine: Affine) -> RoiRecord:
        """The record of a box in a volume; what `unpack` of its bytes gives, equal in every field.

        Raises:
            InputError: an axis is longer than an int16 can say, an affine float is beyond float32,
                or the box does not lie in the volume.
        """
        linear = (*affine[0:3], *affine[4:7], *affine[8:11])
        return cls.unpack(cls(box, shape, linear).pack())


def _refusal(why: str) -> InputError:
    return InputError("MedROI record", why)
