"""A layer's voxels become an encoding. Pure CPU work: `shared.workers` runs it.

    voxels --sample map--> samples --fill--> exact codec --decode again--> compare --> encoding
    voxels --window------> 12 bits --fill--> HEVC -------decode again--> measure --> encoding

Nothing leaves that was not decoded here first: a codec that brings other voxels back than it was
given (they exist) is replaced by plain zstd, before anyone hears "exact".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sender.filling import fill_zero
from sender.preview import encode_preview
from shared.codecs.base import Block
from shared.codecs.given import Given, decode_with, encode_with
from shared.codecs.registry import codec_named, coded_by
from shared.errors import CodecError
from shared.fidelity import Fidelity
from shared.intensity import SampleKind
from shared.layer import Quality
from shared.ownership import owned_count, owned_mask
from shared.volume import region_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from protocol.messages import SeriesManifest
    from sender.layering import LayerJob
    from sender.prepare import Series
    from sender.preview import PreviewTarget
    from shared.codecs.base import Codec
    from shared.layer import LayerKey

PLAIN_CODEC = "zstd"
"""Takes anything: what is left when a codec cannot, or did not prove right at the receiver."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoding of a layer and what its offer says of it."""

    payload: bytes
    codec: str
    settings: tuple[tuple[str, int], ...]
    owned_voxels: int
    voxel_digest: bytes
    """Empty for a preview."""
    fidelity: Fidelity
    """The measured error of a preview; none for an exact layer."""


def layer_digest(voxels: NDArray[Any], job: LayerJob) -> bytes:
    """The digest that proves an exact layer, whichever way it is encoded."""
    return region_digest(_block(voxels, job), owned_mask(job.box, job.holes))


def exact_digests(study: Iterable[Series]) -> dict[LayerKey, bytes]:
    """The digests of all exact layers of a study: one pass over all of its voxels."""
    return {
        job.key: layer_digest(series.volume.voxels, job)
        for series in study
        for job in series.jobs
        if not is_preview(job)
    }


def encode_exact(
    voxels: NDArray[Any], job: LayerJob, entry: SeriesManifest, codec_name: str, effort: int | None
) -> Encoded:
    """An exact encoding of a layer.

    Args:
        voxels: (z, y, x), the whole series.
        codec_name: with a level, as in ``causal3d:archive``, or without.
        effort: for a codec that has such a setting; None for its default.
    """
    block = _block(voxels, job)
    owned = owned_mask(job.box, job.holes)
    samples = fill_zero(entry.samples.to_samples(block), owned)
    codec, settings = coded_by(codec_name)
    if entry.samples.kind is SampleKind.RAW or not codec.takes(samples.dtype):
        codec, settings = codec_named(PLAIN_CODEC), {}
    settings = {**settings, **_with_effort(codec, effort)}
    filled, given = Block(samples, entry.samples.bits), Given(owned)
    try:
        payload = encode_with(codec, filled, settings, given)
        found = decode_with(codec, payload, samples.shape, samples.dtype, settings, given)
        proven = _same(found, samples)
    except CodecError:
        proven = False
    if not proven:
        codec, settings = codec_named(PLAIN_CODEC), {}
        payload = codec.encode(filled, settings)
    return Encoded(
        payload,
        codec.name,
        tuple(sorted(settings.items())),
        owned_count(job.box, job.holes),
        region_digest(block, owned),
        Fidelity(),
    )


def encode_lossy(
    voxels: NDArray[Any],
    job: LayerJob,
    entry: SeriesManifest,
    codec_name: str,
    target: PreviewTarget,
    crf: int,
) -> Encoded:
    """A preview of a layer, with its error measured on the bytes that are sent."""
    owned = owned_mask(job.box, job.holes)
    preview = encode_preview(
        _block(voxels, job),
        owned,
        entry.window,
        entry.value_range,
        target,
        codec_named(codec_name),
        crf=crf,
    )
    return Encoded(
        preview.payload,
        codec_name,
        (("crf", preview.crf),),
        owned_count(job.box, job.holes),
        b"",
        preview.fidelity,
    )


def encode_bytes(content: bytes) -> Encoded:
    """An encoding of a piece of a headers layer."""
    codec = codec_named(PLAIN_CODEC)
    samples = np.frombuffer(content, dtype=np.uint8).reshape(1, 1, -1)
    payload = codec.encode(Block(samples, 8), {})
    return Encoded(payload, codec.name, (), 0, hashlib.sha256(content).digest(), Fidelity())


def is_preview(job: LayerJob) -> bool:
    """Whether a layer is encoded with loss."""
    return job.key.quality < Quality.EXACT


def _block(voxels: NDArray[Any], job: LayerJob) -> NDArray[Any]:
    return np.ascontiguousarray(voxels[job.box.slices])


def _with_effort(codec: Codec, effort: int | None) -> Mapping[str, int]:
    return {"effort": effort} if effort is not None and "effort" in codec.defaults else {}


def _same(decoded: NDArray[Any], samples: NDArray[Any]) -> bool:
    """Bit for bit, so that NaNs and negative zeros count too."""
    return decoded.dtype == samples.dtype and decoded.tobytes() == samples.tobytes()
