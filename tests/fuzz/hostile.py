"""``python -m tests.fuzz.hostile NAME``: one hostile file, made here and given to the real code.

Prints how it ended, in how many CPU seconds, and the largest resident size, as a line of JSON.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless

from protocol.payloads import unpack_message
from sender.read.source import read_study
from shared.codecs.base import Block
from shared.codecs.parts import pack_parts, split_parts
from shared.codecs.registry import CODECS
from shared.errors import MedroiError
from tests.fuzz.child import largest_bytes
from tests.sender.read.files import compressed, nifti, save, slice_of

if TYPE_CHECKING:
    from collections.abc import Callable

_SIDE = 64
_IMAGE = ((np.indices((_SIDE, _SIDE)).sum(axis=0) * 37) % 4096).astype(np.uint16)
_SIZ_XSIZ, _SIZ_XOSIZ, _SIZ_XTSIZ = 8, 16, 24
"""Where these fields lie in a codestream that begins with SOC and SIZ (ISO/IEC 15444-1, A.5.1)."""


def _patched(stream: bytes, at: int, *values: int) -> bytes:
    made = bytearray(stream)
    struct.pack_into(f">{len(values)}I", made, at, *values)
    return bytes(made)


def htj2k_offset() -> bytes:
    """XOsiz beyond Xsiz: OpenJPH works on it for minutes."""
    import imagecodecs

    stream = bytes(imagecodecs.htj2k_encode(_IMAGE, reversible=True))
    return _patched(stream, _SIZ_XOSIZ, 0x01000000)


def _j2k() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg2k_encode(_IMAGE, reversible=True, codecformat="j2k"))


def j2k_tiles() -> bytes:
    """A hundred million tiles of one pixel, in the header of a small image."""
    return _patched(_patched(_j2k(), _SIZ_XSIZ, 10_000, 10_000), _SIZ_XTSIZ, 1, 1)


def j2k_size() -> bytes:
    """4 Gi x 4 Gi pixels."""
    return _patched(_j2k(), _SIZ_XSIZ, 0xFFFFFFFF, 0xFFFFFFFF)


def jpegls_endless() -> bytes:
    """No end marker, and a few bytes of ones: CharLS reads bits far behind the end."""
    payload = CODECS["jpegls"].encode(Block(_IMAGE[None], 12), {})
    (stream,) = split_parts(payload, 1)
    assert isinstance(stream, bytes)
    return stream[:60] + b"\x7f" * 270


_began: list[float] = []
"""CPU time so far, when what is hostile had been made."""


def _begin() -> None:
    _began.append(time.process_time())


def _decode(codec: str, stream: bytes) -> None:
    _begin()
    CODECS[codec].decode(pack_parts([stream]), (1, _SIDE, _SIDE), np.dtype(np.uint16), {})


def _read(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        _begin()
        read_study([path], series=None, volume=None)


def _read_stream(syntax: str, stream: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dcm"
        save(compressed(slice_of(_IMAGE), syntax, [stream]), path)
        _begin()
        read_study([path], series=None, volume=None)


def _deflated(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    step = bytes(1 << 24)
    return b"".join(packer.compress(step) for _ in range(size >> 24)) + packer.flush()


def nifti_bomb() -> None:
    """2 GiB in 2 MB: a small image whose file goes on and on."""
    head = nifti(_IMAGE[None].astype("<i2"))
    packer = zlib.compressobj(9, wbits=31)
    step = bytes(1 << 24)
    content = packer.compress(head) + b"".join(packer.compress(step) for _ in range(128))
    _read(content + packer.flush(), "scan.nii.gz")


def nifti_large() -> None:
    """A header that asks for 2 GiB of a file of 1 MB, most of it zeros."""
    head = bytearray(nifti(_IMAGE[None].astype("<i2"))[:352])
    struct.pack_into("<8h", head, 40, 3, 1024, 1024, 1024, 1, 1, 1, 1)
    _read(gzip.compress(bytes(head) + bytes(1 << 20)), "scan.nii.gz")


def dicom_deflated() -> None:
    """2 GiB of a data set in 2 MB (PS3.5 A.5)."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    data_set = slice_of(_IMAGE)
    data_set.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with tempfile.TemporaryDirectory() as folder:
        raw = save(data_set, Path(folder) / "x.dcm").read_bytes()
    meta_length = struct.unpack_from("<I", raw, 140)[0]
    _read(raw[: 144 + meta_length] + _deflated(2 << 30), "x.dcm")


def dicom_rle() -> None:
    """Eight kilobytes of run lengths for 65535 x 65535 pixels, a hundred frames: 800 GiB."""
    data_set = compressed(
        slice_of(_IMAGE), RLELossless, [struct.pack("<16I", 2, 64, 4000, *[0] * 13)]
    )
    data_set.Rows = data_set.Columns = 65535
    data_set.NumberOfFrames = 100
    with tempfile.TemporaryDirectory() as folder:
        path = save(data_set, Path(folder) / "x.dcm")
        _begin()
        read_study([path], series=None, volume=None)


def nested(depth: int) -> bytes:
    """msgpack arrays in arrays, each of which says that it has 65535 entries."""
    return b"\xdc\xff\xff" * depth


def msgpack_nested() -> None:
    """As much of it as a frame holds."""
    _begin()
    unpack_message(nested(21_000))


def msgpack_deep() -> None:
    """One entry each, and so whole."""
    _begin()
    unpack_message(b"\x91" * 60_000 + b"\xc0")


HOSTILE: dict[str, Callable[[], None]] = {
    "htj2k offset": lambda: _decode("htj2k", htj2k_offset()),
    "htj2k offset as j2k": lambda: _decode("jpeg2000", htj2k_offset()),
    "htj2k offset in dicom": lambda: _read_stream(HTJ2KLossless, htj2k_offset()),
    "j2k tiles": lambda: _decode("jpeg2000", j2k_tiles()),
    "j2k tiles in dicom": lambda: _read_stream(JPEG2000Lossless, j2k_tiles()),
    "j2k size": lambda: _decode("jpeg2000", j2k_size()),
    "j2k size in dicom": lambda: _read_stream(JPEG2000Lossless, j2k_size()),
    "jpegls endless": lambda: _decode("jpegls", jpegls_endless()),
    "jpegls endless in dicom": lambda: _read_stream(JPEGLSLossless, jpegls_endless()),
    "nifti bomb": nifti_bomb,
    "nifti large": nifti_large,
    "dicom deflated": dicom_deflated,
    "dicom rle": dicom_rle,
    "msgpack nested": msgpack_nested,
    "msgpack deep": msgpack_deep,
}


def main() -> int:
    """Run one."""
    try:
        HOSTILE[sys.argv[1]]()
        said = "fine"
    except MedroiError as error:
        said = f"{type(error).__name__}: {error}"
    took_s = time.process_time() - _began[0]
    print(json.dumps({"said": said, "cpu_s": took_s, "rss_bytes": largest_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
