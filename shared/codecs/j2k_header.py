"""The main header of JPEG 2000 codestreams, checked before a C library sees them.

    SOC | SIZ | [CAP] COD QCD [COM] in any order | SOT SOD | packets | EOC

Only what our own encoders write passes: one gray component, one tile in one tile-part, one layer,
the reversible wavelet, 64 x 64 code-blocks. Mutated headers made OpenJPH hang (XOsiz > Xsiz) and
OpenJPEG take 1.4 GB for a 64 x 64 image; behind this check 800,000 mutants did no harm.

Fields are those of ISO/IEC 15444-1, annex A; sizes are big-endian.
"""

from __future__ import annotations

import struct

from shared.errors import CodecError

_SOC_SIZ = b"\xff\x4f\xff\x51"
_CAP, _COD, _QCD, _COM = 0xFF50, 0xFF52, 0xFF5C, 0xFF64
_SOT, _SOD, _EOC = 0xFF90, b"\xff\x93", b"\xff\xd9"
_SIZ = struct.Struct(">HH8IH3B")
_COD_FIELDS = struct.Struct(">BBHBBBBBB")
_SOT_FIELDS = struct.Struct(">HHIBB")
_MAX_LEVELS = 5
"""Of the wavelet: what both encoders use at most."""
_RSIZ = {False: 0, True: 0x4000}
_PROGRESSION = {False: 0, True: 2}
"""OpenJPEG writes LRCP, OpenJPH RPCL."""
_BLOCK_STYLE = {False: 0, True: 0x40}
"""HT code-blocks: bit 6."""


def check_j2k_header(
    stream: bytes, shape: tuple[int, ...], itemsize: int, *, high_throughput: bool
) -> None:
    """Passes a stream of one (y, x) image of this shape, of unsigned samples of ``itemsize`` bytes.

    Raises:
        CodecError: the header says anything else, or the stream is cut off.
    """
    try:
        _check(stream, shape, itemsize, high_throughput)
    except struct.error:
        raise CodecError("JPEG 2000: the header is cut off") from None


def _check(stream: bytes, shape: tuple[int, ...], itemsize: int, ht: bool) -> None:
    height, width = shape
    if not stream.startswith(_SOC_SIZ):
        raise CodecError("JPEG 2000: not a codestream")
    at = len(_SOC_SIZ)
    said = _SIZ.unpack_from(stream, at)
    extent = (width, height, 0, 0)  # of the image, and of its only tile
    depth = 8 * itemsize - 1  # Ssiz is the depth less one; its top bit would mean signed
    expected = (_SIZ.size, _RSIZ[ht], *extent, *extent, 1, depth, 1, 1)
    if said != expected:
        raise CodecError(f"JPEG 2000: SIZ says {said}, expected {expected}")
    at = _check_segments(stream, at + _SIZ.size, ht)
    length, tile, tile_bytes, part, parts = _SOT_FIELDS.unpack_from(stream, at + 2)
    if (length, tile, part, parts) != (_SOT_FIELDS.size, 0, 0, 1):
        raise CodecError("JPEG 2000: more than one tile-part")
    if tile_bytes != len(stream) - at - len(_EOC) or not stream.endswith(_EOC):
        raise CodecError(f"JPEG 2000: a tile of {tile_bytes} bytes in a stream of {len(stream)}")
    if stream[at + 2 + length : at + 4 + length] != _SOD:
        raise CodecError("JPEG 2000: the tile has a header of its own")


def _check_segments(stream: bytes, at: int, ht: bool) -> int:
    """Checks the marker segments from ``at`` on; gives where the SOT marker is."""
    seen: list[int] = []
    levels = 0
    while True:
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == _SOT:
            break
        content = stream[at + 4 : at + 2 + length]
        if marker in seen or length < 2:
            raise CodecError(f"JPEG 2000: marker {marker:#06x} again, or empty")
        if marker == _COD:
            levels = _check_cod(content, ht)
        elif marker == _QCD:
            # Style 0, no quantisation: one byte for each of the 3 * levels + 1 subbands.
            if not content or content[0] & 0x1F or len(content) != 3 * levels + 2:
                raise CodecError("JPEG 2000: a QCD that is not reversible, or ahead of COD")
        elif marker != _COM and not (marker == _CAP and ht):
            raise CodecError(f"JPEG 2000: marker {marker:#06x} has no place here")
        seen.append(marker)
        at += 2 + length
    if not {_COD, _QCD} <= set(seen) or (_CAP in seen) is not ht:
        raise CodecError("JPEG 2000: COD, QCD or CAP is missing")
    return at


def _check_cod(content: bytes, ht: bool) -> int:
    style, progression, layers, colour, levels, *blocks = _COD_FIELDS.unpack(content)
    plain = (style, progression, layers, colour) == (0, _PROGRESSION[ht], 1, 0)
    # Code-blocks of 2 ** (4 + 2) each way, their style, and the 5/3 wavelet.
    if not plain or blocks != [4, 4, _BLOCK_STYLE[ht], 1] or levels > _MAX_LEVELS:
        raise CodecError(f"JPEG 2000: a COD that our encoder does not write: {content.hex()}")
    return int(levels)
