"""Whole transfers in virtual time in which voxels come out wrong, or the reader looks elsewhere."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import numpy as np
import pytest

from protocol.messages import Focus, Mark
from receiver.answers import Answers
from receiver.compose import GrowingVolume
from receiver.decode import InlineDecoder
from sender.settings import SendSettings
from shared.errors import CodecError, ExitCode, IntegrityError
from shared.geometry import Box
from shared.layer import Quality
from shared.link import parse_link
from shared.transports.simulated import SimulatedLine
from shared.workers import InlineWorkers
from tests.endtoend.test_virtual_transfers import IN_BOX, is_exact
from tests.endtoend.virtual_transfer import (
    SLOW,
    Corrupting,
    Ended,
    Painted,
    Watching,
    cut_small,
    send,
    study_in,
    transfer,
    watch_painting,
)
from tests.sender.read.files import nifti
from tests.sender.studies import brain
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from receiver.decode import DecodeTask
    from sender.prepare import Study

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SHAPE = (24, 64, 64)
EVERY_FORM = ("jpegls", "jpegxl", "zstd")


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Painted:
    return watch_painting(monkeypatch)


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A head in some thirty exact layers."""
    cut_small(monkeypatch, 2 * 64 * 64)
    return study_in(tmp_path / "in", {"head.nii": brain(SHAPE)}, IN_BOX)


@pytest.fixture
def source(head: Study, tmp_path: Path) -> bytes:
    assert len(head.series[0].jobs) > 25
    return (tmp_path / "in" / "head.nii").read_bytes()


def test_a_layer_that_decodes_wrongly_comes_again_by_another_codec(
    head: Study, source: bytes, tmp_path: Path, painted: Painted
) -> None:
    decoder = Corrupting(
        lambda task: (
            [each.codec for each in decoder.tasks].count("jpegxl") == 5 and task.codec == "jpegxl"
        )
    )
    ended = send(head, tmp_path / "out", settings=IN_BOX, decoder=decoder)
    is_exact(ended, source)
    ((key, codec),) = painted.refused
    assert codec == "jpegxl"
    assert painted.proven.count(key) == 1
    assert len(painted.proven) == len(set(painted.proven))


def test_a_layer_that_the_decoder_gives_up_comes_again_too(
    head: Study, source: bytes, tmp_path: Path
) -> None:
    class GivingUp(InlineDecoder):
        given_up = 0

        async def decode(self, task: DecodeTask) -> NDArray[Any]:
            if task.codec == "jpegxl" and self.given_up < 3:
                self.given_up += 1
                raise CodecError("took too long and was stopped")
            return await super().decode(task)

    ended = send(head, tmp_path / "out", settings=IN_BOX, decoder=GivingUp())
    is_exact(ended, source)
    assert ended.receiver.quarantine is not None
    assert ended.receiver.quarantine.count == 3


def test_a_layer_of_which_two_codecs_lie_comes_plainly(
    head: Study, source: bytes, tmp_path: Path, painted: Painted
) -> None:
    tissue = next(job for job in head.series[0].jobs if job.stage.name == "tissue_exact")
    lies = Corrupting(lambda task: task.shape == tissue.box.shape and task.codec != "zstd")
    ended = send(head, tmp_path / "out", settings=IN_BOX, decoder=lies)
    is_exact(ended, source)
    for key in {key for key, _ in painted.refused}:
        assert sorted(codec for each, codec in painted.refused if each == key) == [
            "jpegls",
            "jpegxl",
        ]
    assert len(painted.refused) > 5


@pytest.mark.parametrize("where", ["roi", "elsewhere"])
def test_voxels_that_change_on_the_disk_are_never_called_exact_and_come_again(
    head: Study,
    source: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """One bit, behind our back, in a layer that was proven."""
    spoilt: list[Any] = []
    paint = GrowingVolume.paint_exact

    def spoil(volume: GrowingVolume, offer: Any, samples: NDArray[Any]) -> bool:
        good = paint(volume, offer, samples)
        if good and not spoilt and (offer.key.region == "roi0") == (where == "roi"):
            spoilt.append(offer.key)
            owned = np.argwhere(volume.files.quality == Quality.VERIFIED)[0]
            volume.files.voxels[tuple(owned)] ^= 1
        return good

    monkeypatch.setattr(GrowingVolume, "paint_exact", spoil)
    truth = np.frombuffer(source, "<i2", offset=352).reshape(SHAPE)
    seen: list[Mark] = []

    def look(session: Any, _series: int, reached: Mark) -> None:
        seen.append(reached)
        if reached in (Mark.ROI_EXACT, Mark.WHOLE_EXACT):
            volume = session.volumes[0]
            roi = volume.regions["roi0"].box if reached is Mark.ROI_EXACT else Box.whole(SHAPE)
            assert np.array_equal(volume.files.voxels[roi.slices], truth[roi.slices])

    ended = send(head, tmp_path / "out", settings=IN_BOX, watcher=Watching(look))
    is_exact(ended, source)
    assert spoilt
    assert seen.count(Mark.WHOLE_EXACT) == 1
    assert ended.receiver.painter.wanted == {spoilt[0]: 1}
    assert Mark.ROI_EXACT in seen


def test_a_layer_that_never_stays_right_on_the_disk_ends_the_study(
    head: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint = GrowingVolume.paint_exact

    def spoil(volume: GrowingVolume, offer: Any, samples: NDArray[Any]) -> bool:
        good = paint(volume, offer, samples)
        if offer.key.region == "roi0":
            volume.files.voxels[offer.box.start] ^= 1
        return good

    monkeypatch.setattr(GrowingVolume, "paint_exact", spoil)
    ended = send(head, tmp_path / "out", settings=IN_BOX)
    assert all(isinstance(error, IntegrityError) for error in ended.errors)
    assert ended.volume.path is None
    roi = ended.volume.files.quality[ended.volume.regions["roi0"].box.slices]
    assert (roi < Quality.VERIFIED).all()


def test_a_demoted_layer_is_asked_for_over_the_next_line_too(
    head: Study, source: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word of it is lost with the line on which it is said."""
    spoilt: list[int] = []
    paint, want = GrowingVolume.paint_exact, Answers.want

    def spoil(volume: GrowingVolume, offer: Any, samples: NDArray[Any]) -> bool:
        good = paint(volume, offer, samples)
        if not spoilt and offer.key.region == "tissue":
            spoilt.append(offer.number)
            owned = np.argwhere(volume.files.quality == Quality.VERIFIED)[-1]
            volume.files.voxels[tuple(owned)] ^= 1
        return good

    async def cut(answers: Answers, number: int) -> None:
        for visit in answers.session.visits.there:
            visit.transport.abort()
        await want(answers, number)

    monkeypatch.setattr(GrowingVolume, "paint_exact", spoil)
    monkeypatch.setattr(Answers, "want", cut)

    async def main() -> Ended:
        return await transfer(
            head, tmp_path / "out", SimulatedLine(parse_link(SLOW), 0), IN_BOX, lines=2
        )

    ended = run_virtual(main(), limit_s=3600)
    is_exact(ended, source)
    assert spoilt
    assert sum(ended.receiver.painter.wanted.values()) == 1


def test_a_layer_that_is_wrong_in_every_form_ends_the_study_at_both_ends(
    head: Study, tmp_path: Path, painted: Painted
) -> None:
    tissue = next(job for job in head.series[0].jobs if job.stage.name == "tissue_exact")
    decoder = Corrupting(lambda task: task.shape == tissue.box.shape and task.codec in EVERY_FORM)
    ended = send(head, tmp_path / "out", settings=IN_BOX, decoder=decoder)
    for error in ended.errors:
        assert isinstance(error, IntegrityError)
        assert error.exit_code == ExitCode.INTEGRITY
        assert "tissue EXACT block" in str(error)
    assert [codec for _, codec in painted.refused][-1] == "zstd"
    assert ended.sender.exact is None
    assert ended.receiver.exact is None
    assert ended.volume.path is None


def test_a_preview_that_does_not_decode_costs_only_the_preview(
    head: Study, source: bytes, tmp_path: Path
) -> None:
    class Blind(InlineDecoder):
        async def decode(self, task: DecodeTask) -> NDArray[Any]:
            if task.codec == "hevc":
                raise CodecError("no HEVC here")
            return await super().decode(task)

    ended = send(head, tmp_path / "out", settings=IN_BOX, decoder=Blind())
    is_exact(ended, source)
    assert ended.at_s(Mark.ROI_PREVIEW) == ended.at_s(Mark.ROI_EXACT)


def test_what_stands_beside_the_voxels_comes_again_where_it_was_wrong(tmp_path: Path) -> None:
    extension = b"\1\0\0\0" + bytes([64, 0, 0, 0, 6, 0, 0, 0]) + b"a comment".ljust(56)
    content = nifti(brain((4, 20, 20)), vox_offset=416, extension=extension)
    study = study_in(tmp_path / "in", {"scan.nii": content}, SendSettings())
    wrong = [True]
    decoder = Corrupting(lambda task: task.shape == (1, 1, 68) and bool(wrong and wrong.pop()))
    ended = send(study, tmp_path / "out", decoder=decoder)
    is_exact(ended, content)


def test_what_the_reader_asks_for_is_proven_before_all_that_was_not_under_way(
    head: Study, source: bytes, tmp_path: Path, painted: Painted
) -> None:
    foot = Box((0, 0, 0), (1, 4, 4))
    plain = send(head, tmp_path / "plain", settings=IN_BOX)
    is_exact(plain, source)
    last = [at for at, box in enumerate(painted.boxes) if box.intersection(foot)]
    assert min(last) > 15  # it would come late
    painted.boxes.clear()
    asked: list[int] = []

    def look_elsewhere(session: Any, series: int, mark: Mark) -> None:
        if mark is Mark.ROI_EXACT:
            session.focus(Focus(series, foot, 0))
            asked.append(len(painted.boxes))

    watching = Watching(look_elsewhere)
    ended = send(head, tmp_path / "out", settings=IN_BOX, watcher=watching)
    is_exact(ended, source)
    met = [at for at, box in enumerate(painted.boxes) if box.intersection(foot)]
    assert len(met) == len(last)
    assert max(met) - asked[0] <= 5  # behind those that were on the wire already


def test_looking_at_the_background_first_leaves_continuous_voxels_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Background and tissue layers fill what the ROI owns: in a copy, never in the volume."""
    cut_small(monkeypatch, 4 * 64 * 64)
    voxels = brain(SHAPE) + np.random.default_rng(0).normal(size=SHAPE)
    study = study_in(tmp_path / "in", {"head.nii": voxels}, IN_BOX)

    async def look(ended: Ended) -> None:
        await asyncio.sleep(0.16)
        ended.receiver.focus(Focus(0, Box((0, 0, 0), (24, 1, 1)), 0))

    ended = send(study, tmp_path / "out", "rate=2M,rtt=100ms", settings=IN_BOX, meanwhile=look)
    is_exact(ended, (tmp_path / "in" / "head.nii").read_bytes())


def test_a_paused_transfer_waits_and_goes_on(head: Study, source: bytes, tmp_path: Path) -> None:
    async def pause(ended: Ended) -> None:
        await asyncio.sleep(1.0)
        ended.receiver.pause(paused=True)
        await asyncio.sleep(20.0)
        ended.receiver.pause(paused=False)

    ended = send(head, tmp_path / "out", settings=IN_BOX, meanwhile=pause)
    is_exact(ended, source)
    assert ended.at_s(Mark.WHOLE_EXACT) > 21


class SlowHeaders(InlineWorkers):
    """Takes long over what the files held beside the voxels, and tells a test in the middle."""

    def __init__(self) -> None:
        self.halfway = asyncio.Event()

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if getattr(work, "__name__", "") == "encode_bytes":
            await asyncio.sleep(3.0)
            self.halfway.set()
            await asyncio.sleep(3.0)
        return await super().run(work, *arguments)


def test_a_line_that_is_taken_over_while_headers_are_made_does_not_end_without_them(
    tmp_path: Path,
) -> None:
    plain = nifti(brain((8, 48, 48)))
    comment = struct.pack("<ii", 64, 6) + b"what the scanner said".ljust(56, b"\0")
    start = struct.pack("<f", 352 + 64)  # vox_offset, of what lies behind the comment
    scan = plain[:108] + start + plain[112:348] + b"\1\0\0\0" + comment + plain[352:]
    study = study_in(tmp_path / "in", {"a.nii": scan}, SendSettings())

    workers = SlowHeaders()

    async def cut(ended: Ended) -> None:
        await workers.halfway.wait()
        assert ended.sender.offering is not None
        assert ended.sender.offering.outbox.count == 0
        ended.near.cut(asyncio.get_running_loop().time())

    async def main() -> Ended:
        line = SimulatedLine(parse_link("rate=20M,rtt=20ms"), 0)
        out = tmp_path / "out"
        return await transfer(study, out, line, workers=workers, meanwhile=cut, lines=2)

    ended = run_virtual(main(), limit_s=600)
    assert ended.sender.lines == 2
    is_exact(ended, scan)
