"""JPEG XL (ISO/IEC 18181), exact, slice by slice, by libjxl: the smallest of the standard codecs.

Streams are bare codestreams. Above 12 bits libjxl wraps them into a 50-byte container to say
"level 10"; the encoder takes it off, decoders do not miss it.

The header is checked for size, depth, one gray channel and no animation before libjxl sees it. What
it does not bound is the work that the frames behind it ask for: that is left to the limits of the
process that decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.codecs.settings import Setting
from shared.codecs.slices import SliceCodec
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_CODESTREAM = b"\xff\x0a"
_BOX_BYTES = 8
_HEADER_BYTES = 24
"""More than the fields that are read take: 2, and 68 + 21 bits at most."""
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width over height, for the ratio field's 1..7."""
_DEPTHS = (8, 10, 12)


def _encode_slice(plane: NDArray[Any], bits: int, settings: Mapping[str, int]) -> bytes:
    import imagecodecs

    stream = imagecodecs.jpegxl_encode(
        plane,
        lossless=True,
        effort=settings["effort"],
        bitspersample=_depth(bits, plane.itemsize),
        usecontainer=False,
        numthreads=1,
    )
    return _bare(bytes(stream))


def _decode_slice(stream: bytes, plane: NDArray[Any]) -> None:
    import imagecodecs

    _check_header(stream, plane.shape, plane.itemsize)
    imagecodecs.jpegxl_decode(stream, index=0, numthreads=1, out=plane)


JPEG_XL = SliceCodec("jpegxl", {"effort": Setting(3, 1, 9)}, _encode_slice, _decode_slice)


def _depth(bits: int, itemsize: int) -> int:
    """The depth to declare: the true one, but 16-bit samples stay above 8 or come back as bytes."""
    return max(bits, 8 * itemsize - 7)


def _bare(stream: bytes) -> bytes:
    """The codestream without its container, a list of boxes: (length, type, content)."""
    if stream.startswith(_CODESTREAM):
        return stream
    found, at = b"", 0
    while at < len(stream):
        length = int.from_bytes(stream[at : at + 4], "big") or len(stream) - at
        if length < _BOX_BYTES:
            break
        kind, content = stream[at + 4 : at + 8], stream[at + _BOX_BYTES : at + length]
        if kind == b"jxlc":
            found += content
        elif kind == b"jxlp":  # a part, behind its number
            found += content[4:]
        at += length
    if not found.startswith(_CODESTREAM):
        raise CodecError("jpegxl: libjxl wrote a container that this codec does not read")
    return found


def _check_header(stream: bytes, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuses a stream that is not one gray image of this size and sample type.

    The fields are those of ISO/IEC 18181-1, annex D: SizeHeader, then ImageMetadata as far as
    its colour space, least significant bit first.
    """
    if not stream.startswith(_CODESTREAM):
        raise CodecError("jpegxl: not a bare codestream")
    field = _BitReader(stream[2:_HEADER_BYTES])
    small = field.read(1)
    said_height = _read_size(field, small)
    ratio = field.read(3)
    if ratio:
        over, under = _RATIOS[ratio - 1]
        said_width = said_height * over // under
    else:
        said_width = _read_size(field, small)
    if (said_height, said_width) != shape:
        raise CodecError(f"jpegxl: {said_height} x {said_width}, not {shape}")
    all_default = field.read(1)
    extra_fields = field.read(1)  # orientation, preview, animation
    floating = field.read(1)
    selector = field.read(2)
    depth = _DEPTHS[selector] if selector < len(_DEPTHS) else 1 + field.read(6)
    field.read(1)  # modular_16bit_buffers
    extra_channels = field.read(2)
    xyb_encoded = field.read(1)
    colour_default, want_icc, colour_space = field.read(1), field.read(1), field.read(2)
    gray = (colour_default, want_icc, colour_space) == (0, 0, 1)
    if all_default or extra_fields or floating or extra_channels or xyb_encoded or not gray:
        raise CodecError("jpegxl: more than one plain exact gray image")
    if (depth + 7) // 8 != itemsize:
        raise CodecError(f"jpegxl: {depth} bits for samples of {itemsize} bytes")


def _read_size(field: _BitReader, small: int) -> int:
    if small:
        return 8 * (1 + field.read(5))
    return 1 + field.read(_SIZE_BITS[field.read(2)])


class _BitReader:
    """Bits from the least significant one on; zeros behind the end."""

    def __init__(self, content: bytes) -> None:
        self._rest = int.from_bytes(content, "little")

    def read(self, count: int) -> int:
        """The next ``count`` bits."""
        value = self._rest & (1 << count) - 1
        self._rest >>= count
        return value
