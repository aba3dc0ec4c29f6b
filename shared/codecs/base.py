"""What a codec promises: the seam between layers and bitstreams.

A codec codes *samples*, not voxels: `shared.intensity` maps stored values to samples before it and
back behind it. Both halves of a codec stand in one file; `shared.codecs.registry` names them all.
Any codec may serve any layer that its promise covers (MedROI's codec-agnostic idea, Kim & Jang
2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared.geometry import Triple

Settings = Mapping[str, int]
"""A codec's settings by name, such as ``{"effort": 3}`` or ``{"crf": 28}``; they travel with the
encoding."""


class Promise(StrEnum):
    """What decoded samples are, compared with those that were encoded."""

    EXACT = "exact"
    BOUNDED = "bounded"
    LOSSY = "lossy"


@dataclass(frozen=True, slots=True)
class Block:
    """What an encoder is given: the samples of one layer's box, filled where nobody owns them."""

    samples: NDArray[Any]
    """(z, y, x), C-contiguous; uint8 or uint16 from a sample map, or any dtype from a raw one."""
    bits: int
    """Every sample is below ``2 ** bits``; meaningless for raw samples."""


class Codec(Protocol):
    """One codec, both halves. Stateless: may be used by several threads at once."""

    @property
    def name(self) -> str:
        """Its id in manifests, reports and on the command line."""
        ...

    @property
    def promise(self) -> Promise:
        """What its decoded samples are."""
        ...

    @property
    def defaults(self) -> Settings:
        """Every setting it knows, with the value used where none is given."""
        ...

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Whether it codes samples of this type."""
        ...

    def encode(self, block: Block, settings: Settings) -> bytes:
        """The encoding of a block. Frees the GIL for nearly all of its time.

        Raises:
            CodecError: it cannot code this block.
        """
        ...

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        """The samples of a block, (z, y, x), a new writable array of exactly this shape and dtype.

        ``payload`` may be hostile: sizes in it are checked against ``shape`` before anything is
        allocated, as far as the format says them ahead of decoding.

        Raises:
            CodecError: the payload does not decode to this shape and dtype.
        """
        ...
