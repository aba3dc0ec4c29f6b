"""The process that decodes a peer's bytes: ``python -m receiver.decode_child``.

It reads requests from stdin and writes answers to stdout. Whatever a bitstream does to a C decoder
happens here, and the parent kills it on the clock. Its answers are data, never pickles.

    start ──> load codecs ──> first request: load the others, confined ──> decode, decode ...

Before the first byte of a peer it gives up what it no longer needs, for good: from then on it opens
no file and no socket, as there is no descriptor that it could have one by, and no file that is open
grows. What it could not load by then it never will. It is no sandbox: names of files can still be
removed, and other processes of the same user signalled.

    request:  u32 length, msgpack [[z, y, x], dtype, owned voxels as bits or nil,
              [[codec, [[setting, value] ...]] ...], seconds of a core],
              and for each codec, of which the later builds on the one before: u32 length, payload
              or msgpack of a codec's name, to have it loaded
    answer:   u8 0, u32 length, samples (C order, native)   |   u8 1, u32 length, sentence (UTF-8)
"""

from __future__ import annotations

import math
import os
import signal
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
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def main() -> None:
    """Serve until stdin ends."""
    import msgpack

    _limit_memory()
    _die_with_parent()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    # A codec that prints must not write into the answers.
    sys.stdout = sys.stderr
    _warm_up()
    confined = False
    while (head := source.read(LENGTH.size)) and len(head) == LENGTH.size:
        asked = msgpack.unpackb(source.read(LENGTH.unpack(head)[0]))
        if isinstance(asked, str):
            _load(asked)
            sink.write(ANSWER.pack(0, 0))
            sink.flush()
            continue
        if not confined:
            _load(*(codec for codec, _ in asked[3]))
            _confine()
            confined = True
        _limit_time(asked[4])
        _answer(source, sink, asked)


def _answer(source: BinaryIO, sink: BinaryIO, request: list[Any]) -> None:
    from shared.errors import MedroiError

    shape, dtype, owned, codings, _ = request
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


def _limit_memory() -> None:
    """No more than any layer needs, and no core dumps of patients."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    for what, limit in ((resource.RLIMIT_AS, _MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (wanted, wanted))


def _confine() -> None:
    """No descriptor from now on (those that are open stay), and no file that grows."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    # Zero, not the count of those that are open: whoever closes one would have its place.
    for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        resource.setrlimit(what, (0, 0))


def _limit_time(seconds: float) -> None:
    """The system ends what takes longer, also where the parent cannot any more."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = math.ceil(used.ru_utime + used.ru_stime + seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (wanted, hard))


def _die_with_parent() -> None:
    """Where the system offers it; elsewhere with the end of stdin, once a request is done."""
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has died in between
        sys.exit()


def _warm_up() -> None:
    """Import the decoders that the first layers need, before they come."""
    import av
    import imagecodecs

    _ = av.__version__, imagecodecs.jpegxl_decode, imagecodecs.zstd_decode


def _load(*codecs: str) -> None:
    """The named codecs, and all that are not slow to load: after `_confine` none can be."""
    import av
    import imagecodecs

    import shared.codecs.given
    from shared.codecs.registry import load

    _ = shared.codecs.given, imagecodecs.jpeg2k_decode, imagecodecs.jpegls_decode
    av.CodecContext.create("hevc", "r")
    for codec in codecs:
        load(codec)


if __name__ == "__main__":
    main()
