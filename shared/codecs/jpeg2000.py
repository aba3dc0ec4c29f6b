"""JPEG 2000 (ISO/IEC 15444-1), exact with the 5/3 wavelet, slice by slice, by OpenJPEG.

Larger and slower than JPEG XL; here as the yardstick of DICOM and for peers that know no other.

Streams declare 8 or 16 bits: the true depth saves 0.2 % at best, and OpenJPEG sizes its buffers by
it, which noise of 1 or 2 bits overruns ("opj_write_tile failed").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.codecs.j2k_header import check_j2k_header
from shared.codecs.slices import SliceCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_WORST_GROWTH = 2
"""Noise in all 16 bits grows by 7 %; the room imagecodecs makes by itself is half a slice."""
_HEADER_SPARE_BYTES = 1024


def _encode_slice(plane: NDArray[Any], bits: int, settings: Mapping[str, int]) -> bytes:
    import imagecodecs

    stream = imagecodecs.jpeg2k_encode(
        plane,
        codecformat="J2K",
        reversible=True,
        numthreads=1,
        out=_WORST_GROWTH * plane.nbytes + _HEADER_SPARE_BYTES,
    )
    return bytes(stream)


def _decode_slice(stream: bytes, plane: NDArray[Any]) -> None:
    import imagecodecs

    check_j2k_header(stream, plane.shape, plane.itemsize, high_throughput=False)
    imagecodecs.jpeg2k_decode(stream, numthreads=1, out=plane)


JPEG_2000 = SliceCodec("jpeg2000", {}, _encode_slice, _decode_slice)
