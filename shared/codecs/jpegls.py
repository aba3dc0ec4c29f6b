"""JPEG-LS (ISO/IEC 14495-1), exact, slice by slice, by CharLS.

CharLS has two wrappers here. imagecodecs declares 8 or 16 bits whatever the samples use, which
costs 3 % on 512 x 512 slices of 11 bits and 23 % on 70 x 70 of 9. pyjpegls declares the true depth,
but holds the GIL, and its room for the stream is hardly above the slice itself. So pyjpegls encodes
slices that are done in some 5 ms, imagecodecs whatever else, and imagecodecs decodes.

A stream is all header, entropy-coded bytes and end marker. The header is compared whole. The marker
matters: CharLS 2.4.3 counts bits below zero past the end of a stream without one, and works for
seconds on 300 bytes; at a marker it stops.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from shared.codecs.slices import SliceCodec
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_START = b"\xff\xd8"
_FRAME = b"\xff\xf7"
_END = b"\xff\xd9"
_DEPTH_AT = 6
"""Behind SOI, SOF55 and its length."""
_SCAN = bytes.fromhex("ffda 0008 01 01 00 00 00 00")
"""SOS: one component, no mapping table, lossless, not interleaved."""
_MIN_DEPTH = 2
_MAX_HELD_SAMPLES = 1 << 18
"""What pyjpegls may code at once while it holds the GIL: 512 x 512."""
_WORST_GROWTH = 5
"""T.87: a code is at most 4 times as long as its sample (LIMIT); stuffed bits add up to 1/7."""
_HEADER_SPARE_BYTES = 256


def _encode_slice(plane: NDArray[Any], bits: int, settings: Mapping[str, int]) -> bytes:
    depth = max(bits, _MIN_DEPTH, 8 * plane.itemsize - 7)
    if depth < 8 * plane.itemsize and plane.size <= _MAX_HELD_SAMPLES:
        try:
            return _encode_at_depth(plane, depth)
        except RuntimeError:
            pass  # noise: longer than the room that pyjpegls gives it
    return _encode_full(plane)


def _decode_slice(stream: bytes, plane: NDArray[Any]) -> None:
    import imagecodecs

    depth = stream[_DEPTH_AT]
    fits = (depth + 7) // 8 == plane.itemsize
    if not fits or not stream.startswith(_header(plane.shape, depth)):
        raise CodecError(f"jpegls: the header is not that of a {plane.shape} {plane.dtype} image")
    if not stream.endswith(_END):
        raise CodecError("jpegls: the end marker is missing")
    imagecodecs.jpegls_decode(stream, out=plane)


JPEG_LS = SliceCodec("jpegls", {}, _encode_slice, _decode_slice)


def _encode_at_depth(plane: NDArray[Any], depth: int) -> bytes:
    import jpeg_ls  # type: ignore[import-untyped]

    little = plane.astype(plane.dtype.newbyteorder("<"), copy=False)
    return bytes(jpeg_ls.encode_buffer(little.tobytes(), *plane.shape, 1, depth))


def _encode_full(plane: NDArray[Any]) -> bytes:
    import imagecodecs

    room = _WORST_GROWTH * plane.nbytes + _HEADER_SPARE_BYTES
    stream = bytes(imagecodecs.jpegls_encode(plane, out=room))
    # Drops the 44 bytes of the SPIFF directory, which repeat the frame header.
    return _START + stream[stream.index(_FRAME) :]


def _header(shape: tuple[int, ...], depth: int) -> bytes:
    height, width = shape
    frame = struct.pack(">HBHHB3B", 11, depth, height, width, 1, 1, 0x11, 0)
    preset = b""
    if depth > 12:  # LSE: above 12 bits, CharLS spells out the default thresholds and reset value
        preset = b"\xff\xf8" + struct.pack(">HB5H", 13, 1, (1 << depth) - 1, 18, 67, 276, 64)
    return _START + _FRAME + frame + preset + _SCAN
