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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sender.filling import fill_zero
from sender.ladder import LADDER_CODEC, exact_above, first_rung, ladder_for, largest_error
from sender.preview import encode_preview
from shared.codecs.base import Block
from shared.codecs.given import Given, decode_with, encode_with
from shared.codecs.registry import codec_named, coded_by
from shared.errors import CodecError, IntegrityError
from shared.fidelity import Fidelity, measure
from shared.intensity import SampleKind
from shared.layer import Quality
from shared.ownership import owned_mask
from shared.volume import region_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from protocol.messages import SeriesManifest
    from sender.layering import LayerJob
    from sender.prepare import Series
    from sender.preview import PreviewTarget
    from shared.codecs.base import Codec, Settings
    from shared.intensity import SampleMap
    from shared.layer import LayerKey

PLAIN_CODEC = "zstd"
"""Takes anything: what is left when a codec cannot, or did not prove right at the receiver."""
SECOND_CODEC, AFTER_SECOND_CODEC = "jpegls", "jpegxl"
"""What a layer that did not prove right is coded by next, unless that was the one that failed."""


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


class Cut(NamedTuple):
    """A layer cut out of its series."""

    block: NDArray[Any]
    """(z, y, x) stored values, C-contiguous; not to be written to."""
    owned: NDArray[np.bool_] | None
    """(z, y, x); None for all."""

    @property
    def owned_voxels(self) -> int:
        """How many the layer owns."""
        return self.block.size if self.owned is None else int(np.count_nonzero(self.owned))


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


def cut_out(voxels: NDArray[Any], job: LayerJob) -> Cut:
    """A layer's voxels and which of them it owns.

    Args:
        voxels: (z, y, x), the whole series.
    """
    return Cut(_block(voxels, job), owned_mask(job.box, job.holes))


def encode_exact(
    cut: Cut, samples_of: SampleMap, codec_name: str, effort: int | None, base: Base | None = None
) -> Encoded:
    """An exact encoding of a layer.

    Args:
        codec_name: a codec's, with a level or without.
        effort: for a codec that has such a setting; None for its default.
        base: what it builds on, if it is of the same codec.
    """
    samples = fill_zero(samples_of.to_samples(cut.block), cut.owned)
    codec, level = coded_by(codec_name)
    if samples_of.kind is SampleKind.RAW or not codec.takes(samples.dtype):
        codec, level = codec_named(PLAIN_CODEC), {}
    settings, given = {**level, **_with_effort(codec, effort)}, Given(cut.owned)
    block = Block(samples, samples_of.bits)
    try:
        if base is not None and base.codec == codec.name:
            below = dict(base.settings)
            settings = dict(exact_above(below))
            coarse = decode_with(codec, base.payload, samples.shape, samples.dtype, below, given)
            given = Given(cut.owned, coarse)
        payload = encode_with(codec, block, settings, given)
        decoded = decode_with(codec, payload, samples.shape, samples.dtype, settings, given)
        proven = _same(decoded, samples)
    except CodecError:
        proven = False
    if not proven:
        codec, settings = codec_named(PLAIN_CODEC), {}
        payload = _encode_plainly(block)
    return Encoded(
        payload,
        codec.name,
        tuple(sorted(settings.items())),
        cut.owned_voxels,
        region_digest(cut.block, cut.owned),
        Fidelity(),
    )


def encode_bounded(cut: Cut, samples_of: SampleMap, ladder: int | None) -> Encoded | None:
    """An encoding of a layer with a guaranteed largest error, on which the exact one can build.

    Args:
        ladder: which; None to choose one by the noise.

    Returns:
        None where there is so little noise that all of it is cheap, where samples do not stand for
        values in proportion, or where the codec cannot do it.
    """
    codec, unit = codec_named(LADDER_CODEC), _unit(samples_of)
    samples = fill_zero(samples_of.to_samples(cut.block), cut.owned)
    if ladder is None:
        ladder = ladder_for(_noise(samples))
    if ladder is None or not unit or not codec.takes(samples.dtype):
        return None
    settings, given, block = first_rung(ladder), Given(cut.owned), Block(samples, samples_of.bits)
    try:
        payload = encode_with(codec, block, settings, given)
        below = decode_with(codec, payload, samples.shape, samples.dtype, settings, given)
    except CodecError:
        return None
    most = largest_error(settings)
    error = np.abs(below.astype(np.int64) - samples.astype(np.int64))
    if int(error.max()) > most:
        return None
    measured = measure(cut.block, samples_of.from_samples(below, cut.block.dtype), cut.owned)
    return Encoded(
        payload,
        codec.name,
        tuple(sorted(settings.items())),
        cut.owned_voxels,
        b"",
        replace(measured, max_error=max(measured.max_error, most * unit)),
    )


def _noise(samples: NDArray[Any]) -> float:
    """How rough the samples are: the median difference of neighbours in a row that differ."""
    change = np.abs(np.diff(samples.astype(np.int32), axis=2))
    change = change[change > 0]
    return float(np.median(change)) if change.size else 0.0


def encode_lossy(
    cut: Cut,
    entry: SeriesManifest,
    codec_name: str,
    target: PreviewTarget,
    crf: int,
) -> Encoded:
    """A preview of a layer, with its error measured on the bytes that are sent."""
    preview = encode_preview(
        cut.block,
        cut.owned,
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
        cut.owned_voxels,
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


def _unit(samples_of: SampleMap) -> float:
    """What one sample is in stored units; 0 where samples are mere names of values."""
    match samples_of.kind:
        case SampleKind.INTEGER:
            return 1.0
        case SampleKind.STEP:
            return samples_of.step
        case _:
            return 0.0


def _block(voxels: NDArray[Any], job: LayerJob) -> NDArray[Any]:
    return np.ascontiguousarray(voxels[job.box.slices])


def _with_effort(codec: Codec, effort: int | None) -> Settings:
    return {"effort": effort} if effort is not None and "effort" in codec.defaults else {}


def _same(decoded: NDArray[Any], samples: NDArray[Any]) -> bool:
    """Bit for bit, so that NaNs and negative zeros count too."""
    return decoded.dtype == samples.dtype and decoded.tobytes() == samples.tobytes()
