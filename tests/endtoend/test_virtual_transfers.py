"""Whole transfers in virtual time: what arrives, in which order, and how long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.messages import Mark
from receiver.files import fill_value
from sender import layering
from sender.settings import Background, SendSettings
from shared.geometry import Box
from shared.intensity import SampleKind
from shared.layer import Quality
from tests.endtoend.virtual_transfer import SLOW, Ended, Watching, send, study_in
from tests.sender.read.files import nifti
from tests.sender.studies import brain

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.geometry import Triple

ROI = Box((8, 20, 20), (14, 40, 44))
IN_BOX = SendSettings(exact_codec="jpegxl", roi=f"box:{ROI}")
TRACE = [*range(0, 300, 15), *range(2000, 2400, 10), 2500, 4000]
"""Milliseconds: 0.8 Mbit/s, then nothing for 1.7 s, then 1.2 Mbit/s, then next to nothing."""
_RNG = np.random.default_rng(11)
ODD = _RNG.normal(size=(6, 48, 40))
ODD[2:4, 3:9, 5:11] = np.nan
ODD[0, 0, :3] = (np.inf, -np.inf, -0.0)


def is_exact(ended: Ended, *sources: bytes) -> None:
    """The study ended well at both ends, and its files are the sources."""
    assert ended.errors == [None, None]
    assert ended.sender.exact is True
    assert ended.receiver.exact is True
    ledger = ended.ledger
    assert ledger.verified_voxels == ledger.kept_voxels
    assert ledger.verified_roi_voxels == ledger.roi_voxels
    for volume, source in zip(ended.receiver.volumes, sources, strict=True):
        assert volume.path is not None
        assert volume.path.read_bytes() == source
        assert not list(volume.path.parent.glob("*.partial*"))


def in_order(ended: Ended) -> None:
    """Marks come in the order that the quality of voxels can only rise in, at both ends."""
    for marks in (ended.received.marks(), ended.sent.marks()):
        assert marks["connected"] <= marks["roi_preview"] <= marks["roi_exact"]
        assert marks["roi_preview"] <= marks["whole_preview"] <= marks["whole_exact"]
        assert marks["roi_exact"] <= marks["whole_exact"]
    for name, at_s in ended.received.marks().items():
        heard_s = ended.sent[name]
        assert heard_s is not None
        assert heard_s >= at_s


@pytest.mark.parametrize(
    "link",
    [SLOW, "vsat-384k", "3g,loss=2%", "rate=2M,rtt=40ms,loss=10%", "lte", "lan", "rate=64k,rtt=2s"],
)
def test_a_head_arrives_exactly_roi_first_over_any_link(tmp_path: Path, link: str) -> None:
    study = study_in(tmp_path / "in", {"head.nii": brain((24, 64, 64))}, IN_BOX)
    ended = send(study, tmp_path / "out", link, settings=IN_BOX)
    is_exact(ended, (tmp_path / "in" / "head.nii").read_bytes())
    in_order(ended)


def test_over_a_recorded_link_the_outage_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "link.up").write_text("".join(f"{ms}\n" for ms in TRACE))
    study = study_in(tmp_path / "in", {"head.nii": brain((24, 64, 64))}, IN_BOX)
    ended = send(study, tmp_path / "out", f"trace:{tmp_path / 'link.up'},rtt=60ms", settings=IN_BOX)
    is_exact(ended, (tmp_path / "in" / "head.nii").read_bytes())
    in_order(ended)
    assert ended.at_s(Mark.ROI_EXACT) < 0.4
    assert ended.at_s(Mark.WHOLE_EXACT) > 2.0


def test_the_roi_is_exact_long_before_the_whole(tmp_path: Path) -> None:
    study = study_in(tmp_path / "in", {"head.nii": brain((24, 64, 64))}, IN_BOX)
    ended = send(study, tmp_path / "out", settings=IN_BOX)
    whole_s = ended.at_s(Mark.WHOLE_EXACT)
    assert ended.at_s(Mark.ROI_EXACT) < whole_s / 5
    assert ended.at_s(Mark.WHOLE_PREVIEW) < whole_s / 4
    size_bits = ended.sender.sent_bytes * 8
    assert whole_s < 1.15 * size_bits / 256e3 + 0.3  # the link is kept busy
    sent = sum(ended.ledger.bytes.values())
    assert sent <= ended.sender.sent_bytes <= sent * 1.1 + 4000


def test_several_rois_come_before_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        layering, "_BLOCK_VOXELS", dict.fromkeys(layering._BLOCK_VOXELS, 2 * 64 * 64)
    )
    mask = np.zeros((24, 64, 64), np.uint8)
    mask[3:5, 5:20, 8:30] = 1
    mask[18:22, 40:50, 40:44] = 2
    mask[10, 10, 10] = 1
    (tmp_path / "mask.nii").write_bytes(nifti(mask))
    chosen = SendSettings(roi=f"mask:{tmp_path / 'mask.nii'}")
    study = study_in(tmp_path / "in", {"head.nii": brain((24, 64, 64))}, chosen)
    qualities: list[NDArray[Any]] = []

    def look(session: Any, _series: int, mark: Mark) -> None:
        if mark is Mark.ROI_EXACT:
            qualities.append(session.volumes[0].files.quality.copy())

    ended = send(study, tmp_path / "out", settings=chosen, watcher=Watching(look))
    is_exact(ended, (tmp_path / "in" / "head.nii").read_bytes())
    in_order(ended)
    assert study.series[0].roi_voxels >= 2 * 15 * 22 + 4 * 10 * 4 + 1
    (quality,) = qualities
    assert bool((quality[mask > 0] == Quality.VERIFIED).all())
    outside = np.ones(mask.shape, np.bool_)
    for region in study.series[0].plan.regions:
        if region.kind.value == "roi":
            outside[region.box.slices] = False
    assert not (quality[outside] == Quality.VERIFIED).any()


def test_several_series_arrive_one_after_the_other(tmp_path: Path) -> None:
    files = {
        "a.nii": brain((8, 40, 40)),
        "b.nii": brain((6, 30, 50), dtype=">u2", seed=1),
        "c.nii": (brain((5, 32, 32), seed=2) * np.float32(0.31)).astype("<f4"),
    }
    chosen = SendSettings(roi="box:1:5,8:20,8:20")
    study = study_in(tmp_path / "in", files, chosen)
    watching = Watching()
    ended = send(study, tmp_path / "out", settings=chosen, watcher=watching)
    is_exact(ended, *[(tmp_path / "in" / name).read_bytes() for name in files])
    in_order(ended)
    assert len({volume.path for volume in ended.receiver.volumes}) == 3
    exact = [series for series, mark in watching.seen if mark is Mark.WHOLE_EXACT]
    assert sorted(exact) == [0, 1, 2]
    assert ended.at_s(Mark.WHOLE_EXACT) >= ended.at_s(Mark.ROI_EXACT)


def test_one_volume_of_a_4d_file_arrives_as_a_file_of_its_own(tmp_path: Path) -> None:
    both = np.stack([brain((6, 24, 24)), brain((6, 24, 24), seed=7)])
    study = study_in(tmp_path / "in", {"run.nii": both}, SendSettings(), volume=1)
    ended = send(study, tmp_path / "out")
    header = study.series[0].entry.header
    gap = bytes(header.voxel_offset - len(header.file_header))
    is_exact(ended, header.file_header + gap + both[1].tobytes())


CASES: dict[str, tuple[NDArray[Any] | bytes, SampleKind]] = {
    "bytes": (brain((6, 24, 24)).clip(0, 200).astype("|u1"), SampleKind.INTEGER),
    "signed bytes": (brain((4, 16, 16)).clip(0, 100).astype("|i1"), SampleKind.INTEGER),
    "big-endian": (brain((6, 24, 24), dtype=">i2"), SampleKind.INTEGER),
    "16 full bits": (_RNG.integers(0, 65536, (4, 20, 20)).astype("<u2"), SampleKind.INTEGER),
    "wide": (_RNG.integers(-(2**31), 2**31, (5, 30, 40)).astype("<i4"), SampleKind.RAW),
    "int64 offset": (brain((4, 20, 20), dtype="<i8") + 2**62, SampleKind.INTEGER),
    "uint64 ends": (
        np.where(brain((4, 20, 20)) > 9, 2**64 - 1, 0).astype(">u8"),
        SampleKind.LEVELS,
    ),
    "step": ((brain((6, 24, 24)) * np.float32(0.2317)).astype(">f4"), SampleKind.STEP),
    "levels": (np.where(brain((6, 24, 24)) > 200, np.nan, -0.0), SampleKind.LEVELS),
    "raw": (ODD, SampleKind.RAW),
    "all NaN": (np.full((3, 9, 9), np.nan, "<f4"), SampleKind.LEVELS),
    "constant": (np.full((3, 9, 9), -1024, "<i2"), SampleKind.INTEGER),
    "NIfTI-2": (nifti(brain((4, 20, 20)), version=2), SampleKind.INTEGER),
    "extension": (
        nifti(
            brain((4, 20, 20)),
            vox_offset=416,
            extension=b"\1\0\0\0" + bytes([64, 0, 0, 0, 6, 0, 0, 0]) + b"a comment".ljust(56),
        ),
        SampleKind.INTEGER,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_any_kind_of_voxels_comes_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    content, kind = CASES[name]
    study = study_in(tmp_path / "in", {"scan.nii": content}, SendSettings())
    assert study.series[0].entry.samples.kind is kind
    ended = send(study, tmp_path / "out", "rate=1M,rtt=50ms,loss=1%")
    is_exact(ended, (tmp_path / "in" / "scan.nii").read_bytes())


@pytest.mark.parametrize("roi", ["none", "tissue", "box:0:1,0:1,0:1"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (1, 1, 9), (9, 1, 1), (2, 3, 1)])
def test_tiny_volumes_arrive(tmp_path: Path, shape: Triple, roi: str) -> None:
    voxels = np.arange(np.prod(shape), dtype="<i2").reshape(shape)
    chosen = SendSettings(roi=roi)
    study = study_in(tmp_path / "in", {"tiny.nii": voxels}, chosen)
    ended = send(study, tmp_path / "out", settings=chosen)
    is_exact(ended, (tmp_path / "in" / "tiny.nii").read_bytes())


@pytest.mark.parametrize("dtype", ["<i2", "|u1", "<f4"])
def test_a_discarded_background_is_marked_and_never_called_exact(
    tmp_path: Path, dtype: str
) -> None:
    voxels = brain((12, 40, 40)).clip(0, 250).astype(dtype)
    chosen = SendSettings(roi="box:0:3,0:9,0:9", background=Background.DISCARD)
    study = study_in(tmp_path / "in", {"head.nii": voxels}, chosen)
    ended = send(study, tmp_path / "out", settings=chosen)
    assert ended.errors == [None, None]
    assert (ended.sender.exact, ended.receiver.exact) == (False, False)
    assert ended.received[Mark.WHOLE_EXACT.value] is None
    quality = np.asarray(ended.volume.files.quality)
    found = np.asarray(ended.volume.files.voxels)
    kept = np.zeros(voxels.shape, np.bool_)
    for region in study.series[0].plan.regions:
        if region.kind.value in ("roi", "tissue"):
            kept[region.box.slices] = True
    assert 0 < int((~kept).sum()) == ended.volume.discarded_voxels
    assert bool((quality[kept] == Quality.VERIFIED).all())
    assert bool((quality[~kept] == Quality.DISCARDED).all())
    assert np.array_equal(found[kept], voxels[kept])
    lost = np.full(int((~kept).sum()), fill_value(voxels.dtype), voxels.dtype)
    assert found[~kept].tobytes() == lost.tobytes()
    assert not (ended.volume.path and ended.volume.path.exists())


def test_discarding_where_there_is_no_background_is_exact(tmp_path: Path) -> None:
    voxels = brain((4, 20, 20)) + 50
    chosen = SendSettings(roi="box:0:4,0:20,0:20", background=Background.DISCARD)
    study = study_in(tmp_path / "in", {"head.nii": voxels}, chosen)
    ended = send(study, tmp_path / "out", settings=chosen)
    is_exact(ended, (tmp_path / "in" / "head.nii").read_bytes())


@pytest.mark.parametrize("link", ["rate=300k,rtt=80ms,loss=3%", "lte"])
def test_the_same_seed_gives_the_same_transfer(tmp_path: Path, link: str) -> None:
    study = study_in(tmp_path / "in", {"head.nii": brain((24, 64, 64))}, IN_BOX)

    def run(out: str, seed: int) -> tuple[object, ...]:
        ended = send(study, tmp_path / out, link, seed=seed, settings=IN_BOX)
        is_exact(ended, (tmp_path / "in" / "head.nii").read_bytes())
        return (
            ended.received.marks(),
            ended.sent.marks(),
            ended.near.stats(),
            ended.near._other.stats(),
        )

    first = run("one", 1)
    assert run("two", 1) == first
    if "loss" in link:
        assert run("three", 2) != first


@settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 20), st.integers(1, 20)),
    dtype=st.sampled_from(["<i2", ">u2", "|u1", "<f4", ">f8", "<i8"]),
    noisy=st.booleans(),
    roi=st.sampled_from(["tissue", "none", "box:0:1,0:1,0:1", "tissue:code"]),
    background=st.sampled_from(list(Background)),
    link=st.sampled_from([SLOW, "rate=1M,rtt=200ms,loss=5%", "lan"]),
    block_voxels=st.sampled_from([50, 700, 1 << 20]),
    seed=st.integers(0, 99),
)
def test_any_small_study_arrives(
    tmp_path_factory: pytest.TempPathFactory,
    shape: Triple,
    dtype: str,
    noisy: bool,
    roi: str,
    background: Background,
    link: str,
    block_voxels: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(seed)
    voxels = (rng.normal(50, 20, shape) if noisy else brain(shape, seed=seed)).astype(dtype)
    chosen = SendSettings(roi=roi, background=background)
    with pytest.MonkeyPatch.context() as patch:
        sizes = dict.fromkeys(layering._BLOCK_VOXELS, block_voxels)
        patch.setattr(layering, "_BLOCK_VOXELS", sizes)
        study = study_in(folder / "in", {"scan.nii": voxels}, chosen)
    ended = send(study, folder / "out", link, seed=seed, settings=chosen)
    assert ended.errors == [None, None]
    discards = any(region.discarded for region in study.series[0].plan.regions)
    if not discards:
        is_exact(ended, (folder / "in" / "scan.nii").read_bytes())
    else:
        known = np.asarray(ended.volume.files.quality) == Quality.VERIFIED
        assert np.array_equal(np.asarray(ended.volume.files.voxels)[known], voxels[known])
        assert ended.sender.exact is False
