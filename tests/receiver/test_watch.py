from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.states import State
from receiver.watch import NoWatcher
from shared.layer import Quality
from tests.receiver.studies import attended, honest, send_all, study
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.messages import Mark
    from receiver.session import ReceivingSession
    from receiver.watch import Watcher
    from tests.receiver.studies import Peer


class Diary:
    """Writes down what it is told, with how much was verified then and what the peer had heard."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.verified: list[int] = []

    async def began(self, session: ReceivingSession) -> None:
        self.entries.append(f"began {len(session.volumes)}")

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        self.entries.append(f"{series} {mark.value}")
        before = session.volumes[series].whole.at[Quality.VERIFIED]
        await asyncio.sleep(1)  # nothing is painted until this returns
        assert session.volumes[series].whole.at[Quality.VERIFIED] == before
        self.verified.append(before)

    async def ended(self, session: ReceivingSession) -> None:
        self.entries.append(f"ended {session.exact}")
        await asyncio.sleep(1)


def test_a_watcher_is_told_of_each_moment_once_and_in_order(tmp_path: Path) -> None:
    diary = Diary()
    assert honest(tmp_path, study(), watcher=diary).session.exact
    assert diary.entries == [
        "began 1",
        "0 roi_preview",
        "0 roi_exact",
        "0 whole_preview",
        "0 whole_exact",
        "ended True",
    ]
    assert diary.verified == [0, 32, 32, 480]


def test_layers_that_come_meanwhile_wait_for_the_watcher(tmp_path: Path) -> None:
    diary, sent = Diary(), study()

    async def hurried(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        for layer in sent.layers():
            await peer.offer(*layer)
        await peer.end(sent.manifest)

    assert attended(tmp_path, hurried, watcher=diary).session.exact
    assert diary.entries[-1] == "ended True"


def test_the_receipt_goes_out_when_the_watcher_has_seen_the_end(tmp_path: Path) -> None:
    heard: list[bool] = []

    class Last(NoWatcher):
        async def ended(self, session: ReceivingSession) -> None:
            await asyncio.sleep(5)
            heard.append(session.visits.there[0].connection.state is State.ENDING)

    sent = study()
    ended = attended(tmp_path, lambda peer: send_all(peer, sent, sent.layers()), watcher=Last())
    assert heard == [True]
    assert isinstance(ended.peer.heard[-1], m.Done)


def test_who_looks_away_is_a_watcher_too(tmp_path: Path) -> None:
    ended = honest(tmp_path, study())
    watcher: Watcher = NoWatcher()

    async def main() -> None:
        await watcher.began(ended.session)
        await watcher.reached(ended.session, 0, m.Mark.ROI_EXACT)
        await watcher.ended(ended.session)

    run_virtual(main())
