"""Exact codecs for images, made into codecs for blocks: slice by slice, in one payload.

A slice whose samples are all equal is kept as that value: 2 bytes instead of 20-140, and no decoder
runs. Skull-stripped volumes have dozens of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.codecs.base import Promise
from shared.codecs.parts import pack_parts, split_parts
from shared.codecs.settings import Setting, default_settings, resolve_settings
from shared.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

SliceEncoder = Callable[["NDArray[Any]", int, Mapping[str, int]], bytes]
"""(samples (y, x), bits, settings) -> the stream of one slice."""
SliceDecoder = Callable[[bytes, "NDArray[Any]"], None]
"""(stream, plane): writes the samples into the plane (y, x), after a check that the stream's header
says exactly its shape and type."""

LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, ArithmeticError, LookupError)
"""What C decoders and their wrappers raise on bad streams; imagecodecs' own are RuntimeErrors."""


@dataclass(frozen=True, slots=True)
class SliceCodec:
    """A codec that codes every slice of a block on its own."""

    name: str
    known: Mapping[str, Setting]
    encode_slice: SliceEncoder
    decode_slice: SliceDecoder

    @property
    def promise(self) -> Promise:
        """Always exact."""
        return Promise.EXACT

    @property
    def defaults(self) -> Settings:
        """Every setting it knows, with its default."""
        return default_settings(self.known)

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """uint8 and uint16."""
        return dtype in (np.uint8, np.uint16)

    def encode(self, block: Block, settings: Settings) -> bytes:
        """The encoding of a block.

        Raises:
            CodecError: the settings or samples are none of this codec's, or it failed on them.
        """
        resolved = resolve_settings(self.name, self.known, settings)
        self._check_type(block.samples.dtype)
        if not 1 <= block.bits <= 8 * block.samples.itemsize:
            raise CodecError(f"{self.name}: {block.bits} bits in {block.samples.dtype} samples")
        return pack_parts([self._encode(plane, block.bits, resolved) for plane in block.samples])

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        """The samples of a block, a new array of exactly this shape and type.

        Raises:
            CodecError: the payload does not decode to them.
        """
        resolve_settings(self.name, self.known, settings)
        self._check_type(dtype)
        parts = split_parts(payload, shape[0])
        samples = np.empty(shape, dtype)
        for index, part in enumerate(parts):
            if isinstance(part, int):
                if part > np.iinfo(dtype).max:
                    raise CodecError(f"{self.name}: {part} is not a {dtype} sample")
                samples[index] = part
                continue
            try:
                self.decode_slice(part, samples[index])
            except LIBRARY_ERRORS as error:
                raise CodecError(f"{self.name}: slice {index}: {error}") from error
        return samples

    def _encode(self, plane: NDArray[Any], bits: int, settings: Mapping[str, int]) -> bytes | int:
        low, high = int(plane.min()), int(plane.max())
        if high >> bits:
            raise CodecError(f"{self.name}: sample {high} does not fit {bits} bits")
        if low == high:
            return low
        try:
            return self.encode_slice(plane, bits, settings)
        except LIBRARY_ERRORS as error:
            raise CodecError(f"{self.name} cannot code a slice: {error}") from error

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        if not self.takes(dtype):
            raise CodecError(f"{self.name} codes uint8 and uint16 samples, not {dtype}")
