"""The process that decodes a peer's bytes: ``python -m receiver.decode_child``.

It reads requests from stdin and writes answers to stdout, and can do nothing else: it has limits on
memory and files, knows no path and opens no socket. Whatever a bitstream does to a C decoder
happens here, and the parent kills it on the clock. Its answers are data, never pickles.

    request:  u32 length, msgpack [codec, [z, y, x], dtype, [[setting, value] ...], given],
              u32 length, payload
    answer:   u8 0, u32 length, samples (C order, native)   |   u8 1, u32 length, sentence (UTF-8)
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

LENGTH = struct.Struct("!I")
ANSWER = struct.Struct("!BI")
_MEMORY_BYTES = 3 << 30
"""Address space, not use: C libraries map far more than they touch."""
_FILES = 64


def main() -> None:
    """Serve until stdin ends."""
    _confine()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    # A codec that prints must not write into the answers.
    sys.stdout = sys.stderr
    _warm_up()
    while (head := source.read(LENGTH.size)) and len(head) == LENGTH.size:
        request = source.read(LENGTH.unpack(head)[0])
        payload = source.read(LENGTH.unpack(source.read(LENGTH.size))[0])
        _answer(sink, request, payload)


def _answer(sink: BinaryIO, request: bytes, payload: bytes) -> None:
    import msgpack
    import numpy as np

    from shared.codecs.given import decode_with, unpacked_given
    from shared.codecs.registry import codec_named
    from shared.errors import MedroiError

    codec, (z, y, x), dtype, settings, known = msgpack.unpackb(request)
    try:
        samples = decode_with(
            codec_named(codec),
            payload,
            (z, y, x),
            np.dtype(dtype),
            dict(map(tuple, settings)),
            unpacked_given(known, (z, y, x), np.dtype(dtype)),
        )
    except (MedroiError, MemoryError) as error:
        sentence = (str(error) or type(error).__name__).encode()[:1024]
        sink.write(ANSWER.pack(1, len(sentence)) + sentence)
    else:
        sink.write(ANSWER.pack(0, samples.nbytes))
        sink.write(samples.data)
    sink.flush()


def _confine() -> None:
    """No more memory than any layer needs, no files, no core dumps of patients."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    for what, limit in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (wanted, hard))


def _warm_up() -> None:
    """Import the decoders before the first layer needs them."""
    import av
    import imagecodecs

    _ = av.__version__, imagecodecs.jpegxl_decode, imagecodecs.zstd_decode


if __name__ == "__main__":
    main()
