"""One brick and its stream: what is said ahead of the model's bits.

    kind (1 byte) | CRC-32 of the samples (4) | ...
    kind 0: the samples, `bits` each, most significant first, padded with zeros
    kind 1: largest sample (2) | weights, 2 bytes each | range coded
    kind 2: largest sample (2) | background (2) | weights, 2 bytes each | range coded

Numbers are big-endian. A brick that the model does not make smaller is kept as kind 0.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from shared.codecs.causal.fitting import fit_weights
from shared.codecs.causal.layout import WEIGHT_BITS, flat_taps, space_taps
from shared.codecs.causal.tables import load_tables
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shared.geometry import Triple

_HEAD = struct.Struct("!BI")
_RAW, _PLAIN, _BACKGROUND = 0, 1, 2
_BACKGROUND_SHARE, _BACKGROUND_CONTRAST = 0.05, 4
"""Of a value that is background: of all voxels, and over its two neighbours in the histogram."""
_SLACK_BYTES = 8
"""That a decoder reads ahead of what it needs."""


def encode_brick(samples: NDArray[np.uint16], bits: int) -> bytes:
    """The stream of a brick of (z, y, x) samples below ``2 ** bits``, bits <= 16."""
    code_brick = _compiled()
    depth, rows, columns = samples.shape
    voxels = samples.astype(np.int32)
    most = int(voxels.max())
    raw_bytes = (samples.size * bits + 7) // 8
    filler = _background_value(voxels, most)
    mask = (voxels == filler).astype(np.uint8)
    known = mask if filler >= 0 else None
    space, flat = space_taps(samples.shape[0]), flat_taps()
    weights = [fit_weights(voxels, known, taps) for taps in (space, flat)]
    head = struct.pack("!H", most) + (struct.pack("!H", filler) if filler >= 0 else b"")
    head += np.concatenate(weights).astype(">i2").tobytes()
    octets = np.zeros(raw_bytes, np.uint8)
    length = code_brick(
        voxels.reshape(-1), mask.reshape(-1), filler, most, depth, rows, columns,
        np.array(space, np.int32), _scaled(weights[0]),
        np.array(flat, np.int32), _scaled(weights[1]),
        octets, False, load_tables(),
    )  # fmt: skip
    crc = _crc(samples)
    if len(head) + length >= raw_bytes:
        return _HEAD.pack(_RAW, crc) + _pack(samples, bits)
    kind = _BACKGROUND if filler >= 0 else _PLAIN
    return _HEAD.pack(kind, crc) + head + octets[:length].tobytes()


def decode_brick(stream: bytes, shape: Triple, bits: int) -> NDArray[np.uint16]:
    """The samples of a brick, (z, y, x).

    Raises:
        CodecError: the stream does not decode to what was encoded.
    """
    if len(stream) < _HEAD.size:
        raise CodecError("causal3d: a brick is cut off")
    kind, crc = _HEAD.unpack_from(stream)
    body = stream[_HEAD.size :]
    if kind == _RAW:
        samples = _unpack(body, shape, bits)
    elif kind in (_PLAIN, _BACKGROUND):
        samples = _decode_modelled(body, shape, bits, background=kind == _BACKGROUND)
    else:
        raise CodecError(f"causal3d: there is no brick of kind {kind}")
    if _crc(samples) != crc:
        raise CodecError("causal3d: a brick decodes to other samples than were encoded")
    return samples


def _decode_modelled(
    body: bytes, shape: Triple, bits: int, *, background: bool
) -> NDArray[np.uint16]:
    code_brick = _compiled()
    space, flat = space_taps(shape[0]), flat_taps()
    weights_at = 4 if background else 2
    count = len(space) + len(flat) + 2
    stream_at = weights_at + 2 * count
    if len(body) < stream_at:
        raise CodecError("causal3d: a brick is cut off in its weights")
    most = int.from_bytes(body[:2], "big")
    filler = int.from_bytes(body[2:4], "big") if background else -1
    if max(most, filler) >> bits:
        raise CodecError(f"causal3d: a sample of {max(most, filler)} does not fit {bits} bits")
    weights = np.frombuffer(body, ">i2", count, weights_at).astype(np.int64)
    octets = np.frombuffer(body, np.uint8, offset=stream_at).copy()
    depth, rows, columns = shape
    voxels = np.zeros(shape, np.int32)
    mask = np.zeros(voxels.size if background else 1, np.uint8)
    read = code_brick(
        voxels.reshape(-1), mask, filler, most, depth, rows, columns,
        np.array(space, np.int32), _scaled(weights[: len(space) + 1]),
        np.array(flat, np.int32), _scaled(weights[len(space) + 1 :]),
        octets, True, load_tables(),
    )  # fmt: skip
    if octets.size > read:
        raise CodecError(f"causal3d: {octets.size - read} bytes too many in a brick")
    return voxels.astype(np.uint16)


def _compiled() -> Callable[..., int]:
    """The model, imported late: numba takes half a second, and more where nothing is cached."""
    try:
        from shared.codecs.causal.model import code_brick
    except (ImportError, RuntimeError) as error:  # no numba, or nowhere to keep machine code
        raise CodecError(f"causal3d cannot be compiled here: {error}") from error
    return code_brick


def _scaled(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The constant, sent in whole samples, in the unit of the weighted sum."""
    scaled = weights.copy()
    scaled[-1] <<= WEIGHT_BITS
    return scaled


def _background_value(voxels: NDArray[np.int32], most: int) -> int:
    """The value that stands out of the histogram; -1 where none does."""
    counts = np.bincount(voxels.reshape(-1), minlength=most + 2)
    value = int(counts.argmax())
    beside = int(counts[value + 1]) + (int(counts[value - 1]) if value else 0)
    often = int(counts[value])
    stands_out = often > _BACKGROUND_SHARE * voxels.size and often > _BACKGROUND_CONTRAST * beside
    return value if stands_out else -1


def _crc(samples: NDArray[np.uint16]) -> int:
    """Of the samples as big-endian 16-bit numbers, behind their shape as three of 32."""
    return zlib.crc32(
        samples.astype(">u2").tobytes(), zlib.crc32(struct.pack("!3I", *samples.shape))
    )


def _pack(samples: NDArray[np.uint16], bits: int) -> bytes:
    spread = np.unpackbits(samples.astype(">u2").reshape(-1, 1).view(np.uint8), axis=1)
    return np.packbits(spread[:, 16 - bits :]).tobytes()


def _unpack(body: bytes, shape: Triple, bits: int) -> NDArray[np.uint16]:
    count = shape[0] * shape[1] * shape[2]
    if len(body) != (count * bits + 7) // 8:
        raise CodecError(f"causal3d: {len(body)} bytes of raw samples, not {count} x {bits} bits")
    spread = np.zeros((count, 16), np.uint8)
    packed = np.unpackbits(np.frombuffer(body, np.uint8), count=count * bits)
    spread[:, 16 - bits :] = packed.reshape(count, bits)
    return np.packbits(spread, axis=1).view(">u2").astype(np.uint16).reshape(shape)
