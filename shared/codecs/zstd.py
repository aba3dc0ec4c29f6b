"""Zstandard (RFC 8878), exact, for anything: raw samples of any type, and attachments.

    layout (1 byte) | one or more zstd frames
    layout 0: the samples' bytes, C order      1: all first bytes, then all second bytes, ...

Both layouts are tried where a sample has several bytes. Decoding writes into an array of the
declared size and nowhere else, so a bomb ends as an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared.codecs.base import Promise
from shared.codecs.settings import Setting, default_settings, resolve_settings
from shared.codecs.slices import LIBRARY_ERRORS
from shared.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

_PLAIN, _PLANES = 0, 1
_KNOWN = {"level": Setting(3, 1, 19)}
"""Levels above 19 want a window of up to 128 MiB at the decoder."""


class Zstd:
    """The codec of whatever image codecs do not take."""

    name = "zstd"
    promise = Promise.EXACT

    @property
    def defaults(self) -> Settings:
        """Every setting it knows, with its default."""
        return default_settings(_KNOWN)

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Whole and floating numbers of any width."""
        return dtype.kind in "iuf"

    def encode(self, block: Block, settings: Settings) -> bytes:
        """The encoding of a block.

        Raises:
            CodecError: the settings or the samples' type are none of this codec's.
        """
        level = resolve_settings(self.name, _KNOWN, settings)["level"]
        self._check_type(block.samples.dtype)
        octets = np.ascontiguousarray(block.samples).reshape(-1).view(np.uint8)
        itemsize = block.samples.itemsize
        try:
            tries = [bytes([_PLAIN]) + _frame(octets, level)]
            if itemsize > 1:
                planes = np.ascontiguousarray(octets.reshape(-1, itemsize).T)
                tries.append(bytes([_PLANES]) + _frame(planes, level))
        except LIBRARY_ERRORS as error:
            raise CodecError(f"zstd cannot code a block: {error}") from error
        return min(tries, key=len)

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        """The samples of a block, a new array of exactly this shape and type.

        Raises:
            CodecError: the payload does not decode to exactly as many bytes.
        """
        import imagecodecs

        resolve_settings(self.name, _KNOWN, settings)
        self._check_type(dtype)
        if len(payload) < 2 or payload[0] not in (_PLAIN, _PLANES):
            raise CodecError("zstd: a payload without its layout, or without a frame")
        samples = np.empty(shape, dtype)
        octets = samples.reshape(-1).view(np.uint8)
        shuffled = payload[0] == _PLANES
        target = np.empty_like(octets) if shuffled else octets
        try:
            written = imagecodecs.zstd_decode(payload[1:], out=target.data)
        except LIBRARY_ERRORS as error:
            raise CodecError(f"zstd: {error}") from error
        if len(written) != octets.size:
            raise CodecError(f"zstd: {len(written)} bytes, not {octets.size}")
        if shuffled:
            octets.reshape(-1, dtype.itemsize)[...] = target.reshape(dtype.itemsize, -1).T
        return samples

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        if not self.takes(dtype):
            raise CodecError(f"zstd codes whole and floating numbers, not {dtype}")


ZSTD = Zstd()


def _frame(octets: NDArray[np.uint8], level: int) -> bytes:
    import imagecodecs

    # Any buffer will do; the stub only knows bytes.
    return bytes(imagecodecs.zstd_encode(octets.data, level=level))  # type: ignore[arg-type]
