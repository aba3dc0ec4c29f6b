"""How a session is kept connected, in virtual time, with lines that do as they are told."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

import pytest

from sender.caller import Caller
from shared.clock import LoopClock
from shared.errors import AuthenticationError, MedroiError, PeerRefused, TransportClosed
from shared.tasks import one_error
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sender.call import Call
    from shared.transports.base import Transport

AWAY = TransportClosed("nobody answers")


class Window:
    rtt_s = 0.1


class Line:
    """A call."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self.opened_s = clock.now_s()
        self.connection = self
        self.window = Window()
        self.over = asyncio.Event()
        self.lost: MedroiError | None = None
        self.is_stalled = False
        self.was_retired = False
        self.greeted = False

    async def run(self) -> None:
        await self.over.wait()

    def stalls_s(self) -> float:
        return self._clock.now_s() + (0 if self.is_stalled else 2.0)

    def greet(self) -> None:
        self.greeted = True

    async def until_greeted(self) -> None:
        return

    def retire(self) -> None:
        self.was_retired = True
        self.over.set()

    def breaks(self, why: MedroiError | None = None) -> None:
        self.lost = why or TransportClosed("the line broke")
        self.over.set()


class Session:
    """A callee, and the receiver behind the lines."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.is_prepared = True
        self.prepared = asyncio.Event()
        self.is_done = False
        self.dialled_s: list[float] = []
        self.lines: list[Line] = []
        self.had: list[Line] = []
        self.failures: list[str] = []
        self.error: MedroiError | None = None
        self.refusal: MedroiError | None = None
        self.dial_s = self.standing_s = 0.1

    async def dial(self) -> Transport:
        self.dialled_s.append(self.clock.now_s())
        await asyncio.sleep(self.dial_s)
        if self.error is not None:
            raise self.error
        return cast("Transport", object())

    async def until_prepared(self) -> None:
        if not self.is_prepared:
            await self.prepared.wait()

    def new_call(self, _transport: Transport) -> Call:
        self.lines.append(Line(self.clock))
        return cast("Call", self.lines[-1])

    async def take_over(self, call: Call) -> None:
        await asyncio.sleep(self.standing_s)
        if self.refusal is not None:
            raise self.refusal
        self.had.append(cast("Line", call))

    def on_failed_try(self, why: MedroiError) -> None:
        self.failures.append(str(why))

    def finish(self) -> None:
        """The receipt has come over the current line."""
        self.is_done = True
        self.had[-1].over.set()


def play(
    script: Callable[[Session, Caller], Coroutine[Any, Any, None]], **options: float
) -> Session:
    async def main() -> Session:
        session = Session()
        caller = Caller(session.dial, session, session.clock, random.Random(0), **options)
        with one_error():
            async with asyncio.TaskGroup() as group:
                running = group.create_task(caller.run())
                await script(session, caller)
                running.cancel()
        return session

    return run_virtual(main(), limit_s=100_000)


def test_one_good_line_is_all_there_is_until_the_receipt() -> None:
    async def script(session: Session, caller: Caller) -> None:
        await asyncio.sleep(600)
        assert (len(session.dialled_s), caller.lines) == (1, 1)
        session.finish()

    assert play(script).failures == []


def test_beside_a_line_that_stalls_others_are_tried_and_the_first_with_a_standing_takes_over() -> (
    None
):
    async def script(session: Session, caller: Caller) -> None:
        await asyncio.sleep(1)
        old = session.had[0]
        old.is_stalled = True
        session.dial_s = 1.0
        await asyncio.sleep(3.5)
        assert not old.was_retired  # what still comes over it counts
        assert len(session.had) == 2
        gaps = [b - a for a, b in zip(session.dialled_s[1:], session.dialled_s[2:], strict=False)]
        assert gaps == pytest.approx([0.3] * len(gaps), abs=0.01)
        assert caller.lines == 2
        tried = len(session.dialled_s)
        await asyncio.sleep(60)
        assert len(session.dialled_s) == tried
        assert all(line.was_retired for line in session.lines if line not in session.had)
        session.finish()

    play(script)


def test_a_stalled_line_that_comes_back_first_goes_on_and_the_tries_are_dropped() -> None:
    async def script(session: Session, caller: Caller) -> None:
        await asyncio.sleep(1)
        old = session.had[0]
        old.is_stalled = True
        session.dial_s = 60.0
        await asyncio.sleep(4)
        old.is_stalled = False
        await asyncio.sleep(120)
        assert caller.lines == 1
        assert len(session.lines) == 1
        session.finish()

    play(script)


def test_a_line_that_breaks_is_told_and_replaced_within_a_third_of_a_second() -> None:
    async def script(session: Session, caller: Caller) -> None:
        await asyncio.sleep(5)
        session.had[0].breaks()
        await asyncio.sleep(0.35)
        assert caller.lines == 2
        assert session.failures == ["the line broke"]
        session.finish()

    play(script)


def test_a_receiver_that_is_away_is_tried_less_and_less_often_until_it_is_there() -> None:
    async def script(session: Session, caller: Caller) -> None:
        session.error = AWAY
        await asyncio.sleep(60)
        eager = len(session.dialled_s)
        assert eager == pytest.approx(200, abs=5)
        await asyncio.sleep(600)
        assert 600 / (15 * 1.3) < len(session.dialled_s) - eager < 80
        session.error = None
        await asyncio.sleep(20)
        assert caller.lines == 1
        session.finish()

    play(script)


def test_who_was_told_when_to_give_up_gives_up_with_the_last_reason() -> None:
    async def script(session: Session, _caller: Caller) -> None:
        session.error = AWAY
        await asyncio.sleep(11)
        raise AssertionError("it tries on")

    with pytest.raises(TransportClosed, match="nobody answers"):
        play(script, give_up_s=10.0)


def test_tries_that_hang_are_no_more_than_ten_and_each_has_its_time() -> None:
    async def script(session: Session, _caller: Caller) -> None:
        await asyncio.sleep(1)
        session.dial_s = 1e6
        session.had[0].breaks()
        await asyncio.sleep(4.9)
        assert len(session.dialled_s) == 1 + 10
        await asyncio.sleep(5)
        assert "the receiver does not answer" in session.failures
        assert len(session.dialled_s) > 1 + 10

    play(script)


@pytest.mark.parametrize("at", ["dial", "standing"])
@pytest.mark.parametrize("error", [AuthenticationError("a stranger"), PeerRefused("we both send")])
def test_what_no_other_try_would_mend_ends_it_before_there_was_a_line_and_not_later(
    error: MedroiError, at: str
) -> None:
    def strike(session: Session) -> None:
        if at == "dial":
            session.error = error
        else:
            session.refusal = error

    async def first(session: Session, _caller: Caller) -> None:
        strike(session)
        await asyncio.sleep(10)

    async def later(session: Session, caller: Caller) -> None:
        await asyncio.sleep(1)
        strike(session)
        session.had[0].breaks()
        await asyncio.sleep(10)
        assert str(error) in session.failures
        session.error = session.refusal = None
        await asyncio.sleep(1)
        assert caller.lines == 2
        session.finish()

    with pytest.raises(type(error)):
        play(first)
    play(later)


def test_what_is_wrong_with_the_study_is_told_before_what_is_with_the_receiver() -> None:
    async def script(session: Session, _caller: Caller) -> None:
        session.is_prepared = False
        session.error = AuthenticationError("a stranger")
        await asyncio.sleep(10)
        raise TransportClosed("the study")

    with pytest.raises(TransportClosed, match="the study"):
        play(script)


def test_while_the_study_is_read_there_is_a_line_that_has_greeted_and_only_one() -> None:
    async def script(session: Session, caller: Caller) -> None:
        session.is_prepared = False
        await asyncio.sleep(120)
        assert [line.greeted for line in session.lines] == [True]
        assert caller.lines == 0
        session.is_prepared = True
        session.prepared.set()
        await asyncio.sleep(1)
        assert caller.lines == 1
        session.finish()

    play(script)


def test_a_session_that_the_peer_ended_is_not_tried_again() -> None:
    async def script(session: Session, _caller: Caller) -> None:
        await asyncio.sleep(1)
        session.had[0].breaks(PeerRefused("no room"))
        await asyncio.sleep(10)

    with pytest.raises(PeerRefused, match="no room"):
        play(script)


def test_behind_the_receipt_a_line_may_break() -> None:
    async def script(session: Session, _caller: Caller) -> None:
        await asyncio.sleep(1)
        session.is_done = True
        session.had[0].breaks()
        await asyncio.sleep(10)
        assert len(session.dialled_s) == 1

    assert play(script).failures == []
