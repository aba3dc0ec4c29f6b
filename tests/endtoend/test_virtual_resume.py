"""Broken lines in virtual time, and what a second session makes of what the first has left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from protocol.messages import Mark
from sender.session import SendingSession
from sender.settings import SendSettings
from shared.errors import ExitCode, InputError, PeerRefused, TransportClosed
from shared.layer import Quality
from tests.endtoend.test_virtual_transfers import IN_BOX, ROI, is_exact
from tests.endtoend.virtual_transfer import (
    Ended,
    Painted,
    Watching,
    cut_small,
    send,
    study_in,
    watch_painting,
)
from tests.sender.studies import brain
from tests.virtual import START_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from sender.prepare import Study

BEFORE_ACCEPT_BYTES = 18 << 10
"""The first window of a session is under way before the receiver can say what it holds."""
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


def cut_at(at_s: float) -> Callable[[Ended], Coroutine[Any, Any, None]]:
    """What cuts the line so long after the transfer began."""

    async def meanwhile(ended: Ended) -> None:
        ended.near.cut(START_S + at_s)

    return meanwhile


def exact_bytes(ended: Ended) -> int:
    """Encoded bytes of exact layers that this session counted as sent."""
    return sum(size for stage, size in ended.ledger.bytes.items() if "exact" in stage)


@pytest.mark.parametrize("at_s", [0.03, 0.12, 0.3, 1.0, 2.0])
def test_a_cut_line_ends_both_ends_and_a_second_session_sends_the_rest(
    head: Study, source: bytes, tmp_path: Path, painted: Painted, at_s: float
) -> None:
    out = tmp_path / "out"
    whole = send(head, tmp_path / "whole", settings=IN_BOX)
    painted.proven.clear()
    painted.size_bytes = 0
    first = send(head, out, settings=IN_BOX, meanwhile=cut_at(at_s))
    for error in first.errors:
        assert isinstance(error, TransportClosed)
        assert error.exit_code == ExitCode.INTERRUPTED
    proven, spared_bytes = list(painted.proven), painted.size_bytes
    painted.proven.clear()
    second = send(head, out, settings=IN_BOX)
    is_exact(second, source)
    again = set(proven) & set(painted.proven)
    assert not again
    assert sorted([*proven, *painted.proven]) == sorted(
        job.key for job in head.series[0].jobs if job.key.quality is Quality.EXACT
    )
    assert bool(proven) == (at_s >= 0.3)
    limit_bytes = whole.sender.sent_bytes - spared_bytes + BEFORE_ACCEPT_BYTES
    assert second.sender.sent_bytes <= limit_bytes


def test_a_third_session_finds_what_two_have_left(
    head: Study, source: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    held = []
    for at_s in (1.2, 1.4):
        broken = send(head, out, settings=IN_BOX, meanwhile=cut_at(at_s))
        assert isinstance(broken.errors[0], TransportClosed)
        held.append(broken.volume.whole.at[Quality.VERIFIED])
    assert held[0] < held[1]
    is_exact(send(head, out, settings=IN_BOX), source)


def test_a_session_of_which_everything_has_arrived_is_only_finished(
    head: Study, source: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def cut(session: Any, _series: int, mark: Mark) -> None:
        if mark is Mark.WHOLE_EXACT:
            session.visits.there[0].transport.cut()

    first = send(head, out, settings=IN_BOX, watcher=Watching(cut))
    assert isinstance(first.errors[0], TransportClosed)
    second = send(head, out, settings=IN_BOX)
    is_exact(second, source)
    assert exact_bytes(first) > 60_000
    assert exact_bytes(second) < BEFORE_ACCEPT_BYTES


@pytest.mark.parametrize("damage", ["a byte", "all of it", "a shorter file"])
def test_what_is_no_longer_right_on_disk_is_sent_again(
    head: Study, source: bytes, tmp_path: Path, painted: Painted, damage: str
) -> None:
    out = tmp_path / "out"
    first = send(head, out, settings=IN_BOX, meanwhile=cut_at(1.5))
    spoilt, box = painted.proven[-1], painted.boxes[-1]
    intact = set(painted.proven) - {spoilt}
    path = first.volume.files.path
    content = bytearray(path.read_bytes())
    z, y, x = box.start
    at = 352 + 2 * ((z * SHAPE[1] + y) * SHAPE[2] + x)
    match damage:
        case "a byte":
            content[at] ^= 1
        case "all of it":
            content[352:] = bytes(len(content) - 352)
        case "a shorter file":
            del content[-1000:]
    path.write_bytes(content)
    painted.proven.clear()
    second = send(head, out, settings=IN_BOX)
    is_exact(second, source)
    assert spoilt in painted.proven
    assert bool(intact & set(painted.proven)) == (damage != "a byte")


@pytest.mark.parametrize("alike", ["series", "slices", "air"])
def test_layers_that_are_alike_are_not_taken_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: str
) -> None:
    """A digest does not say where its voxels lie: copies of a series, phantoms, air."""
    cut_small(monkeypatch, 2 * 64 * 64)
    head = brain(SHAPE)
    match alike:
        case "series":
            files = {"a.nii": head, "b.nii": head}
        case "slices":
            files = {"phantom.nii": np.repeat(head[12:13], SHAPE[0], axis=0)}
        case _:
            files = {"scan.nii": np.where(np.arange(24)[:, None, None] // 6 == 2, head, 0)}
    study = study_in(tmp_path / "in", files, IN_BOX)
    sources = [(tmp_path / "in" / name).read_bytes() for name in files]
    for at_s in (0.4, 0.9, 1.2, 1.4):
        broken = send(study, tmp_path / "out", settings=IN_BOX, meanwhile=cut_at(at_s))
        if broken.errors[0] is None:
            break
        assert isinstance(broken.errors[0], TransportClosed)
    else:
        broken = send(study, tmp_path / "out", settings=IN_BOX)
    is_exact(broken, *sources)


def test_a_study_of_other_voxels_does_not_resume_this_one(
    head: Study, source: bytes, tmp_path: Path, painted: Painted
) -> None:
    out = tmp_path / "out"
    send(head, out, settings=IN_BOX, meanwhile=cut_at(1.5))
    other = study_in(tmp_path / "other", {"head.nii": brain(SHAPE) + 1}, IN_BOX)
    painted.proven.clear()
    ended = send(other, out, settings=IN_BOX)
    is_exact(ended, (tmp_path / "other" / "head.nii").read_bytes())
    assert len(painted.proven) == sum(
        job.key.quality is Quality.EXACT for job in other.series[0].jobs
    )


def test_a_study_that_is_cut_differently_the_second_time_still_ends_exact(
    head: Study, source: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    send(head, out, settings=IN_BOX, meanwhile=cut_at(1.5))
    elsewhere = SendSettings(roi="box:0:5,0:30,10:50")
    again = study_in(tmp_path / "in", {"head.nii": brain(SHAPE)}, elsewhere)
    assert again.manifest == head.manifest
    is_exact(send(again, out, settings=elsewhere), source)


def test_a_receiver_whose_disk_does_not_take_the_study_refuses_it(
    head: Study, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    ended = send(head, tmp_path / "out", settings=IN_BOX)
    assert isinstance(ended.errors[0], PeerRefused)
    assert isinstance(ended.errors[1], InputError)
    assert "the clinic's disk does not take it" in str(ended.errors[0])


def test_a_line_that_falls_silent_is_given_up(head: Study, tmp_path: Path) -> None:
    async def silence(ended: Ended) -> None:
        ended.near.silence(START_S + 1.0)
        ended.near._other.cut(START_S + 300.0)  # as a kernel does that hears nothing of a peer

    ended = send(head, tmp_path / "out", settings=IN_BOX, meanwhile=silence)
    assert isinstance(ended.errors[0], TransportClosed)
    assert 33 <= ended.ended_s[0] <= 36  # 2 s of silence, then 30 s; last words take 2 more
    assert isinstance(ended.errors[1], TransportClosed)


def test_a_sender_that_is_stopped_says_so(
    head: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[asyncio.Task[None]] = []
    run = SendingSession.run

    async def stoppable(session: SendingSession, preparing: Any) -> None:
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(run(session, preparing)))

    async def stop(ended: Ended) -> None:
        await asyncio.sleep(0.5)
        tasks[0].cancel()

    monkeypatch.setattr(SendingSession, "run", stoppable)
    ended = send(head, tmp_path / "out", settings=IN_BOX, meanwhile=stop)
    assert tasks[0].cancelled()
    assert isinstance(ended.errors[1], TransportClosed)
    assert str(ended.errors[1]) == "the sender left: the sender was stopped"
    assert ended.at_s(Mark.ROI_EXACT) < 0.5
    assert ROI.voxels <= ended.volume.whole.at[Quality.VERIFIED] < 24 * 64 * 64
