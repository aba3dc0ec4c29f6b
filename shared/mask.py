"""Masks as bytes: which voxels of a box belong to a region that is not a box.

    bits of each slice (row by row, first voxel highest), each slice from a new byte
    -> every slice XORed with the one below it -> one zstd frame

Neighbouring slices of a lesion are nearly alike, so little but their differences is left. A mask is
a value: two masks of the same voxels are the same bytes, and no bytes at all mean the whole box.
How many bits there must be follows from the box, so nothing is allocated on a peer's word.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.codecs.slices import LIBRARY_ERRORS
from shared.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Box, Triple

MAX_MASK_VOXELS = 1 << 26
"""Of the box of one mask: 8 MiB of bits. A region that reaches wider goes as its box."""
_LEVEL = 9
"""Of zstd; higher ones save nothing here."""
_KEPT = 16
"""Masks whose bits are kept unpacked, for they are asked for once a block: 128 MiB at the most."""


def pack_mask(marked: NDArray[np.bool_]) -> bytes:
    """A mask as bytes; none where everything is marked.

    Args:
        marked: (z, y, x), any strides, at least one voxel.

    Raises:
        ValueError: its box is larger than masks may be.
    """
    import imagecodecs

    if marked.size > MAX_MASK_VOXELS:
        raise ValueError(f"a mask over {marked.size} voxels, more than {MAX_MASK_VOXELS}")
    if marked.all():
        return b""
    bits = np.packbits(marked.reshape(marked.shape[0], -1), axis=1)
    bits[1:] ^= bits[:-1].copy()
    return bytes(imagecodecs.zstd_encode(bits.tobytes(), level=_LEVEL))


def unpack_mask(packed: bytes, shape: Triple, part: Box | None = None) -> NDArray[np.bool_]:
    """What a mask over a box of this shape marks; of ``part``, counted from the box's start.

    Returns:
        (z, y, x), a new array.

    Raises:
        CodecError: the bytes are not a mask of this shape.
    """
    _, height, width = shape
    z, y, x = part.slices if part is not None else (slice(None),) * 3
    if not packed:
        return np.ones(part.shape if part is not None else shape, dtype=np.bool_)
    rows = np.unpackbits(_bits(packed, shape)[z], axis=1, count=height * width)
    inside: NDArray[np.bool_] = rows.reshape(-1, height, width)[:, y, x].astype(np.bool_)
    return inside


@lru_cache(_KEPT)
def _bits(packed: bytes, shape: Triple) -> NDArray[np.uint8]:
    """(z, bytes of a slice), read-only, for it is shared."""
    import imagecodecs

    depth, height, width = shape
    if depth * height * width > MAX_MASK_VOXELS:
        raise CodecError(f"a mask over {depth * height * width} voxels")
    bits: NDArray[Any] = np.empty((depth, -(-height * width // 8)), dtype=np.uint8)
    try:
        written = imagecodecs.zstd_decode(packed, out=bits.reshape(-1).data)
    except LIBRARY_ERRORS as error:
        raise CodecError(f"not a mask: {error}") from error
    if len(written) != bits.size:
        raise CodecError(f"a mask of {len(written)} bytes, not {bits.size}")
    np.bitwise_xor.accumulate(bits, axis=0, out=bits)
    bits.flags.writeable = False
    return bits
