"""What both ends know of a block before it is coded, and the codecs that make use of it.

A codec that does not is given what any codec is: the block's box, filled where nobody owns it. One
that does (`GivenCodec`) codes owned voxels only, and may look at what has been decoded before: the
rung above in its ladder, or a preview. Context is what was decoded from transmitted bytes, never an
encoder's own reconstruction, so both ends have the very same; its digest stands in the payload, and
a decoder that is given another says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from shared.codecs.base import Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

DIGEST_BYTES = 8
"""Of a context, in a payload: enough to tell a mistake; what is decoded is proven by more."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What is known of a block's box beforehand; arrays are (z, y, x)."""

    owned: NDArray[np.bool_] | None = None
    """The voxels that are coded; None for all. The others are decoded to 0."""
    coarse: NDArray[Any] | None = None
    """Samples as the rung above decodes to, of the block's type."""
    preview: NDArray[Any] | None = None
    """Samples that a preview decodes to, mapped to the block's type; not with ``coarse``."""
    seen: NDArray[np.bool_] | None = None
    """Where there is a preview; None for everywhere."""

    def digest(self) -> bytes:
        """Of the context; empty where there is none."""
        context = self.preview if self.coarse is None else self.coarse
        if context is None:
            return b""
        found = hashlib.sha256(str(context.dtype.str).encode())
        found.update(np.ascontiguousarray(context).data)
        if self.coarse is None and self.seen is not None:
            found.update(np.packbits(self.seen).data)
        return found.digest()[:DIGEST_BYTES]


NOTHING = Given()


@runtime_checkable
class GivenCodec(Codec, Protocol):
    """A codec that makes use of what is given."""

    def encode_given(self, block: Block, settings: Settings, given: Given) -> bytes:
        """The encoding of the owned voxels of a block.

        Raises:
            CodecError: it cannot code this block, or not with what is given.
        """
        ...

    def decode_given(
        self,
        payload: bytes,
        shape: Triple,
        dtype: np.dtype[Any],
        settings: Settings,
        given: Given,
    ) -> NDArray[Any]:
        """As `Codec.decode`.

        Raises:
            CodecError: the payload does not decode to this shape and type, or was coded with
                something else given.
        """
        ...


def encode_with(codec: Codec, block: Block, settings: Settings, given: Given) -> bytes:
    """By any codec; what it can make no use of is not looked at."""
    if isinstance(codec, GivenCodec):
        return codec.encode_given(block, settings, given)
    return codec.encode(block, settings)


def decode_with(
    codec: Codec,
    payload: bytes,
    shape: Triple,
    dtype: np.dtype[Any],
    settings: Settings,
    given: Given,
) -> NDArray[Any]:
    """The other half of `encode_with`."""
    if isinstance(codec, GivenCodec):
        return codec.decode_given(payload, shape, dtype, settings, given)
    return codec.decode(payload, shape, dtype, settings)


def packed_given(given: Given) -> list[bytes]:
    """What is given as bytes, for another process: one string each, empty for what is not."""
    return [
        b"" if given.owned is None else np.packbits(given.owned).tobytes(),
        b"" if given.coarse is None else given.coarse.tobytes(),
        b"" if given.preview is None else given.preview.tobytes(),
        b"" if given.seen is None else np.packbits(given.seen).tobytes(),
    ]


def unpacked_given(packed: Sequence[bytes], shape: Triple, dtype: np.dtype[Any]) -> Given:
    """The other half of `packed_given`; nothing where there are no strings."""
    if not packed:
        return NOTHING
    owned, coarse, preview, seen = packed
    return Given(
        _bits(owned, shape),
        _samples(coarse, shape, dtype),
        _samples(preview, shape, dtype),
        _bits(seen, shape),
    )


def _bits(packed: bytes, shape: Triple) -> NDArray[np.bool_] | None:
    if not packed:
        return None
    count = shape[0] * shape[1] * shape[2]
    flat = np.unpackbits(np.frombuffer(packed, np.uint8), count=count)
    return flat.astype(np.bool_).reshape(shape)


def _samples(packed: bytes, shape: Triple, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    return np.frombuffer(packed, dtype).reshape(shape) if packed else None
