"""Compressed frames to stored values: each transfer syntax has one decoder, checked from outside.

What the header of a codestream claims is compared with what the file says *before* a decoder may
allocate from it: unguarded, streams of 0.3 kB kept OpenJPH busy for over 45 s and CharLS for 8 s.
Behind these checks 0.27 (JPEG 2000) to 2 million (JPEG) mutants of a small stream of each gave no
crash, nothing above 0.02 s and no memory to speak of.

All decoders are imagecodecs', which let go of the GIL, so frames are decoded in threads:
libjpeg-turbo 3, which also reads lossless JPEG (the two lossless JPEG codecs beside it crash on
mutants within seconds), CharLS, OpenJPEG (OpenJPH fills a cut stream up instead of refusing it)
and PackBits.

A damaged stream is refused where it shows. Flipped bits inside a JPEG scan may not: JPEG has no
checksum.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sender.read.dicom_image import PixelFormat

_BASE = "1.2.840.10008.1.2"
NATIVE_SYNTAXES = frozenset((_BASE, f"{_BASE}.1", f"{_BASE}.1.99", f"{_BASE}.2"))
"""Implicit and explicit little-endian, deflated, explicit big-endian."""
OWN_PRECISION = frozenset(f"{_BASE}.4.{end}" for end in (80, 81, 90, 91, 201, 202, 203))
"""Syntaxes whose streams say how many bits count; values of the others are cut to Bits Stored."""
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Start of frame: of JPEG (T.81 table B.1), and of JPEG-LS (T.87 table C.1)."""
_BASELINE, _EXTENDED, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
_END_OF_IMAGE = b"\xff\xd9"
_TAIL_BYTES = 64
"""Padding that may follow the end of an image."""
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ (T.800 A.3); a JP2 file, which DICOM does not want, has boxes before it."""
_MAX_TILES = 65_535
_RLE_HEADER = struct.Struct("<16L")
"""PS3.5 G.5: the number of segments, and where each begins."""


def decoder_for(syntax: str) -> Callable[[bytes, PixelFormat], NDArray[Any]] | None:
    """The decoder of a compressed transfer syntax; None where nobody decodes it."""
    return _DECODERS.get(syntax.removeprefix(f"{_BASE}."))


def cut_unused_bits(values: NDArray[Any], form: PixelFormat) -> bool:
    """Clear, in place, the bits above Bits Stored, as pydicom does.

    PS3.5 8.1.1: bits above High Bit are "unused"; old files keep overlays there.

    Returns:
        Whether they held anything but a sign.
    """
    spare = form.bits_allocated - form.bits_stored
    if not spare or form.keyword != "PixelData":
        return False
    low = -(1 << form.bits_stored - 1) if form.signed else 0
    high = (1 << form.bits_stored - form.signed) - 1
    if int(values.min()) >= low and int(values.max()) <= high:
        return False
    above = values.view(f"u{values.itemsize}") >> form.bits_stored
    held = bool(((above != 0) & (above != (1 << spare) - 1)).any()) or not form.signed
    _sign_extend(values, spare)
    return held


def _sign_extend(values: NDArray[Any], spare: int) -> None:
    """Drop the highest bits; what is the highest then is the sign of a signed type."""
    np.left_shift(values, spare, out=values)
    np.right_shift(values, spare, out=values)


def _decode_jpeg(stream: bytes, form: PixelFormat) -> NDArray[Any]:
    _check_frame_header(stream, form, (_BASELINE, _EXTENDED))
    return _fit(imagecodecs.jpeg8_decode(stream), form)


def _decode_lossless_jpeg(stream: bytes, form: PixelFormat) -> NDArray[Any]:
    _check_frame_header(stream, form, (_LOSSLESS,))
    return _fit(imagecodecs.jpeg8_decode(stream), form)


def _decode_jpeg_ls(stream: bytes, form: PixelFormat) -> NDArray[Any]:
    """JPEG-LS knows no sign: a signed value arrives in its lowest bits."""
    precision = _check_frame_header(stream, form, (_JPEG_LS,))
    values = _fit(imagecodecs.jpegls_decode(stream), form)
    if form.signed and precision < form.bits_allocated:
        _sign_extend(values, form.bits_allocated - precision)
    return values


def _decode_jpeg_2000(stream: bytes, form: PixelFormat) -> NDArray[Any]:
    """Where codestream and file disagree on the sign, the file is right (as in pydicom)."""
    precision, signed = _check_size_marker(stream, form)
    values = _fit(imagecodecs.jpeg2k_decode(stream, numthreads=1), form)
    if signed != form.signed and precision < form.bits_allocated:
        _sign_extend(values, form.bits_allocated - precision)
    return values


def _decode_rle(stream: bytes, form: PixelFormat) -> NDArray[Any]:
    """PS3.5 annex G: a PackBits segment for each byte of a value, the highest first."""
    width, pixels = form.bits_allocated // 8, form.rows * form.columns
    count, *starts = _RLE_HEADER.unpack_from(stream)
    bounds = [*starts[:width], len(stream)]
    if count != width or bounds[0] != _RLE_HEADER.size or any(a >= b for a, b in pairwise(bounds)):
        raise ValueError(f"its RLE header ({count} segments) does not fit {width} bytes per value")
    values = np.empty((pixels, width), dtype=np.uint8)
    for segment, (start, stop) in enumerate(pairwise(bounds)):
        part = imagecodecs.packbits_decode(stream[start:stop], out=pixels + 1)
        if not pixels <= len(part) <= pixels + 1:  # a byte may follow to make the length even
            raise ValueError(f"an RLE segment gives {len(part)} bytes for {pixels} pixels")
        values[:, width - 1 - segment] = np.frombuffer(part, dtype=np.uint8)[:pixels]
    return values.reshape(-1).view(form.dtype).reshape(form.rows, form.columns)


_DECODERS: dict[str, Callable[[bytes, PixelFormat], NDArray[Any]]] = {
    "4.50": _decode_jpeg,
    "4.51": _decode_jpeg,
    "4.57": _decode_lossless_jpeg,
    "4.70": _decode_lossless_jpeg,
    "4.80": _decode_jpeg_ls,
    "4.81": _decode_jpeg_ls,
    "4.90": _decode_jpeg_2000,
    "4.91": _decode_jpeg_2000,
    "4.201": _decode_jpeg_2000,
    "4.202": _decode_jpeg_2000,
    "4.203": _decode_jpeg_2000,
    "5": _decode_rle,
}


def _fit(values: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """The values in the type that the file declares; a narrower type widens."""
    if values.shape != (form.rows, form.columns):
        raise ValueError(f"a frame decodes to {values.shape}, not {(form.rows, form.columns)}")
    if values.dtype.itemsize > form.dtype.itemsize:
        raise ValueError(f"a frame decodes to {values.dtype}, which {form.dtype} cannot hold")
    return values.astype(form.dtype)


def _check_frame_header(stream: bytes, form: PixelFormat, kinds: tuple[int, ...]) -> int:
    """Compare a JPEG or JPEG-LS frame header with the file; the precision it names."""
    if _END_OF_IMAGE not in stream[-_TAIL_BYTES:]:
        raise ValueError("a compressed frame is cut: it has no end-of-image marker")
    if stream[:2] != b"\xff\xd8":
        raise ValueError("a compressed frame is no JPEG")
    at = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", stream, at)
        if mark != 0xFF:
            raise ValueError("a compressed frame has no JPEG frame header")
        if kind == 0xFF:  # fill byte (T.81 B.1.1.2)
            at += 1
            continue
        if kind in _SOF_MARKERS:
            break
        at += 2 + length
    precision, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 4)
    if kind not in kinds:
        raise ValueError(f"JPEG frames of kind {kind:X} do not belong to its transfer syntax")
    _check_claims((rows, columns), components, precision, form)
    return int(precision)


def _check_size_marker(stream: bytes, form: PixelFormat) -> tuple[int, bool]:
    """Compare a JPEG 2000 SIZ marker (T.800 A.5.1) with the file; its precision and sign."""
    start = 0 if stream.startswith(_START_OF_CODESTREAM) else stream.find(_START_OF_CODESTREAM)
    if start < 0:
        raise ValueError("a compressed frame is no JPEG 2000")
    (columns, rows, *offsets, tile_columns, tile_rows, tile_x, tile_y, components) = (
        struct.unpack_from(">8LH", stream, start + 8)
    )
    depth, step_x, step_y = struct.unpack_from(">3B", stream, start + 42)
    if any((*offsets, tile_x, tile_y)) or (step_x, step_y) != (1, 1):
        raise ValueError("a JPEG 2000 frame is offset or sampled, which images are not")
    if not tile_columns or not tile_rows:
        raise ValueError("a JPEG 2000 frame has tiles of no size")
    if -(-columns // tile_columns) * -(-rows // tile_rows) > _MAX_TILES:
        raise ValueError("a JPEG 2000 frame has too many tiles")
    precision = (depth & 0x7F) + 1
    _check_claims((rows, columns), components, precision, form)
    return precision, bool(depth & 0x80)


def _check_claims(
    size: tuple[int, int], components: int, precision: int, form: PixelFormat
) -> None:
    if size != (form.rows, form.columns):
        raise ValueError(f"a frame claims {size[0]}x{size[1]}, not {form.rows}x{form.columns}")
    if components != 1:
        raise ValueError(f"a frame has {components} components, not 1")
    if not 2 <= precision <= form.bits_allocated:
        raise ValueError(f"a frame has {precision} bits where {form.bits_allocated} are allocated")
