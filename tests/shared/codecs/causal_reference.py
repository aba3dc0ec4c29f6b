"""A second decoder of causal3d, for reading: one number after the other, no compiler.

It shares nothing with the codec but the file of tables. It was written with the codec's source at
hand, and docs/exact_codec.md was completed from it: that the page alone is enough, nobody has shown
yet. `fast` and `default` only.
"""

from __future__ import annotations

import struct
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.shared.codecs.causal_reference_basics import (
    Bits,
    Known,
    clamp,
    plane_taps,
    side_taps,
    space_taps,
)
from tests.shared.codecs.causal_reference_model import Default, Fast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.shared.codecs.causal_reference_basics import Shape


def decode(
    payload: bytes,
    shape: Shape,
    dtype: np.dtype[Any],
    owned: NDArray[np.bool_] | None = None,
    coarse: NDArray[Any] | None = None,
    preview: NDArray[Any] | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """The samples of a payload; the context's digest is taken on trust."""
    version, limbs, bits, base, flags, rungs = struct.unpack_from("!BBBqBB", payload)
    assert version == 2
    steps = tuple(payload[13 : 13 + rungs])
    at = 13 + rungs + (8 if flags & 2 or rungs > 1 else 0)
    base = base if dtype.kind == "i" else base % (1 << 64)
    mine = np.ones(shape, np.bool_) if owned is None else owned
    over, shown = None, None
    if rungs > 1:
        over = _over(coarse, base, lambda value: value % (1 << 64))
    elif flags & 2:
        shown = _carried(_over(preview, base, lambda value: clamp(value, 0, 65535)), seen)
    above = np.zeros(shape, object)
    if over is not None and limbs > 1:
        above += over >> 16 << 16
    work = list(product(range(limbs if rungs == 1 else 1), _bricks(shape)))
    for part, (limb, where) in zip(_parts(payload[at:], len(work)), work, strict=True):
        size = mine[where].shape
        if isinstance(part, int):
            found = np.full(size, part)
        else:
            context = None
            if shown is not None and (seen is None or seen[where][mine[where]].all()):
                context = shown[where]
            below = None if over is None else over[where] & 65535
            sent = steps if limb == 0 else (1,)
            known = Known(size, min(16, bits - 16 * limb), sent, mine[where], below, context)
            found = _brick(part, known)
        above[where] += found.astype(object) << (16 * limb)
    least = np.iinfo(dtype).max - base
    if steps[-1] > 1:
        above = np.minimum(above, least)
    samples: NDArray[Any] = (above + base).astype(dtype)
    samples[~mine] = 0
    return samples


def _raw(body: bytes, known: Known) -> NDArray[Any]:
    step, most = known.steps[-1], (1 << known.bits) - 1
    if known.coarse is None:
        width = (most // step).bit_length()
    else:
        width = ((min(known.steps[:-1]) - 2) // step + 1).bit_length()
    spread = "".join(f"{octet:08b}" for octet in body)
    found = np.zeros(known.shape, np.int64)
    for place, at in enumerate(zip(*np.nonzero(known.owned), strict=True)):
        first = (known.interval(at) or (0, 0))[0] // step
        piece = int(spread[place * width : (place + 1) * width], 2)
        found[at] = known.middle(at, first + piece, most)
    return found


def _brick(stream: bytes, known: Known) -> NDArray[Any]:
    kind, body = stream[0], stream[5:]
    if kind == 0:
        return _raw(body, known)
    fast, has_background, has_side = kind & 3 == 1, bool(kind & 4), bool(kind & 8)
    assert kind & 3 < 3, "archive is not read here"
    most, at, filler = int.from_bytes(body[:2], "big"), 2, -1
    if has_background:
        filler, at = int.from_bytes(body[2:4], "big"), 4
    is_rung = known.coarse is not None
    sides = side_taps(rung=is_rung, wide=bool(kind & 64)) if has_side else []
    taps = [space_taps(known.shape[0], fast=fast), plane_taps(10 if fast else 18)]
    weights: list[list[int]] = []
    for some in taps:
        count = len(sides) + len(some) + 1
        if kind & 16:
            plain = [0] * count
            plain[0 if (0, 0, 0) in sides else len(sides)] = 4096
            weights.append(plain)
        else:
            weights.append(list(struct.unpack_from(f">{count}h", body, at)))
            at += 2 * count
    side = (known.coarse if is_rung else known.preview) if has_side else None
    model = (Fast if fast else Default)(known, most, filler, side, sides, taps, weights)
    model.is_shown = bool(kind & 32)
    return model.decode(Bits(body[at:]))


def _over(context: NDArray[Any] | None, base: int, within: Any) -> NDArray[Any]:
    assert context is not None
    over = np.vectorize(lambda value: within(int(value) - base), otypes=[object])
    found: NDArray[Any] = over(context)
    return found


def _carried(shown: NDArray[Any], seen: NDArray[np.bool_] | None) -> NDArray[Any]:
    """A preview; where there is none, the last one before in its row."""
    shown = shown.copy()
    for z, y, x in np.ndindex(shown.shape):
        if seen is not None and x and not seen[z, y, x]:
            shown[z, y, x] = shown[z, y, x - 1]
    return shown


def _bricks(shape: Shape) -> list[tuple[slice, slice, slice]]:
    depth, rows, columns = shape
    wanted = max(1, (depth * rows * columns + (1 << 19)) >> 20)
    cuts = [(s, min(rows, -(-wanted // s))) for s in range(1, min(depth, wanted) + 1)]
    slabs, bands = min(cuts, key=lambda cut: 2 * cut[0] * rows + 3 * cut[1] * depth)
    return [
        (
            slice(depth * s // slabs, depth * (s + 1) // slabs),
            slice(rows * b // bands, rows * (b + 1) // bands),
            slice(0, columns),
        )
        for s, b in product(range(slabs), range(bands))
    ]


def _parts(payload: bytes, count: int) -> list[bytes | int]:
    at = 1 + payload[0]
    prefix = payload[1:at]
    records: list[tuple[int, int]] = []

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            octet, at = payload[at], at + 1
            value, shift = value | (octet & 127) << shift, shift + 7
            if octet < 128:
                return value

    for _ in range(count):
        length = varint()
        records.append((length, 0 if length else varint()))
    parts: list[bytes | int] = []
    for length, value in records:
        parts.append(prefix + payload[at : at + length] if length else value)
        at += length
    return parts
