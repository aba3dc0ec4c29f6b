"""An encoding cut into chunks and put together again, in any order.

A chunk is the unit of hashing, storing and resuming; fragments of it travel. Each chunk's SHA-256
is known before its first byte, so that nothing unproven is ever handed on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import ceil

from protocol import limits
from protocol.ranges import RangeSet
from shared.errors import RemoteProtocolError


def chunk_digests(encoding: bytes) -> bytes:
    """SHA-256 of each chunk, one behind the other."""
    view = memoryview(encoding)
    starts = range(0, len(encoding), limits.CHUNK_BYTES)
    return b"".join(hashlib.sha256(view[i : i + limits.CHUNK_BYTES]).digest() for i in starts)


def encoding_name(digests: bytes) -> bytes:
    """What an encoding is called: SHA-256 over its chunk digests, 32 bytes."""
    return hashlib.sha256(digests).digest()


def chunk_count(size_bytes: int) -> int:
    """How many chunks an encoding of this size has."""
    return ceil(size_bytes / limits.CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that was whole but wrong; its bytes are no part of the encoding."""

    offset: int
    content: bytes = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.content)


class Assembly:
    """One encoding on its way in; a chunk takes room once something of it has come.

    The caller has checked ``size_bytes`` against its limits.
    """

    def __init__(self, size_bytes: int, digests: bytes) -> None:
        if len(digests) != chunk_count(size_bytes) * limits.DIGEST_BYTES:
            raise RemoteProtocolError(
                f"{len(digests)} bytes of chunk digests for an encoding of {size_bytes} bytes"
            )
        self._size_bytes = size_bytes
        self._chunks: dict[int, bytearray] = {}
        """By where they start."""
        self._digests = digests
        self._arrived = RangeSet()
        self._proven = RangeSet()

    @property
    def arrived(self) -> RangeSet:
        """What has come and is not known to be wrong."""
        return self._arrived

    @property
    def complete(self) -> bool:
        """Whether every chunk has arrived and has its hash."""
        return self._proven.covers(0, self._size_bytes)

    def add(self, offset: int, content: bytes) -> tuple[int, BadChunk | None]:
        """Put a fragment in its place and check the chunk, if that completes it.

        Returns:
            How many of its bytes are new; and the chunk, if it turned out wrong and must come
            again.

        Raises:
            RemoteProtocolError: the fragment does not lie within one chunk of the encoding, or
                there are gaps between more than `limits.MAX_PIECES`.
        """
        stop = offset + len(content)
        start = offset - offset % limits.CHUNK_BYTES
        end = min(start + limits.CHUNK_BYTES, self._size_bytes)
        if not offset < stop <= end:
            raise RemoteProtocolError(
                f"a fragment at {offset}..{stop} of an encoding of {self._size_bytes} bytes"
            )
        if self._proven.covers(start, end):
            return 0, None  # a repetition: proven bytes are never written again
        chunk = self._chunks.get(start) or self._chunks.setdefault(start, bytearray(end - start))
        chunk[offset - start : stop - start] = content
        new = self._arrived.add(offset, stop)
        if len(self._arrived) > limits.MAX_PIECES:
            raise RemoteProtocolError(f"an encoding in more than {limits.MAX_PIECES} pieces")
        if not self._arrived.covers(start, end):
            return new, None
        index = start // limits.CHUNK_BYTES * limits.DIGEST_BYTES
        expected = self._digests[index : index + limits.DIGEST_BYTES]
        if hashlib.sha256(chunk).digest() == expected:
            self._proven.add(start, end)
            return new, None
        self._arrived.remove(start, end)
        return new, BadChunk(start, bytes(chunk))

    def payload(self) -> bytes:
        """The whole encoding, every chunk of it proven."""
        return b"".join(self._chunks[start] for start in sorted(self._chunks))
