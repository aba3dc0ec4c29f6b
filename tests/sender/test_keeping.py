from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sender import keeping as keeping_module
from sender import spool as spool_module
from sender.encode import Encoded
from sender.keeping import Keeping
from sender.settings import SendSettings
from sender.spool import Outcome, Spool
from shared import recordlog
from shared.fidelity import Fidelity
from shared.layer import Quality
from shared.workers import InlineWorkers
from tests.protocol import examples
from tests.protocol.examples import ENCODING
from tests.sender.studies import TwoLooks, brain, not_thought_over, series_of, study_of

if TYPE_CHECKING:
    from pathlib import Path

    from sender.keeping import Kept

ENCODED = Encoded(ENCODING, "jpegxl", (), 12, bytes(32), Fidelity())
SERIES = not_thought_over(series_of(brain()), TwoLooks())
STUDY = study_of(SERIES)


def opened(folder: Path) -> Spool:
    return Spool.open(folder, STUDY, SendSettings(), "ws://clinic", bytes(16))


def full(*_: object) -> None:
    """Whatever is asked for, there is no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kept_by(folder: Path) -> Kept:
    spool = opened(folder)
    try:
        kept = asyncio.run(Keeping(spool, InlineWorkers()).read_back())
        assert kept is not None
        return kept
    finally:
        spool.close()


def test_another_process_finds_what_was_kept(tmp_path: Path) -> None:
    async def main(keeping: Keeping) -> None:
        async with asyncio.TaskGroup() as group:  # at the same time, and one after the other
            group.create_task(keeping.put(examples.offer(0), ENCODED))
            group.create_task(keeping.put(examples.offer(1), ENCODED))
            group.create_task(keeping.put_plan(SERIES))
        await keeping.note(Outcome(0, settled=False))

    spool = opened(tmp_path)
    asyncio.run(main(Keeping(spool, InlineWorkers())))
    spool.close()
    kept = kept_by(tmp_path)
    assert list(kept.encodings) == [0, 1]
    assert kept.outcomes == {0: Outcome(0, settled=False)}
    assert [grown.plan for grown in kept.plans] == [SERIES.plan]


def test_of_what_is_settled_only_that_is_kept_which_others_build_on(tmp_path: Path) -> None:
    async def main(keeping: Keeping) -> None:
        offer = examples.offer(1)
        below = replace(offer, key=replace(offer.key, quality=Quality.BOUNDED), voxel_digest=b"")
        await keeping.put(examples.offer(0), ENCODED)
        await keeping.put(below, ENCODED)
        await keeping.note(Outcome(0, settled=True))
        await keeping.note(Outcome(1, settled=True))

    spool = opened(tmp_path)
    asyncio.run(main(Keeping(spool, InlineWorkers())))
    spool.close()
    kept = kept_by(tmp_path)
    assert [each.payload for each in kept.encodings.values()] == [b"", ENCODING]


def test_starting_over_keeps_plans_that_have_grown_and_no_encoding(tmp_path: Path) -> None:
    grown = replace(SERIES, plan=replace(SERIES.plan, version=2))

    async def main(keeping: Keeping) -> None:
        await keeping.put(examples.offer(0), ENCODED)
        await keeping.start_over(bytes(range(16)), [SERIES, grown])

    spool = opened(tmp_path)
    asyncio.run(main(Keeping(spool, InlineWorkers())))
    spool.close()
    kept = kept_by(tmp_path)
    assert kept.encodings == {}
    assert [each.plan for each in kept.plans] == [grown.plan]


def test_without_a_spool_nothing_is_kept_and_nothing_fails() -> None:
    async def main() -> Kept | None:
        keeping = Keeping(None, InlineWorkers())
        await keeping.put(examples.offer(0), ENCODED)
        await keeping.put_plan(SERIES)
        await keeping.note(Outcome(0, settled=True))
        await keeping.start_over(bytes(16), [SERIES])
        return await keeping.read_back()

    assert asyncio.run(main()) == ({}, {}, [])


@pytest.mark.parametrize("name", ["put", "put_plan", "note", "start_over"])
def test_a_disk_that_is_full_ends_the_spool_and_is_told_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted process would give numbers to other layers than the receiver knows by them."""
    lost: list[OSError] = []

    async def fill(keeping: Keeping) -> None:
        await keeping.put(examples.offer(0), ENCODED)
        monkeypatch.setattr(recordlog, "require_room", full)
        if name == "put_plan":
            await keeping.put_plan(SERIES)
        elif name == "note":
            await keeping.note(Outcome(0, settled=True))
        elif name == "start_over":
            await keeping.start_over(bytes(range(16)), [SERIES])
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(keeping.put(examples.offer(number), ENCODED))
        await keeping.remove()

    spool = opened(tmp_path)
    asyncio.run(fill(Keeping(spool, InlineWorkers(), lost.append)))
    spool.close()
    monkeypatch.undo()
    assert [error.errno for error in lost] == [errno.ENOSPC]
    again = opened(tmp_path)
    assert not again.resumed
    again.close()


def test_a_spool_that_cannot_be_taken_away_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stay(_folder: Path) -> None:
        raise PermissionError(errno.EACCES, "stays")

    spool = opened(tmp_path)
    monkeypatch.setattr(spool_module, "_remove", stay)
    monkeypatch.setattr(recordlog, "require_room", full)
    asyncio.run(Keeping(spool, InlineWorkers()).put(examples.offer(0), ENCODED))
    monkeypatch.undo()
    again = opened(tmp_path)
    assert not again.resumed
    again.close()


def test_what_the_disk_does_not_give_back_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(_spool: Spool) -> Kept:
        raise OSError(errno.EIO, "torn")

    lost: list[OSError] = []
    spool = opened(tmp_path)
    monkeypatch.setattr(keeping_module, "_read_back", torn)
    keeping = Keeping(spool, InlineWorkers(), lost.append)
    assert asyncio.run(keeping.read_back()) is None
    assert [error.errno for error in lost] == [errno.EIO]
    again = opened(tmp_path)
    assert not again.resumed
    again.close()
