"""causal3d, exact, of our own: smaller than the standard codecs, for whole numbers of any width.

    version (1 byte) | limbs (1) | bits (1) | smallest sample (8, signed) | flags (1) | rungs (1)
    | step of each rung so far (1 each) | digest of the context (8), if there is one | parts

Samples are coded above the smallest one, in limbs of 16 bits, the lowest first; each limb is cut
into bricks that know nothing of each other: they are coded side by side, and a damaged one costs
itself only. A ladder codes the lowest limb in rungs, each to a smaller step than the one before;
the first rung has the other limbs too. docs/exact_codec.md has the format,
`shared.codecs.causal.model` the model.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from shared.codecs.base import Promise
from shared.codecs.causal.bricks import Effort, Known, decode_brick, encode_brick
from shared.codecs.causal.rungs import Rung
from shared.codecs.given import DIGEST_BYTES, NOTHING
from shared.codecs.parts import pack_parts, split_parts
from shared.codecs.settings import Setting, default_settings, resolve_settings
from shared.errors import CodecError
from shared.workers import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.codecs.given import Given
    from shared.geometry import Triple

    Slices = tuple[slice, slice]

T = TypeVar("T")
W = TypeVar("W")
VERSION = 2
LADDERS: tuple[tuple[int, ...], ...] = (
    (1,),
    (17, 5, 1),
    (9, 3, 1),
    (5, 1),
    (17, 1),
    (9, 1),
    (33, 1),
)
"""The steps of each ladder's rungs; a decoded sample is wrong by half a step at most."""
_HEAD = struct.Struct("!BBBqBB")
_MASKED, _PREVIEWED = 1, 2
_KNOWN = {
    "level": Setting(int(Effort.DEFAULT), int(Effort.FAST), int(Effort.ARCHIVE)),
    "ladder": Setting(0, 0, len(LADDERS) - 1),
    "rung": Setting(1, 1, max(map(len, LADDERS))),
    "threads": Setting(0, 0, 64),
}
"""How hard to work; which ladder, and which of its rungs, counted from 1; bricks at once, 0 for as
many as there are cores, which changes no byte."""
_LIMB_BITS = 16
_MOST_RUNGS = 4
_BRICK_VOXELS = 1 << 20


class _Head(NamedTuple):
    """What a payload says of itself."""

    limbs: int
    bits: int
    base: int
    flags: int
    steps: tuple[int, ...]
    digest: bytes


class _Work(NamedTuple):
    """One brick of one limb."""

    where: Slices
    limb: int
    known: Known


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
        return self.encode_given(block, settings, NOTHING)

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        """The samples of a block, a new array of exactly this shape and type.

        Raises:
            CodecError: the payload does not decode to them.
        """
        return self.decode_given(payload, shape, dtype, settings, NOTHING)

    def encode_given(self, block: Block, settings: Settings, given: Given) -> bytes:
        """See `GivenCodec`."""
        resolved = resolve_settings(self.name, _KNOWN, settings)
        ladder, rung = LADDERS[resolved["ladder"]], resolved["rung"]
        if rung > len(ladder):
            raise CodecError(f"causal3d: ladder {resolved['ladder']} has no rung {rung}")
        samples = block.samples
        self._check_type(samples.dtype)
        mine = samples if given.owned is None else samples[given.owned]
        low, high = (int(mine.min()), int(mine.max())) if mine.size else (0, 0)
        bits = max(1, (high - low).bit_length())
        previewed = given.preview is not None and given.coarse is None and bits <= _LIMB_BITS
        flags = (0 if given.owned is None else _MASKED) | (_PREVIEWED if previewed else 0)
        # Modulo 2**64: a difference that fits is right whatever wrapped on the way.
        base = low if low < 1 << 63 else low - (1 << 64)
        steps = ladder[:rung]
        digest = given.digest() if previewed or rung > 1 else b""
        head = _Head(-(-bits // _LIMB_BITS), bits, base, flags, steps, digest)
        above = samples.astype(np.uint64) - np.uint64(low & (1 << 64) - 1)
        if given.owned is not None:
            above[~given.owned] = 0
        effort = Effort(resolved["level"])

        def encode(work: _Work) -> bytes | int:
            limb = (above[work.where] >> np.uint64(work.limb * _LIMB_BITS)).astype(np.uint16)
            return _encode(np.ascontiguousarray(limb), work.known, effort)

        parts = _in_threads(resolved["threads"], encode, _work(head, samples.shape, given))
        said = _HEAD.pack(VERSION, head.limbs, bits, base, flags, rung) + bytes(steps)
        return said + digest + pack_parts(parts)

    def decode_given(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings, given: Given
    ) -> NDArray[Any]:
        """See `GivenCodec`."""
        threads = resolve_settings(self.name, _KNOWN, settings)["threads"]
        self._check_type(dtype)
        head, parts_at = _read_head(payload, dtype, given)
        work = _work(head, shape, given)
        parts = split_parts(payload[parts_at:], len(work))
        bricks = _in_threads(threads, _decode, list(zip(parts, work, strict=True)))
        above = np.zeros(shape, np.uint64)
        if len(head.steps) > 1 and head.limbs > 1:
            above += _above(given.coarse, head) >> np.uint64(_LIMB_BITS) << np.uint64(_LIMB_BITS)
            if given.owned is not None:
                above[~given.owned] = 0
        for brick, each in zip(bricks, work, strict=True):
            above[each.where] |= brick.astype(np.uint64) << np.uint64(each.limb * _LIMB_BITS)
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        low = head.base if dtype.kind == "i" else head.base & (1 << 64) - 1
        if head.steps[-1] > 1 and low <= most:  # a middle may lie where the type has no samples
            above = np.minimum(above, np.uint64(most - low))
        if low < least or low + int(above.max()) > most:
            raise CodecError(f"causal3d: the samples do not fit {dtype}")
        found: NDArray[Any] = (above + np.uint64(low & (1 << 64) - 1)).astype(dtype)
        if given.owned is not None:
            found[~given.owned] = 0
        return found

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        if not self.takes(dtype):
            raise CodecError(f"causal3d codes whole numbers, not {dtype}")


CAUSAL_3D = Causal3D()


def largest_error(settings: Settings) -> int:
    """What a decoded sample may be wrong by: 0 for an exact encoding."""
    resolved = resolve_settings(CAUSAL_3D.name, _KNOWN, settings)
    ladder = LADDERS[resolved["ladder"]]
    return ladder[min(resolved["rung"], len(ladder)) - 1] // 2


def _read_head(payload: bytes, dtype: np.dtype[Any], given: Given) -> tuple[_Head, int]:
    """What a payload says of itself, and where its parts begin; checked."""
    if len(payload) < _HEAD.size:
        raise CodecError("causal3d: the payload is cut off")
    version, limbs, bits, base, flags, rungs = _HEAD.unpack_from(payload)
    if version != VERSION:
        raise CodecError(f"causal3d: version {version}; this decoder knows {VERSION} only")
    if not 1 <= bits <= 8 * dtype.itemsize or limbs != -(-bits // _LIMB_BITS):
        raise CodecError(f"causal3d: {bits} bits in {limbs} limbs for {dtype} samples")
    steps = tuple(payload[_HEAD.size : _HEAD.size + rungs])
    if not 1 <= rungs <= _MOST_RUNGS or len(steps) < rungs or not _descend(steps):
        raise CodecError(f"causal3d: {rungs} rungs of steps {steps}")
    if flags & ~(_MASKED | _PREVIEWED):
        raise CodecError(f"causal3d: flags {flags}")
    if bool(flags & _MASKED) != (given.owned is not None):
        raise CodecError("causal3d: coded for a mask that is not given, or given one for none")
    if rungs > 1 and given.coarse is None:
        raise CodecError("causal3d: a rung cannot be decoded without the one above it")
    if flags & _PREVIEWED and (given.preview is None or rungs > 1 or limbs > 1):
        raise CodecError("causal3d: coded with a preview that is not given")
    parts_at = _HEAD.size + rungs
    digest = b""
    if flags & _PREVIEWED or rungs > 1:
        digest = payload[parts_at : parts_at + DIGEST_BYTES]
        parts_at += DIGEST_BYTES
        if digest != given.digest():
            raise CodecError("causal3d: coded with another context than is here")
    return _Head(limbs, bits, base, flags, steps, digest), parts_at


def _descend(steps: tuple[int, ...]) -> bool:
    odd = all(step % 2 == 1 for step in steps)
    return odd and all(above > below for above, below in pairwise(steps))


def _work(head: _Head, shape: Triple, given: Given) -> list[_Work]:
    """Every brick of every limb, the lowest limb first, with what is known of it."""
    coarse = preview = None
    if len(head.steps) > 1:
        coarse = (_above(given.coarse, head) & np.uint64((1 << _LIMB_BITS) - 1)).astype(np.int32)
    elif head.flags & _PREVIEWED:
        preview = _carried_on(given.preview, head, given.seen)
    # All limbs but the lowest come whole with the first rung.
    limbs = range(head.limbs if len(head.steps) == 1 else 1)
    work = []
    for limb, where in product(limbs, _cut(shape)):
        depth, rows = (part.stop - part.start for part in where)
        owned = None if given.owned is None else np.ascontiguousarray(given.owned[where])
        rung = Rung(head.steps if limb == 0 else (1,), None if coarse is None else coarse[where])
        context = None
        if preview is not None and _all_seen(given.seen, where, owned):
            context = preview[where]
        bits = min(_LIMB_BITS, head.bits - limb * _LIMB_BITS)
        known = Known((depth, rows, shape[2]), bits, rung, owned, context)
        work.append(_Work(where, limb, known))
    return work


def _above(context: NDArray[Any] | None, head: _Head) -> NDArray[np.uint64]:
    """A context over the smallest sample; what lies below it wraps, and means nothing."""
    assert context is not None  # the head has been checked
    low: NDArray[np.uint64] = context.astype(np.uint64) - np.uint64(head.base & (1 << 64) - 1)
    return low


def _carried_on(
    preview: NDArray[Any] | None, head: _Head, seen: NDArray[np.bool_] | None
) -> NDArray[np.int32]:
    """A preview over the smallest sample; where there is none, the last one before in its row."""
    assert preview is not None  # the head has been checked
    # Exact for any 64-bit type, if a little slow: previews are of 16-bit samples in all but name.
    over = preview.astype(np.float64) - float(head.base)
    samples = np.clip(over, 0, (1 << _LIMB_BITS) - 1).astype(np.int32)
    if seen is not None:
        place = np.where(seen, np.arange(seen.shape[2]), 0)
        samples = np.take_along_axis(samples, np.maximum.accumulate(place, axis=2), axis=2)
    return samples


def _all_seen(
    seen: NDArray[np.bool_] | None, where: Slices, owned: NDArray[np.bool_] | None
) -> bool:
    if seen is None:
        return True
    part = seen[where]
    return bool(part.all() if owned is None else part[owned].all())


def _cut(shape: Triple) -> list[Slices]:
    """The bricks of a shape: slabs of slices and bands of rows, so that little is lost at edges."""
    depth, rows, columns = shape
    wanted = max(1, (depth * rows * columns + _BRICK_VOXELS // 2) // _BRICK_VOXELS)
    slabs, bands = min(
        ((slabs, min(rows, -(-wanted // slabs))) for slabs in range(1, min(depth, wanted) + 1)),
        # A cut between rows loses one and a half times what one between slices does.
        key=lambda cut: 2 * cut[0] * rows + 3 * cut[1] * depth,
    )
    return [(slice(*z), slice(*y)) for z in _shares(depth, slabs) for y in _shares(rows, bands)]


def _shares(length: int, count: int) -> list[tuple[int, int]]:
    return list(pairwise(length * part // count for part in range(count + 1)))


def _encode(samples: NDArray[np.uint16], known: Known, effort: Effort) -> bytes | int:
    mine = samples if known.owned is None else samples[known.owned]
    if not mine.size:
        return 0
    low, high = int(mine.min()), int(mine.max())
    return low if low == high else encode_brick(samples, known, effort)


def _decode(given: tuple[bytes | int, _Work]) -> NDArray[np.int32]:
    part, work = given
    if isinstance(part, int):
        if part >> work.known.bits:
            raise CodecError(f"causal3d: {part} does not fit {work.known.bits} bits")
        return np.full(work.known.shape, part, np.int32)
    return decode_brick(part, work.known)


def _in_threads(threads: int, task: Callable[[W], T], work: Sequence[W]) -> list[T]:
    count = min(len(work), threads or usable_cores())
    if count < 2:
        return [task(each) for each in work]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(task, work))
