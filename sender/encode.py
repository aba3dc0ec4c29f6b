"""A layer's voxels become an encoding. Pure CPU work: `shared.workers` runs it.

    voxels --sample map--> samples --fill--> exact codec --decode again--> compare --> encoding
    voxels --sample map--> samples --step--> bounded ----decode again--> compare --> encoding
    voxels --window------> 12 bits --fill--> HEVC -------decode again--> measure --> encoding

Nothing leaves that was not decoded here first: a codec that brings other voxels back than it was
given (they exist) is replaced by plain zstd, before anyone hears "exact".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sender.filling import fill_zero
from sender.preview import encode_preview
from shared.codecs.base import Block, KnowingCodec, Known, decode_knowing, encode_knowing
from shared.codecs.registry import codec_named
from shared.errors import CodecError, IntegrityError
from shared.fidelity import Fidelity, measure
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
    from shared.codecs.base import Codec, Settings
    from shared.layer import LayerKey

PLAIN_CODEC = "zstd"
"""Takes anything: what is left when a codec cannot, or did not prove right at the receiver."""
SECOND_CODEC, AFTER_SECOND_CODEC = "jpegls", "jpegxl"
"""What a layer that did not prove right is coded by next, unless that was the one that failed."""
_LEAST_STEP = 3


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoding of a layer and what its offer says of it."""

    payload: bytes
    codec: str
    settings: tuple[tuple[str, int], ...]
    owned_voxels: int
    voxel_digest: bytes
    """Empty for what is not exact."""
    fidelity: Fidelity
    """The measured error of a preview, or of a bounded layer with its guaranteed largest one; none
    for an exact layer."""


@dataclass(frozen=True, slots=True)
class Base:
    """A bounded encoding that the exact one of the same layer's voxels builds on."""

    number: int
    """By which its offer names it."""
    payload: bytes
    codec: str
    settings: tuple[tuple[str, int], ...]

    @property
    def step(self) -> int:
        """Twice its largest error plus one, in samples."""
        return dict(self.settings)["step"]


def layer_digest(voxels: NDArray[Any], job: LayerJob) -> bytes:
    """The digest that proves an exact layer, whichever way it is encoded."""
    return region_digest(_block(voxels, job), owned_mask(job.box, job.holes))


def exact_digests(study: Iterable[Series]) -> dict[LayerKey, bytes]:
    """The digests of all exact layers of a study: one pass over all of its voxels."""
    return {
        job.key: layer_digest(series.volume.voxels, job)
        for series in study
        for job in series.jobs
        if is_exact(job)
    }


def encode_exact(
    voxels: NDArray[Any],
    job: LayerJob,
    entry: SeriesManifest,
    codec_name: str,
    effort: int | None,
    base: Base | None = None,
) -> Encoded:
    """An exact encoding of a layer.

    Args:
        voxels: (z, y, x), the whole series.
        effort: for a codec that has such a setting; None for its default.
        base: what it builds on, if it is of the same codec.
    """
    block = _block(voxels, job)
    owned = owned_mask(job.box, job.holes)
    samples = fill_zero(entry.samples.to_samples(block), owned)
    codec = codec_named(codec_name)
    if entry.samples.kind is SampleKind.RAW or not codec.takes(samples.dtype):
        codec = codec_named(PLAIN_CODEC)
    settings = dict(_with_effort(codec, effort))
    known = Known(owned)
    if base is not None and base.codec == codec.name:
        settings["base_step"] = base.step
    given = Block(samples, entry.samples.bits)
    try:
        if "base_step" in settings and base is not None:
            below = _decoded(base.codec, base.payload, samples, known, dict(base.settings))
            known = replace(known, base=below)
        payload = encode_knowing(codec, given, known, settings)
        proven = _same(_decoded(codec.name, payload, samples, known, settings), samples)
    except CodecError:
        proven = False
    if not proven:
        codec, settings = codec_named(PLAIN_CODEC), {}
        payload = _encode_plainly(given)
    return Encoded(
        payload,
        codec.name,
        tuple(sorted(settings.items())),
        owned_count(job.box, job.holes),
        region_digest(block, owned),
        Fidelity(),
    )


def encode_bounded(
    voxels: NDArray[Any],
    job: LayerJob,
    entry: SeriesManifest,
    codec_name: str,
    step: int | None,
) -> Encoded | None:
    """An encoding of a layer with a guaranteed largest error, on which the exact one can build.

    Args:
        step: twice the largest error plus one, in samples; None to choose one by the noise.

    Returns:
        None where there is so little noise that all of it is cheap, where samples do not stand for
        values in proportion, or where the codec cannot do it.
    """
    codec = codec_named(codec_name)
    block = _block(voxels, job)
    owned = owned_mask(job.box, job.holes)
    samples = fill_zero(entry.samples.to_samples(block), owned)
    unit = _unit(entry)
    step = noise_step(samples) if step is None else step
    if not step or not unit or not isinstance(codec, KnowingCodec):
        return None
    known, settings = Known(owned), {"step": step}
    try:
        payload = codec.encode_knowing(Block(samples, entry.samples.bits), known, settings)
        below = _decoded(codec_name, payload, samples, known, settings)
    except CodecError:
        return None
    error = np.abs(below.astype(np.int64) - samples.astype(np.int64))
    if 2 * int(error.max()) >= step:
        return None
    shown = entry.samples.from_samples(below, block.dtype)
    measured = measure(block, shown, owned)
    return Encoded(
        payload,
        codec_name,
        (("step", step),),
        owned_count(job.box, job.holes),
        b"",
        replace(measured, max_error=max(measured.max_error, step // 2 * unit)),
    )


def noise_step(samples: NDArray[Any]) -> int:
    """A step as coarse as the noise: the median difference of neighbours in a row that differ, made
    odd. A third of the exact bits then buy errors below the noise. 0 where it would be below 3.

    Args:
        samples: (z, y, x) unsigned.
    """
    change = np.abs(np.diff(samples.astype(np.int32), axis=2))
    change = change[change > 0]
    if change.size == 0:
        return 0
    step = int(np.median(change)) - 1 | 1
    return step if step >= _LEAST_STEP else 0


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
    samples = np.frombuffer(content, dtype=np.uint8).reshape(1, 1, -1)
    payload = _encode_plainly(Block(samples, 8))
    return Encoded(payload, PLAIN_CODEC, (), 0, hashlib.sha256(content).digest(), Fidelity())


def _encode_plainly(given: Block) -> bytes:
    """The plainest encoding there is; it too is decoded before anybody else sees it.

    Raises:
        IntegrityError: this machine's zstd does not bring its own samples back.
    """
    codec = codec_named(PLAIN_CODEC)
    payload = codec.encode(given, {})
    samples = given.samples
    try:
        if _same(codec.decode(payload, samples.shape, samples.dtype, {}), samples):
            return payload
    except CodecError as error:
        raise IntegrityError(f"zstd does not decode what it has encoded: {error}") from error
    raise IntegrityError("zstd brings other samples back than it was given")


def is_exact(job: LayerJob) -> bool:
    """Whether a layer is encoded without loss."""
    return job.key.quality is Quality.EXACT


def _unit(entry: SeriesManifest) -> float:
    """What one sample is in stored units; 0 where samples are mere names of values."""
    match entry.samples.kind:
        case SampleKind.INTEGER:
            return 1.0
        case SampleKind.STEP:
            return entry.samples.step
        case _:
            return 0.0


def _decoded(
    codec: str, payload: bytes, like: NDArray[Any], known: Known, settings: Settings
) -> NDArray[Any]:
    return decode_knowing(codec_named(codec), payload, like.shape, like.dtype, known, settings)


def _block(voxels: NDArray[Any], job: LayerJob) -> NDArray[Any]:
    return np.ascontiguousarray(voxels[job.box.slices])


def _with_effort(codec: Codec, effort: int | None) -> Mapping[str, int]:
    return {"effort": effort} if effort is not None and "effort" in codec.defaults else {}


def _same(decoded: NDArray[Any], samples: NDArray[Any]) -> bool:
    """Bit for bit, so that NaNs and negative zeros count too."""
    return decoded.dtype == samples.dtype and decoded.tobytes() == samples.tobytes()
