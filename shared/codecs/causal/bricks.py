"""One brick and its stream: what is said ahead of the model's bits.

    kind (1 byte) | CRC-32 of what it decodes to (4) | ...
    raw:       the number of each sample's piece, most significant bit first, padded with zeros
    modelled:  largest sample (2) | background (2), if there is one | weights (2 each), unless plain
               | range coded

A kind is an effort (0: raw) in its two lowest bits, then whether there is a background, whether
what is known beforehand is looked at, whether the weights are plain (`plain_weights`), whether the
rung above shows what is background, and whether more of that rung is looked at. Numbers are
big-endian. A brick that the model does not make smaller is kept raw.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.codecs.causal.fitting import Fit, Planes, fit_weights, plain_weights
from shared.codecs.causal.layout import (
    EXPERTS,
    PAD,
    WEIGHT_BITS,
    Tap,
    flat_taps,
    online_taps,
    own_plane_count,
    side_taps,
    space_taps,
)
from shared.codecs.causal.tables import load_table
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared.codecs.causal.rungs import Rung
    from shared.geometry import Triple

_HEAD = struct.Struct("!BI")
_RAW = 0
_EFFORT_BITS, _HAS_BACKGROUND, _HAS_SIDE, _IS_PLAIN, _IS_SHOWN, _IS_WIDE = 3, 4, 8, 16, 32, 64
_KINDS = 128
_BACKGROUND_SHARE, _BACKGROUND_CONTRAST = 0.05, 4
"""Of a value that is background: of all voxels, and over its two neighbours in the histogram."""
_PLAIN_MOST = 7
"""Up to here samples are labels, not shades: weights cost more than they save."""
_SIDE_GAIN = 0.985
"""A preview is looked at where it makes the mean error so much smaller."""


class Effort(IntEnum):
    """How hard a brick is worked on, at both ends."""

    FAST = 1
    DEFAULT = 2
    ARCHIVE = 3


_EXPERTS = {Effort.DEFAULT: (0,) * EXPERTS, Effort.ARCHIVE: (0,) * (EXPERTS + 1)}


@dataclass(frozen=True, slots=True)
class Known:
    """What both ends know of a brick before its stream."""

    shape: Triple
    bits: int
    """Every sample is below ``2 ** bits``, bits <= 16."""
    rung: Rung
    owned: NDArray[np.bool_] | None = None
    """(z, y, x); the others are not coded and decode to 0. None for all."""
    preview: NDArray[np.int32] | None = None
    """(z, y, x), somewhat like the samples."""

    @property
    def is_refined(self) -> bool:
        """Whether there is a rung above."""
        return self.rung.coarse is not None

    @property
    def side(self) -> NDArray[np.int32] | None:
        """What the model may look at: what the rung above has found, else a preview."""
        return self.preview if self.rung.coarse is None else self.rung.coarse


class _Said(NamedTuple):
    """What is said of a modelled brick ahead of its bits."""

    effort: Effort
    most: int
    filler: int
    space: NDArray[np.int64]
    flat: NDArray[np.int64]
    has_side: bool
    is_plain: bool = False
    is_shown: bool = False
    """The rung above shows background, and only that, by its value."""
    is_wide: bool = False
    """More of the rung above is looked at."""

    def kind(self) -> int:
        """Of its stream."""
        return (
            self.effort
            | (_HAS_BACKGROUND if self.filler >= 0 else 0)
            | (_HAS_SIDE if self.has_side else 0)
            | (_IS_PLAIN if self.is_plain else 0)
            | (_IS_SHOWN if self.is_shown else 0)
            | (_IS_WIDE if self.is_wide else 0)
        )

    def head(self) -> bytes:
        """What stands ahead of its bits."""
        head = struct.pack("!H", self.most)
        head += struct.pack("!H", self.filler) if self.filler >= 0 else b""
        if self.is_plain:
            return head
        return head + np.concatenate([self.space, self.flat]).astype(">i2").tobytes()

    def sides(self, known: Known) -> list[Tap]:
        """Where what is known beforehand is looked at."""
        return side_taps(rung=known.is_refined, wide=self.is_wide) if self.has_side else []


def encode_brick(samples: NDArray[np.uint16], known: Known, effort: Effort) -> bytes:
    """The stream of a brick of (z, y, x) samples."""
    voxels = samples.astype(np.int32)
    mine = voxels if known.owned is None else voxels[known.owned]
    most = int(mine.max())
    piece = known.rung.piece(voxels)
    decoded = known.rung.middle(piece, most)
    filler = _background_value(mine, most)
    if filler >= 0:
        decoded[voxels == filler] = filler
    crc = _crc(decoded, known.owned)
    width = known.rung.pieces_bits(known.bits)
    raw_bytes = (mine.size * width + 7) // 8
    said = _fit(voxels, decoded, known, effort, filler, most)
    kind, content = _content(voxels, known, said, raw_bytes)
    # What helps a prediction may be known from the interval already: only bytes tell.
    if known.is_refined and not said.is_plain and effort is not Effort.FAST:
        wide = _fit(voxels, decoded, known, effort, filler, most, wide=True)
        kind, content = min(
            (kind, content),
            _content(voxels, known, wide, raw_bytes),
            key=lambda each: len(each[1]),
        )
    if len(content) >= raw_bytes:
        flat = piece.reshape(-1) if known.owned is None else piece[known.owned]
        raw = known.rung.middle(piece, (1 << known.bits) - 1)
        return _HEAD.pack(_RAW, _crc(raw, known.owned)) + _pack(flat, width)
    return _HEAD.pack(kind, crc) + content


def _content(
    voxels: NDArray[np.int32], known: Known, said: _Said, raw_bytes: int
) -> tuple[int, bytes]:
    """A modelled brick's kind and content; cut off, but long enough to be told, beyond raw."""
    octets = np.zeros(raw_bytes, np.uint8)
    length = _run(octets, voxels.copy(), known, said, decoding=False)
    return said.kind(), said.head() + octets[:length].tobytes()


def decode_brick(stream: bytes, known: Known) -> NDArray[np.int32]:
    """What a brick decodes to, (z, y, x).

    Raises:
        CodecError: the stream does not decode to what was encoded.
    """
    if len(stream) < _HEAD.size:
        raise CodecError("causal3d: a brick is cut off")
    kind, crc = _HEAD.unpack_from(stream)
    body = stream[_HEAD.size :]
    decoded = _decode_raw(body, known) if kind == _RAW else _decode_modelled(body, known, kind)
    if _crc(decoded, known.owned) != crc:
        raise CodecError("causal3d: a brick decodes to other samples than were encoded")
    return decoded


def _decode_raw(body: bytes, known: Known) -> NDArray[np.int32]:
    width = known.rung.pieces_bits(known.bits)
    most = (1 << known.bits) - 1
    if known.owned is None:
        count = known.shape[0] * known.shape[1] * known.shape[2]
        return known.rung.middle(_unpack(body, count, width).reshape(known.shape), most)
    piece = np.zeros(known.shape, np.int32)
    piece[known.owned] = _unpack(body, int(np.count_nonzero(known.owned)), width)
    decoded = known.rung.middle(piece, most)
    decoded[~known.owned] = 0
    return decoded


def _decode_modelled(body: bytes, known: Known, kind: int) -> NDArray[np.int32]:
    has_background, has_side = bool(kind & _HAS_BACKGROUND), bool(kind & _HAS_SIDE)
    is_shown, is_wide = bool(kind & _IS_SHOWN), bool(kind & _IS_WIDE)
    if kind >= _KINDS or kind & _EFFORT_BITS == _RAW:
        raise CodecError(f"causal3d: there is no brick of kind {kind}")
    if has_side and known.side is None:
        raise CodecError("causal3d: a brick was coded by a context that is not here")
    if (is_shown and not has_background) or ((is_shown or is_wide) and not known.is_refined):
        raise CodecError(f"causal3d: a brick of kind {kind} needs a rung above, or a background")
    effort = Effort(kind & _EFFORT_BITS)
    few = effort is Effort.FAST
    is_plain = bool(kind & _IS_PLAIN)
    sides = side_taps(rung=known.is_refined, wide=is_wide) if has_side else []
    counts = [
        len(sides) + len(space_taps(known.shape[0], few=few)) + 1,
        len(sides) + len(flat_taps(few=few)) + 1,
    ]
    weights_at = 4 if has_background else 2
    stream_at = weights_at + (0 if is_plain else 2 * sum(counts))
    if len(body) < stream_at:
        raise CodecError("causal3d: a brick is cut off in its weights")
    most = int.from_bytes(body[:2], "big")
    filler = int.from_bytes(body[2:4], "big") if has_background else -1
    if max(most, filler) >> known.bits:
        raise CodecError(
            f"causal3d: a sample of {max(most, filler)} does not fit {known.bits} bits"
        )
    if is_plain:
        weights = np.concatenate([plain_weights(count, sides) for count in counts])
    else:
        weights = np.frombuffer(body, ">i2", sum(counts), weights_at).astype(np.int64)
    space, flat = weights[: counts[0]], weights[counts[0] :]
    said = _Said(effort, most, filler, space, flat, has_side, is_plain, is_shown, is_wide)
    octets = np.frombuffer(body, np.uint8, offset=stream_at).copy()
    voxels = np.zeros(known.shape, np.int32)
    read = _run(octets, voxels, known, said, decoding=True)
    if octets.size > read:
        raise CodecError(f"causal3d: {octets.size - read} bytes too many in a brick")
    if known.owned is not None:
        voxels[~known.owned] = 0
    return voxels


def _fit(
    voxels: NDArray[np.int32],
    decoded: NDArray[np.int32],
    known: Known,
    effort: Effort,
    filler: int,
    most: int,
    *,
    wide: bool = False,
) -> _Said:
    """The experts' weights, and whether what is known beforehand helps them."""
    from shared.codecs.causal.planes import fill_planes

    coded = np.ones(known.shape, np.uint8)
    if known.owned is not None:
        coded[~known.owned] = 0
    if filler >= 0:
        coded[voxels == filler] = 0
    few = effort is Effort.FAST
    shown = _shows_background(voxels, known, filler)
    if most <= _PLAIN_MOST:
        sides = side_taps(rung=known.is_refined) if known.side is not None else []
        space, flat = (
            plain_weights(len(sides) + len(taps) + 1, sides)
            for taps in (space_taps(known.shape[0], few=few), flat_taps(few=few))
        )
        return _Said(effort, most, filler, space, flat, known.side is not None, True, shown)
    planes = fill_planes(decoded.reshape(-1), coded.reshape(-1), known.shape)
    chosen, wanted = np.flatnonzero(coded), voxels.reshape(-1)

    interval = known.rung.interval() if wide else None

    def both(side: NDArray[np.int32] | None) -> list[Fit]:
        sides = side_taps(rung=known.is_refined, wide=wide) if side is not None else []
        brick = Planes(known.shape, planes, side, sides)
        return [
            fit_weights(brick, wanted, chosen, taps, few=few, interval=interval)
            for taps in (space_taps(known.shape[0], few=few), flat_taps(few=few))
        ]

    fits = both(_padded(known.side))
    has_side = known.side is not None
    if known.preview is not None and known.rung.coarse is None:
        alone = both(None)
        has_side = fits[0].error < _SIDE_GAIN * alone[0].error
        fits = fits if has_side else alone
    space, flat = fits[0].weights, fits[1].weights
    return _Said(effort, most, filler, space, flat, has_side, False, shown, wide)


def _run(
    octets: NDArray[np.uint8],
    voxels: NDArray[np.int32],
    known: Known,
    said: _Said,
    *,
    decoding: bool,
) -> int:
    """Code a modelled brick; returns the bytes written or read, ``voxels`` are as decoded."""
    try:  # numba takes half a second to import, and more where nothing is cached
        from shared.codecs.causal.background import ASKED, BACKGROUND, FOREIGN, OTHER
        from shared.codecs.causal.model import Brick, code_brick
        from shared.codecs.causal.quick import code_quick_brick
    except (ImportError, RuntimeError) as error:  # no numba, or nowhere to keep machine code
        raise CodecError(f"causal3d cannot be compiled here: {error}") from error
    depth, few = known.shape[0], said.effort is Effort.FAST
    interval = known.rung.interval()
    none = np.zeros(0, np.int32)
    low, high = (none, none) if interval is None else (each.reshape(-1) for each in interval)
    marks = np.full(voxels.size, ASKED if said.filler >= 0 else OTHER, np.uint8)
    if said.filler >= 0 and interval is not None:
        marks[(said.filler < low) | (said.filler >= high)] = OTHER
    if said.is_shown and known.rung.coarse is not None:
        marks[:] = np.where(known.rung.coarse.reshape(-1) == said.filler, BACKGROUND, OTHER)
    if known.owned is not None:
        marks[~known.owned.reshape(-1)] = FOREIGN
    side = _padded(known.side) if said.has_side else None
    brick = Brick(
        voxels.reshape(-1),
        marks,
        known.shape,
        said.filler,
        said.most,
        known.rung.step,
        low,
        high,
        none if side is None else side,
        _taps(said.sides(known)),
        _taps(space_taps(depth, few=few)),
        _taps(flat_taps(few=few)),
        _taps(online_taps(depth) if said.effort is Effort.ARCHIVE else []),
        own_plane_count(depth),
        _scaled(said.space),
        _scaled(said.flat),
    )
    if few:
        return int(code_quick_brick(octets, decoding, brick, load_table()))
    return int(code_brick(octets, decoding, brick, load_table(), _EXPERTS[said.effort]))


def _shows_background(voxels: NDArray[np.int32], known: Known, filler: int) -> bool:
    """Whether the rung above shows background, and only that, by its value."""
    if filler < 0 or known.rung.coarse is None:
        return False
    alike = (known.rung.coarse == filler) == (voxels == filler)
    return bool(np.all(alike if known.owned is None else alike[known.owned]))


def _taps(taps: Sequence[Tap]) -> NDArray[np.int32]:
    return np.array(taps, np.int32).reshape(-1, 3)


def _padded(side: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
    """In planes, flat: two before the first, one behind the last, three voxels around each."""
    if side is None:
        return None
    return np.pad(side, ((2, 1), (PAD, PAD), (PAD, PAD)), mode="edge").reshape(-1)


def _scaled(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The constant, sent in whole samples, in the unit of the weighted sum."""
    scaled = weights.copy()
    scaled[-1] <<= WEIGHT_BITS
    return scaled


def _background_value(mine: NDArray[np.int32], most: int) -> int:
    """The value that stands out of the histogram; -1 where none does."""
    counts = np.bincount(mine.reshape(-1), minlength=most + 2)
    value = int(counts.argmax())
    beside = int(counts[value + 1]) + (int(counts[value - 1]) if value else 0)
    often = int(counts[value])
    stands_out = often > _BACKGROUND_SHARE * mine.size and often > _BACKGROUND_CONTRAST * beside
    return value if stands_out else -1


def _crc(decoded: NDArray[np.int32], owned: NDArray[np.bool_] | None) -> int:
    """Of owned samples as big-endian 16-bit numbers, behind their shape as three of 32."""
    mine = decoded if owned is None else decoded[owned]
    return zlib.crc32(mine.astype(">u2").tobytes(), zlib.crc32(struct.pack("!3I", *decoded.shape)))


def _pack(pieces: NDArray[np.int32], width: int) -> bytes:
    spread = np.unpackbits(pieces.astype(">u2").reshape(-1, 1).view(np.uint8), axis=1)
    return np.packbits(spread[:, 16 - width :]).tobytes()


def _unpack(body: bytes, count: int, width: int) -> NDArray[np.int32]:
    if len(body) != (count * width + 7) // 8:
        raise CodecError(f"causal3d: {len(body)} bytes of raw samples, not {count} x {width} bits")
    spread = np.zeros((count, 16), np.uint8)
    packed = np.unpackbits(np.frombuffer(body, np.uint8), count=count * width)
    spread[:, 16 - width :] = packed.reshape(count, width)
    return np.packbits(spread, axis=1).view(">u2").astype(np.int32).reshape(-1)
