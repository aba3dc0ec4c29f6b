"""Whole transfers in virtual time in which voxels come out wrong, or the reader looks elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from protocol.messages import Focus, Mark
from receiver.decode import InlineDecoder
from sender.settings import SendSettings
from shared.errors import CodecError, ExitCode, IntegrityError
from shared.geometry import Box
from tests.endtoend.test_virtual_transfers import IN_BOX, is_exact
from tests.endtoend.virtual_transfer import (
    Corrupting,
    Ended,
    Painted,
    Watching,
    cut_small,
    send,
    study_in,
    watch_painting,
)
from tests.sender.read.files import nifti
from tests.sender.studies import brain

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from receiver.decode import DecodeTask
    from sender.prepare import Study

SHAPE = (24, 64, 64)


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


def test_a_layer_that_decodes_wrongly_comes_again_coded_plainly(
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
    assert [task.codec for task in decoder.tasks].count("zstd") == 1
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
    assert "zstd" in set(ended.receiver.painter.codecs.values()) | set(ended.ledger.codecs.values())


def test_a_layer_that_is_wrong_twice_ends_the_study_at_both_ends(
    head: Study, tmp_path: Path, painted: Painted
) -> None:
    tissue = next(job for job in head.series[0].jobs if job.stage.name == "tissue_exact")
    decoder = Corrupting(
        lambda task: task.shape == tissue.box.shape and task.codec in ("jpegxl", "zstd")
    )
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
