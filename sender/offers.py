"""What is on offer: an encoding that waits, and what the receiver is told before its first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from protocol.chunks import chunk_digests
from protocol.messages import LayerOffer

if TYPE_CHECKING:
    from sender.encode import Encoded
    from sender.layering import LayerJob
    from shared.layer import LayerKey


class Offered(NamedTuple):
    """A layer that is encoded and not yet settled."""

    job: LayerJob
    owned_voxels: int
    codec: str


def layer_offer(
    number: int, job: LayerJob, encoded: Encoded, base: int | None = None
) -> LayerOffer:
    """The offer of a layer of voxels."""
    return LayerOffer(
        number=number,
        key=job.key,
        box=job.box,
        owned_voxels=encoded.owned_voxels,
        codec=encoded.codec,
        settings=encoded.settings,
        size_bytes=len(encoded.payload),
        decoded_bytes=0,
        chunk_digests=chunk_digests(encoded.payload),
        voxel_digest=encoded.voxel_digest,
        max_error=encoded.fidelity.max_error,
        base=base,
    )


def piece_offer(number: int, key: LayerKey, encoded: Encoded, decoded_bytes: int) -> LayerOffer:
    """The offer of a piece of a headers layer, which owns no voxel."""
    return LayerOffer(
        number=number,
        key=key,
        box=None,
        owned_voxels=0,
        codec=encoded.codec,
        settings=encoded.settings,
        size_bytes=len(encoded.payload),
        decoded_bytes=decoded_bytes,
        chunk_digests=chunk_digests(encoded.payload),
        voxel_digest=encoded.voxel_digest,
        max_error=0.0,
    )
