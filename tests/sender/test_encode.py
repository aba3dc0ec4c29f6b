from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sender.encode import (
    PLAIN_CODEC,
    Base,
    Encoded,
    cut_out,
    encode_bounded,
    encode_bytes,
    encode_exact,
    encode_lossy,
    is_exact,
    layer_digest,
)
from sender.preview import PreviewTarget
from shared.codecs import registry
from shared.codecs.base import Promise
from shared.codecs.causal3d import LADDERS
from shared.codecs.given import Given, decode_with
from shared.codecs.registry import codec_named, exact_codecs
from shared.errors import CodecError, SettingsError
from shared.fidelity import Fidelity, measure
from shared.geometry import Box
from shared.intensity import SampleKind
from shared.layer import Quality
from shared.ownership import owned_count, owned_mask
from shared.volume import region_digest
from tests.sender.studies import brain, jobs_of, series_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sender.layering import LayerJob
    from sender.prepare import Series
    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

ROI = Box((2, 5, 6), (5, 15, 20))
TISSUE = Box((1, 2, 3), (7, 20, 28))
_RNG = np.random.default_rng(9)
VOLUMES: dict[SampleKind, list[NDArray[Any]]] = {
    SampleKind.INTEGER: [
        brain(),
        brain(dtype=">u2"),
        brain().clip(0, 200).astype("|u1"),
        brain(dtype="<i8") + 2**62,
    ],
    SampleKind.STEP: [(brain() * np.float32(0.2317)).astype("<f4"), brain().astype(">f8") * 0.37],
    SampleKind.LEVELS: [
        np.where(brain() > 200, np.float32(np.nan), np.float32(-0.0)),
        np.where(brain() > 9, 1 << 40, -5).astype(">i8"),
    ],
    SampleKind.RAW: [
        _RNG.normal(size=(8, 24, 32)).astype("<f4"),
        _RNG.normal(size=(8, 24, 32)).astype(">f8"),
        _RNG.integers(-(2**31), 2**31, (8, 24, 32)).astype(">i4"),
        np.where(brain() > 200, np.nan, _RNG.normal(size=(8, 24, 32))),
    ],
}
CASES = [
    pytest.param(voxels, kind, id=f"{kind}-{voxels.dtype.str}{at}")
    for kind, some in VOLUMES.items()
    for at, voxels in enumerate(some)
]


def encode(series: Series, job: LayerJob, codec: str = "jpegxl") -> Encoded:
    return encode_exact(cut_out(series.volume.voxels, job), series.entry.samples, codec, 3)


def decoded(series: Series, job: LayerJob, encoded: Encoded) -> NDArray[Any]:
    """The stored values that a receiver makes of an encoding."""
    dtype, samples = series.volume.voxels.dtype, series.entry.samples
    codec = codec_named(encoded.codec)
    found = decode_with(
        codec,
        encoded.payload,
        job.box.shape,
        samples.sample_dtype(dtype),
        dict(encoded.settings),
        Given(owned_mask(job.box, job.holes)),
    )
    return samples.from_samples(found, dtype)


@pytest.mark.parametrize(("voxels", "kind"), CASES)
def test_every_layer_of_every_kind_of_samples_is_exact(
    voxels: NDArray[Any], kind: SampleKind
) -> None:
    series = series_of(voxels, [ROI], TISSUE)
    assert series.entry.samples.kind is kind
    rebuilt = np.zeros(voxels.shape, voxels.dtype.newbyteorder("="))
    for job in jobs_of(series, quality=Quality.EXACT):
        encoded = encode(series, job)
        owned = owned_mask(job.box, job.holes)
        values = decoded(series, job, encoded)
        assert region_digest(values, owned) == encoded.voxel_digest
        assert layer_digest(voxels, job) == encoded.voxel_digest
        assert encoded.owned_voxels == owned_count(job.box, job.holes)
        assert encoded.fidelity == Fidelity()
        chosen = slice(None) if owned is None else owned
        rebuilt[job.box.slices][chosen] = values[chosen]
    assert rebuilt.astype(voxels.dtype).tobytes() == voxels.tobytes()


@pytest.mark.parametrize(("voxels", "kind"), CASES)
def test_encoding_leaves_the_volume_as_it_is(voxels: NDArray[Any], kind: SampleKind) -> None:
    """Blocks of whole slices are views of it, and what they do not own is filled."""
    series = series_of(voxels.copy(), [ROI], TISSUE)
    for job in series.jobs:
        if job.key.quality is Quality.PREVIEW:
            target = PreviewTarget(40.0, 0.5)
            encode_lossy(cut_out(series.volume.voxels, job), series.entry, "hevc", target, 28)
        else:
            encode(series, job)
    assert series.volume.voxels.tobytes() == voxels.tobytes(), kind


@pytest.mark.parametrize("codec", [codec.name for codec in exact_codecs()])
def test_every_exact_codec_serves_an_exact_layer(codec: str) -> None:
    series = series_of(brain(), [ROI], TISSUE)
    job = jobs_of(series, "tissue_exact")[0]
    encoded = encode(series, job, codec)
    assert encoded.codec == codec
    owned = owned_mask(job.box, job.holes)
    assert region_digest(decoded(series, job, encoded), owned) == encoded.voxel_digest


@pytest.mark.parametrize(("level", "number"), [("fast", 1), ("archive", 3)])
def test_a_level_travels_with_the_encoding(level: str, number: int) -> None:
    series = series_of(brain(), [ROI], TISSUE)
    for job in jobs_of(series, quality=Quality.EXACT):
        encoded = encode(series, job, f"causal3d:{level}")
        assert (encoded.codec, encoded.settings) == ("causal3d", (("level", number),))
        owned = owned_mask(job.box, job.holes)
        assert region_digest(decoded(series, job, encoded), owned) == encoded.voxel_digest


def test_raw_samples_go_to_the_codec_that_takes_anything() -> None:
    series = series_of(VOLUMES[SampleKind.RAW][0])
    encoded = encode(series, jobs_of(series, quality=Quality.EXACT)[0])
    assert (encoded.codec, encoded.settings) == (PLAIN_CODEC, ())


def test_effort_is_for_codecs_that_have_it() -> None:
    series = series_of(brain())
    (job,) = jobs_of(series, quality=Quality.EXACT)
    voxels, entry = series.volume.voxels, series.entry
    cut = cut_out(voxels, job)
    assert encode_exact(cut, entry.samples, "jpegxl", 5).settings == (("effort", 5),)
    assert encode_exact(cut, entry.samples, "jpegxl", None).settings == ()
    assert encode_exact(cut, entry.samples, "jpegls", 5).settings == ()


@dataclass
class Broken:
    """An exact codec that keeps no promise."""

    fault: str
    name = "broken"
    promise = Promise.EXACT

    @property
    def defaults(self) -> Settings:
        return {"effort": 3}

    def takes(self, dtype: np.dtype[Any]) -> bool:
        return dtype.kind == "u"

    def encode(self, block: Block, settings: Settings) -> bytes:
        assert dict(settings) == {"effort": 3}
        if self.fault == "cannot encode":
            raise CodecError("broken: no such block")
        return block.samples.tobytes()

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], _settings: Settings
    ) -> NDArray[Any]:
        if self.fault == "cannot decode":
            raise CodecError("broken: not mine")
        samples = np.frombuffer(payload, dtype).reshape(shape).copy()
        match self.fault:
            case "wrong voxel":
                samples[0, 0, 0] ^= 1
            case "wrong type":
                samples = samples.astype(np.uint32)
            case "wrong shape":
                samples = samples.reshape(-1)[:-1]
        return samples


@pytest.mark.parametrize(
    "fault", ["cannot encode", "cannot decode", "wrong voxel", "wrong type", "wrong shape"]
)
def test_a_codec_that_does_not_bring_the_voxels_back_is_replaced(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    codecs = MappingProxyType({**registry.CODECS, "broken": Broken(fault)})
    monkeypatch.setattr(registry, "CODECS", codecs)
    series = series_of(brain(), [ROI], TISSUE)
    for job in jobs_of(series, quality=Quality.EXACT):
        encoded = encode(series, job, "broken")
        assert (encoded.codec, encoded.settings) == (PLAIN_CODEC, ())
        owned = owned_mask(job.box, job.holes)
        assert region_digest(decoded(series, job, encoded), owned) == encoded.voxel_digest


def test_a_codec_that_keeps_its_promise_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    codecs = MappingProxyType({**registry.CODECS, "broken": Broken("")})
    monkeypatch.setattr(registry, "CODECS", codecs)
    series = series_of(brain())
    encoded = encode(series, jobs_of(series, quality=Quality.EXACT)[0], "broken")
    assert (encoded.codec, encoded.settings) == ("broken", (("effort", 3),))


def test_a_codec_that_there_is_not_is_a_fault_of_the_settings() -> None:
    series = series_of(brain())
    with pytest.raises(SettingsError, match="no codec 'jpegxxl'"):
        encode(series, series.jobs[-1], "jpegxxl")


@pytest.mark.parametrize("stage", ["roi_preview", "whole_preview"])
@pytest.mark.parametrize("voxels", [brain(), VOLUMES[SampleKind.RAW][3]], ids=["i2", "f8"])
def test_a_preview_tells_the_error_of_what_it_owns(voxels: NDArray[Any], stage: str) -> None:
    series = series_of(voxels, [ROI], TISSUE)
    (job,) = jobs_of(series, stage)
    assert not is_exact(job)
    encoded = encode_lossy(cut_out(voxels, job), series.entry, "hevc", PreviewTarget(40.0, 2.0), 28)
    owned = owned_mask(job.box, job.holes)
    codec = codec_named("hevc")
    samples = codec.decode(
        encoded.payload, job.box.shape, np.dtype(np.uint16), dict(encoded.settings)
    )
    shown = series.entry.window.from_preview(samples, voxels.dtype)
    assert encoded.fidelity == measure(voxels[job.box.slices], shown, owned)
    assert (encoded.codec, encoded.voxel_digest) == ("hevc", b"")
    assert encoded.owned_voxels == owned_count(job.box, job.holes)
    assert [name for name, _ in encoded.settings] == ["crf"]


def test_exact_layers_are_exact() -> None:
    series = series_of(brain(), [ROI], TISSUE)
    assert all(map(is_exact, jobs_of(series, quality=Quality.EXACT)))


@pytest.mark.parametrize("content", [b"x", b"extension" * 1000, bytes(range(256))])
def test_what_stands_beside_the_voxels_comes_back(content: bytes) -> None:
    encoded = encode_bytes(content)
    shape = (1, 1, len(content))
    found = codec_named(encoded.codec).decode(encoded.payload, shape, np.dtype(np.uint8), {})
    assert found.tobytes() == content
    assert encoded.voxel_digest == hashlib.sha256(content).digest()
    assert encoded.owned_voxels == 0


def bounded(series: Series, job: LayerJob) -> Encoded | None:
    return encode_bounded(cut_out(series.volume.voxels, job), series.entry.samples, None)


@pytest.mark.parametrize("dtype", ["<i2", "<u2", "<f4"])
def test_a_bounded_layer_is_within_the_error_that_it_tells(dtype: str) -> None:
    series = series_of(brain((12, 64, 64), dtype), [ROI], TISSUE)
    for job in jobs_of(series, "tissue_bounded"):
        encoded = bounded(series, job)
        assert encoded is not None
        assert encoded.voxel_digest == b""
        owned = owned_mask(job.box, job.holes)
        truth = series.volume.voxels[job.box.slices].astype(float)
        error = np.abs(decoded(series, job, encoded).astype(float) - truth)
        worst = error.max() if owned is None else error[owned].max()
        assert 0 < worst <= encoded.fidelity.max_error
        assert encoded.fidelity.max_error == LADDERS[dict(encoded.settings)["ladder"]][0] // 2


def test_what_has_no_noise_or_names_its_values_is_not_bounded() -> None:
    flat = series_of(np.full((4, 16, 16), 7, np.int16))
    assert bounded(flat, jobs_of(flat, "tissue_bounded")[0]) is None
    voxels, kind = VOLUMES[SampleKind.LEVELS][0], SampleKind.LEVELS
    series = series_of(voxels)
    assert series.entry.samples.kind is kind
    assert bounded(series, jobs_of(series, "tissue_bounded")[0]) is None


def test_an_exact_layer_on_top_of_a_bounded_one_needs_it() -> None:
    series = series_of(brain((12, 64, 64)))
    (low,), (top,) = jobs_of(series, "tissue_bounded"), jobs_of(series, "tissue_exact")
    below = bounded(series, low)
    assert below is not None
    base = Base(3, below.payload, below.codec, below.settings)
    cut, samples_of = cut_out(series.volume.voxels, top), series.entry.samples
    encoded = encode_exact(cut, samples_of, "causal3d", None, base)
    codec, dtype = codec_named("causal3d"), samples_of.sample_dtype(cut.block.dtype)
    coarse = decode_with(
        codec, below.payload, cut.block.shape, dtype, dict(below.settings), Given()
    )
    settings = dict(encoded.settings)
    found = decode_with(
        codec, encoded.payload, cut.block.shape, dtype, settings, Given(None, coarse)
    )
    assert np.array_equal(samples_of.from_samples(found, cut.block.dtype), cut.block)
    with pytest.raises(CodecError):
        decode_with(codec, encoded.payload, cut.block.shape, dtype, settings, Given())
    coarse[0, 0, 0] ^= 1
    with pytest.raises(CodecError):
        decode_with(codec, encoded.payload, cut.block.shape, dtype, settings, Given(None, coarse))
