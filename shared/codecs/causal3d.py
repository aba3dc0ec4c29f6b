"""causal3d, exact, of our own: smaller than the standard codecs, for whole numbers of any width.

    version (1 byte) | limbs (1) | bits (1) | smallest sample (8, signed) | parts

Samples are coded above the smallest one, in limbs of 16 bits, the lowest first; each limb is cut
into bricks that know nothing of each other: they are coded side by side, and a damaged one costs
itself only. docs/exact_codec.md has the format, `shared.codecs.causal.model` the model.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shared.codecs.base import Promise
from shared.codecs.parts import pack_parts, split_parts
from shared.codecs.settings import Setting, default_settings, resolve_settings
from shared.errors import CodecError
from shared.workers import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

    Slices = tuple[slice, slice]

T = TypeVar("T")
VERSION = 1
_HEAD = struct.Struct("!BBBq")
_KNOWN = {"threads": Setting(0, 0, 64)}
"""Bricks at once; 0 for as many as there are cores. It changes no byte."""
_LIMB_BITS = 16
_BRICK_VOXELS = 1 << 20


class Causal3D:
    """The codec of least bytes."""

    name = "causal3d"
    promise = Promise.EXACT

    @property
    def defaults(self) -> Settings:
        """Every setting it knows, with its default."""
        return default_settings(_KNOWN)

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Whole numbers, signed or not, in this machine's byte order."""
        return dtype.kind in "iu" and dtype.isnative

    def encode(self, block: Block, settings: Settings) -> bytes:
        """The encoding of a block.

        Raises:
            CodecError: the settings or samples are none of this codec's.
        """
        threads = resolve_settings(self.name, _KNOWN, settings)["threads"]
        samples = block.samples
        self._check_type(samples.dtype)
        low, high = int(samples.min()), int(samples.max())
        # Modulo 2**64: a difference that fits is right whatever wrapped on the way.
        base = low if low < 1 << 63 else low - (1 << 64)
        above = samples.astype(np.uint64) - np.uint64(low & (1 << 64) - 1)
        bits = max(1, (high - low).bit_length())
        limbs = -(-bits // _LIMB_BITS)
        work: list[tuple[NDArray[np.uint16], int]] = []
        for limb in range(limbs):
            plane = (above >> np.uint64(limb * _LIMB_BITS)).astype(np.uint16)
            depth = min(_LIMB_BITS, bits - limb * _LIMB_BITS)
            work += [(np.ascontiguousarray(plane[part]), depth) for part in _cut(samples.shape)]
        parts = _in_threads(threads, _encode, work)
        return _HEAD.pack(VERSION, limbs, bits, base) + pack_parts(parts)

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        """The samples of a block, a new array of exactly this shape and type.

        Raises:
            CodecError: the payload does not decode to them.
        """
        threads = resolve_settings(self.name, _KNOWN, settings)["threads"]
        self._check_type(dtype)
        if len(payload) < _HEAD.size:
            raise CodecError("causal3d: the payload is cut off")
        version, limbs, bits, base = _HEAD.unpack_from(payload)
        if version != VERSION:
            raise CodecError(f"causal3d: version {version}; this decoder knows {VERSION} only")
        if not 1 <= bits <= 8 * dtype.itemsize or limbs != -(-bits // _LIMB_BITS):
            raise CodecError(f"causal3d: {bits} bits in {limbs} limbs for {dtype} samples")
        pieces = _cut(shape)
        parts = split_parts(payload[_HEAD.size :], limbs * len(pieces))
        work = []
        for number, part in enumerate(parts):
            limb, piece = divmod(number, len(pieces))
            z, y = pieces[piece]
            size = (z.stop - z.start, y.stop - y.start, shape[2])
            work.append((part, size, min(_LIMB_BITS, bits - limb * _LIMB_BITS)))
        above = np.zeros(shape, np.uint64)
        for number, brick in enumerate(_in_threads(threads, _decode, work)):
            limb, piece = divmod(number, len(pieces))
            above[pieces[piece]] |= brick.astype(np.uint64) << np.uint64(limb * _LIMB_BITS)
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        low = base if dtype.kind == "i" else base & (1 << 64) - 1
        if low < least or low + int(above.max()) > most:
            raise CodecError(f"causal3d: the samples do not fit {dtype}")
        return (above + np.uint64(low & (1 << 64) - 1)).astype(dtype)

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        if not self.takes(dtype):
            raise CodecError(f"causal3d codes whole numbers, not {dtype}")


CAUSAL_3D = Causal3D()


def _cut(shape: Triple) -> list[Slices]:
    """The bricks of a shape: slabs of slices; bands of rows where slices are too few."""
    depth, rows, columns = shape
    wanted = max(1, (depth * rows * columns + _BRICK_VOXELS // 2) // _BRICK_VOXELS)
    slabs = min(depth, wanted)
    bands = min(rows, max(1, wanted // slabs))
    return [(slice(*z), slice(*y)) for z in _shares(depth, slabs) for y in _shares(rows, bands)]


def _shares(length: int, count: int) -> list[tuple[int, int]]:
    return list(pairwise(length * part // count for part in range(count + 1)))


def _encode(work: tuple[NDArray[np.uint16], int]) -> bytes | int:
    from shared.codecs.causal.bricks import encode_brick

    samples, bits = work
    low, high = int(samples.min()), int(samples.max())
    return low if low == high else encode_brick(samples, bits)


def _decode(work: tuple[bytes | int, Triple, int]) -> NDArray[np.uint16]:
    from shared.codecs.causal.bricks import decode_brick

    part, shape, bits = work
    if isinstance(part, int):
        if part >> bits:
            raise CodecError(f"causal3d: {part} does not fit {bits} bits")
        return np.full(shape, part, np.uint16)
    return decode_brick(part, shape, bits)


W = TypeVar("W")


def _in_threads(threads: int, task: Callable[[W], T], work: Sequence[W]) -> list[T]:
    count = min(len(work), threads or usable_cores())
    if count < 2:
        return [task(each) for each in work]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(task, work))
