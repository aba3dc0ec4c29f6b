"""The process that decodes a peer's bytes: ``python -m receiver.decode_child``.

It reads requests from stdin and writes answers to stdout, and can do nothing else: it has limits on
memory and files, knows no path and opens no socket. Whatever a bitstream does to a C decoder
happens here, and the parent kills it on the clock. Its answers are data, never pickles.

    request:  u32 length, msgpack [[z, y, x], dtype, owned voxels as bits or nil,
              [[codec, [[setting, value] ...]] ...]],
              and for each codec, of which the later builds on the one before: u32 length, payload
              or msgpack of a codec's name, to have it loaded
    answer:   u8 0, u32 length, samples (C order, native)   |   u8 1, u32 length, sentence (UTF-8)
"""

from __future__ import annotations

import struct
import sys
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from shared.geometry import Triple

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
        _answer(source, sink, source.read(LENGTH.unpack(head)[0]))


def _answer(source: BinaryIO, sink: BinaryIO, request: bytes) -> None:
    import msgpack

    from shared.codecs.registry import load
    from shared.errors import MedroiError

    asked = msgpack.unpackb(request)
    if isinstance(asked, str):
        load(asked)
        sink.write(ANSWER.pack(0, 0))
        sink.flush()
        return
    shape, dtype, owned, codings = asked
    payloads = [source.read(LENGTH.unpack(source.read(LENGTH.size))[0]) for _ in codings]
    try:
        samples = _decode(tuple(shape), dtype, owned, zip(codings, payloads, strict=True))
    except (MedroiError, MemoryError) as error:
        sentence = (str(error) or type(error).__name__).encode()[:1024]
        sink.write(ANSWER.pack(1, len(sentence)) + sentence)
    else:
        sink.write(ANSWER.pack(0, samples.nbytes))
        sink.write(samples.data)
    sink.flush()


def _decode(
    shape: Triple, dtype: str, owned: bytes | None, rungs: Iterable[tuple[Any, bytes]]
) -> NDArray[Any]:
    """The samples of the last rung."""
    import numpy as np

    from shared.codecs.given import Given, decode_with
    from shared.codecs.registry import codec_named

    mask = None
    if owned is not None:
        bits = np.unpackbits(np.frombuffer(owned, np.uint8), count=prod(shape))
        mask = bits.reshape(shape).astype(bool)
    samples: NDArray[Any] | None = None
    for (codec, settings), payload in rungs:
        chosen, given = codec_named(codec), Given(mask, samples)
        samples = decode_with(
            chosen, payload, shape, np.dtype(dtype), dict(map(tuple, settings)), given
        )
    assert samples is not None  # the parent asks for something
    return samples


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
