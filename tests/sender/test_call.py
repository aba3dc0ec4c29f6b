"""One connection to a receiver that is moved by hand, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from protocol import messages as m
from protocol.frames import FrameKind, decode_frame, encode_frame
from protocol.limits import PROTOCOL_VERSION
from protocol.pace import Pace
from protocol.payloads import pack_message, unpack_message
from sender.call import Call
from shared.clock import LoopClock
from shared.errors import DamagedFrame, MedroiError, PeerRefused, TransportClosed
from shared.link import parse_link
from shared.transports.simulated import SimulatedTransport, simulated_pair
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from protocol.events import Event

SESSION = bytes(range(16))
HELLO = m.Hello(PROTOCOL_VERSION, m.Role.RECEIVER, "a test")
STANDING = m.Standing(False, False, 0, 0, (), (), (), ())


class Bench:
    def __init__(self) -> None:
        near, self.far = simulated_pair(parse_link("rate=1M,rtt=100ms"), 0)
        self.clock = LoopClock()
        self.events: list[Event] = []
        self.heard: list[m.Message] = []
        self.call = Call(near, self.clock, Pace(), self._on_event, lambda: None)

    async def _on_event(self, call: Call, event: Event) -> None:
        assert call is self.call
        self.events.append(event)

    async def listen(self) -> None:
        far: SimulatedTransport = self.far
        try:
            async for raw in far.frames():
                self.heard.append(unpack_message(decode_frame(raw).payload))
        except TransportClosed:
            return

    async def say(self, *messages: m.Message) -> None:
        for message in messages:
            await self.far.send(encode_frame(FrameKind.CONTROL, 0, pack_message(message)))

    async def greeted(self) -> None:
        """Both ends have said hello."""
        self.call.connection.greet()
        await self.say(HELLO)
        await self.call.until_greeted()

    @property
    def farewells(self) -> list[str]:
        return [each.reason for each in self.heard if isinstance(each, m.Farewell)]


def play(script: Callable[[Bench, asyncio.TaskGroup], Coroutine[Any, Any, None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bench.call.run())
            listening = group.create_task(bench.listen())
            await script(bench, group)
            await asyncio.sleep(0.5)
            running.cancel()
            await asyncio.sleep(0.5)
            listening.cancel()
        return bench

    return run_virtual(main(), limit_s=3600)


def test_hello_and_attach_go_together_and_the_standing_comes_back() -> None:
    async def script(bench: Bench, group: asyncio.TaskGroup) -> None:
        attaching = group.create_task(bench.call.attach(SESSION, 3, accepted=True))
        await asyncio.sleep(0.2)
        assert [type(each) for each in bench.heard] == [m.Hello, m.Attach]
        assert bench.heard[1] == m.Attach(SESSION, 3, True)
        await bench.say(HELLO, STANDING)
        assert await attaching == STANDING

    play(script)


def test_what_comes_behind_a_standing_is_held_back_until_it_is_known_whose_it_is() -> None:
    async def script(bench: Bench, group: asyncio.TaskGroup) -> None:
        attaching = group.create_task(bench.call.attach(SESSION, 1, accepted=False))
        await asyncio.sleep(0.2)
        known = m.Standing(True, False, 1, 0, (), (), (), ())
        await bench.say(HELLO, known, m.StageReached(0, m.Mark.ROI_EXACT))
        await attaching
        await asyncio.sleep(1)
        assert not any(isinstance(event, m.StageReached) for event in bench.events)
        bench.call.connection.go_on(known, _outbox())
        bench.call.proceed()
        await asyncio.sleep(1)
        assert m.StageReached(0, m.Mark.ROI_EXACT) in bench.events

    play(script)


def test_a_line_that_goes_while_something_is_waited_for_is_an_error_there() -> None:
    async def script(bench: Bench, group: asyncio.TaskGroup) -> None:
        waiting = group.create_task(_error_of(bench.call.attach(SESSION, 1, accepted=False)))
        await asyncio.sleep(0.2)
        bench.far.abort()
        assert isinstance(await waiting, TransportClosed)
        assert bench.call.over.is_set()
        assert isinstance(bench.call.lost, TransportClosed)

    play(script)


def test_a_farewell_is_what_the_line_was_lost_by() -> None:
    async def script(bench: Bench, group: asyncio.TaskGroup) -> None:
        waiting = group.create_task(_error_of(bench.call.attach(SESSION, 1, accepted=False)))
        await asyncio.sleep(0.2)
        await bench.say(HELLO, m.Farewell(m.Why.FAULT, "this end was told --transport webrtc"))
        error = await waiting
        assert isinstance(error, PeerRefused)
        assert "told --transport webrtc" in str(error)

    assert play(script).farewells == []


def test_a_farewell_right_behind_the_hello_is_heard_before_anything_is_offered() -> None:
    async def script(bench: Bench, _group: asyncio.TaskGroup) -> None:
        bench.call.introduce(SESSION, 1, accepted=False)
        await bench.say(HELLO, m.Farewell(m.Why.FAULT, "no study here"))
        await asyncio.sleep(1)
        error = await _error_of(bench.call.until_greeted())
        assert isinstance(error, PeerRefused)
        assert "no study here" in str(error)

    play(script)


def test_a_stranger_hears_why_before_an_attach_and_nothing_behind_one() -> None:
    async def before(bench: Bench, _group: asyncio.TaskGroup) -> None:
        bench.call.connection.greet()
        bench.call.pump.wake()
        await bench.far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await bench.call.over.wait()
        assert isinstance(bench.call.lost, DamagedFrame)

    async def behind(bench: Bench, _group: asyncio.TaskGroup) -> None:
        bench.call.introduce(SESSION, 1, accepted=False)
        await bench.far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await bench.call.over.wait()
        assert isinstance(bench.call.lost, MedroiError)

    assert len(play(before).farewells) == 1
    assert play(behind).farewells == []  # it would be the session's


def test_bytes_that_are_no_frame_from_a_known_peer_are_the_lines_fault() -> None:
    async def script(bench: Bench, _group: asyncio.TaskGroup) -> None:
        await bench.greeted()
        await bench.far.send(b"damaged on its way, all of it")
        await bench.call.over.wait()
        assert isinstance(bench.call.lost, TransportClosed)
        assert "the line damages frames" in str(bench.call.lost)

    play(script)


def test_an_offered_channel_gets_the_answer_with_its_number_and_no_other() -> None:
    async def script(bench: Bench, group: asyncio.TaskGroup) -> None:
        await bench.greeted()
        offer = m.ChannelOffer(2, bytes(32), b"v=0")
        signalling = group.create_task(bench.call.signal(offer))
        await asyncio.sleep(0.2)
        assert bench.heard[-1] == offer
        await bench.say(m.ChannelAnswer(1, b"old", ""))
        await asyncio.sleep(0.2)
        assert not signalling.done()
        await bench.say(m.ChannelAnswer(2, b"new", ""))
        assert (await signalling).sdp == b"new"

    play(script)


def test_a_retired_line_says_nothing_more_and_is_over() -> None:
    async def script(bench: Bench, _group: asyncio.TaskGroup) -> None:
        await bench.greeted()
        bench.call.retire()
        await bench.call.over.wait()
        with pytest.raises(MedroiError):
            bench.call.introduce(SESSION, 1, accepted=False)

    assert play(script).farewells == []


def test_whoever_stops_us_has_the_peer_told() -> None:
    async def script(bench: Bench, _group: asyncio.TaskGroup) -> None:
        await bench.greeted()

    assert play(script).farewells == ["the sender was stopped"]


@pytest.mark.parametrize(
    ("waiting_s", "rtt_s", "heard_s", "stalls_in_s"),
    [
        (None, 0.1, 0, 2.0),
        (0, 0.1, 0, 2.0),
        (10, 0.1, 10, -8.0),
        (10, 0.1, 1, 1.0),
        (0, 0.1, 60, 2.0),
        (10, 1.5, 0, 6.0),
        (10, 1.5, 7, -1.0),
    ],
)
def test_a_line_stalls_two_seconds_or_four_round_trips_after_the_last_word_of_what_is_under_way(
    waiting_s: float | None, rtt_s: float, heard_s: float, stalls_in_s: float
) -> None:
    """How long something has been under way, and how long ago anything was heard."""

    async def script(bench: Bench, _group: asyncio.TaskGroup) -> None:
        await bench.greeted()
        now_s = bench.clock.now_s()
        connection: Any = bench.call.connection
        window = connection._window
        connection._window = _Window(None if waiting_s is None else now_s - waiting_s, rtt_s)
        bench.call.pump.heard_s = now_s - heard_s
        assert bench.call.stalls_s() - now_s == pytest.approx(stalls_in_s)
        assert bench.call.is_stalled is (stalls_in_s <= 0)
        connection._window = window

    play(script)


class _Window:
    def __init__(self, waiting_since_s: float | None, rtt_s: float) -> None:
        self.waiting_since_s = waiting_since_s
        self.rtt_s = rtt_s


async def _error_of(work: Coroutine[Any, Any, object]) -> MedroiError | None:
    try:
        await work
    except MedroiError as error:
        return error
    return None


def _outbox() -> Any:
    from protocol.outbox import Outbox

    return Outbox()
