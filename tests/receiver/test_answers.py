from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from protocol import messages as m
from receiver.answers import Answers
from receiver.watch import NoWatcher
from shared.timeline import Timeline
from shared.workers import InlineWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Desk:
    """All that answers pass through; the log is what happened, in order."""

    def __init__(self, *, series: int = 1) -> None:
        self.log: list[object] = []
        self.kept: list[m.Message] = []
        self.timeline = Timeline()
        self.session = SimpleNamespace(
            inbox=SimpleNamespace(
                settle=lambda number: self.log.append(f"settled {number}"),
                want=lambda number: self.log.append(f"wanted {number}"),
                reach=lambda series, mark: self.log.append(f"reached {series} {mark.value}"),
            ),
            visits=SimpleNamespace(say=self.log.append),
            volumes=[None] * series,
            quarantine=SimpleNamespace(put=self._put_aside),
        )
        session: Any = self.session
        self.answers = Answers(
            session, cast("Any", self), InlineWorkers(), self.timeline, NoWatcher()
        )

    def _put_aside(self, content: bytes, *, why: str, encoding: int, offset: int) -> None:
        self.log.append((content, why, encoding, offset))

    async def put_message(self, message: m.Message) -> None:
        self.kept.append(message)

    async def until_kept(self) -> None:
        self.log.append("on the disk")

    async def read(self, offer: m.LayerOffer) -> bytes:
        self.log.append("read")
        return b"payload"


def play(desk: Desk, script: Callable[[Answers], Coroutine[Any, Any, object]]) -> list[object]:
    asyncio.run(script(desk.answers))
    return desk.log


def test_a_verdict_is_on_the_disk_before_anybody_hears_it() -> None:
    desk, verdict = Desk(), m.LayerVerdict(3, m.Verdict.VERIFIED)
    assert play(desk, lambda answers: answers.judge(3, m.Verdict.VERIFIED)) == [
        "on the disk",
        "settled 3",
        verdict,
    ]
    assert desk.kept == [verdict]


def test_what_is_wanted_is_on_the_disk_before_anybody_hears_it() -> None:
    desk = Desk()
    said = play(desk, lambda answers: answers.want(3))
    assert said == ["on the disk", "wanted 3", m.Want(3)]
    assert desk.kept == [m.Want(3)]


def test_an_encoding_is_read_once_it_is_on_the_disk() -> None:
    offer = cast("m.LayerOffer", None)
    assert play(Desk(), lambda answers: answers.stored(offer)) == ["on the disk", "read"]


def test_what_proved_wrong_is_kept_aside_with_its_number_and_the_reason() -> None:
    offer: Any = SimpleNamespace(number=5)
    log = play(Desk(), lambda answers: answers.set_aside(offer, b"wrong", "no digest"))
    assert log == [(b"wrong", "no digest", 5, 0)]


def test_the_whole_is_there_when_every_series_is_and_the_roi_with_the_first_one() -> None:
    desk = Desk(series=2)

    async def script(answers: Answers) -> None:
        await answers.reach(1, m.Mark.ROI_EXACT)
        await answers.reach(0, m.Mark.WHOLE_EXACT)
        assert desk.timeline.marks() == {}
        await answers.reach(0, m.Mark.ROI_EXACT)
        await answers.reach(1, m.Mark.WHOLE_EXACT)

    log = play(desk, script)
    assert set(desk.timeline.marks()) == {m.Mark.ROI_EXACT.value, m.Mark.WHOLE_EXACT.value}
    assert log[:2] == ["reached 1 roi_exact", m.StageReached(1, m.Mark.ROI_EXACT)]
