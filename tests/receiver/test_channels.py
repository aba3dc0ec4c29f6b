"""Data channels that are offered: which are answered, and what becomes of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from protocol import messages as m
from receiver import channels
from receiver.channels import MAX_CHANNELS, MAX_MAKING, Channels
from shared.errors import AuthenticationError, MedroiError, RemoteProtocolError, TransportClosed
from shared.link import parse_link
from shared.role import Role
from shared.transports.base import TransportStats
from shared.transports.simulated import SimulatedTransport, simulated_pair
from shared.transports.tasks import TaskOwner
from shared.transports.webrtc.flags import Choice, Ways
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any, Self

    from receiver.visit import Visit
    from shared.transports.base import Transport
    from shared.transports.webrtc.binding import ChannelKey


class Told:
    """A visit, as far as it is told something."""

    def __init__(self) -> None:
        self.answers: list[m.ChannelAnswer] = []
        self.transport = SimpleNamespace(proven=None)

    def say(self, message: m.Answer) -> None:
        assert isinstance(message, m.ChannelAnswer)
        self.answers.append(message)


class Making:
    """An answer that is being made; it opens when it is let."""

    def __init__(self, bench: Bench) -> None:
        self.sdp = "answer"
        self.key: ChannelKey | None = None
        self.outcome: asyncio.Future[SimulatedTransport] = asyncio.Future()
        bench.making.append(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def connect(self, key: ChannelKey) -> SimulatedTransport:
        self.key = key
        return await self.outcome


class Bench:
    """Channels, and a visit by which they are offered."""

    def __init__(self, owner: TaskOwner, choice: Choice) -> None:
        self.making: list[Making] = []
        self.taken: list[Transport] = []
        self.remarks: list[str] = []
        self.over = asyncio.Event()
        self.visit = Told()
        self.channels = Channels(Ways(choice), owner, self._take, self.remarks.append)

    async def _take(self, transport: Transport) -> None:
        self.taken.append(transport)
        await self.over.wait()

    async def offer(self, number: int = 1, sdp: bytes = b"offer") -> None:
        offer = m.ChannelOffer(number, bytes([number]) * 32, sdp)
        self.channels.offered(cast("Visit", self.visit), offer)
        await asyncio.sleep(0.1)

    async def open(self, making: Making) -> SimulatedTransport:
        near, far = simulated_pair(parse_link("rate=1M"), 0)
        making.outcome.set_result(far)
        await asyncio.sleep(0.1)
        return near

    @property
    def reasons(self) -> list[str]:
        return [answer.reason for answer in self.visit.answers]


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]:
    def play(
        script: Callable[[Bench], Coroutine[Any, Any, None]], choice: Choice = Choice.AUTO
    ) -> None:
        async def main() -> None:
            async with benched(choice) as made:

                async def make_answer(sdp: str, *_: object, **__: object) -> Making:
                    if sdp == "bad":
                        raise RemoteProtocolError("this is no offer")
                    return Making(made)

                monkeypatch.setattr(channels, "make_answer", make_answer)
                await script(made)

        run_virtual(main())

    return play


@asynccontextmanager
async def benched(choice: Choice) -> AsyncIterator[Bench]:
    async with TaskOwner() as owner:
        yield Bench(owner, choice)


def test_an_offer_is_answered_and_its_channel_is_a_connection_like_any_other(bench: Any) -> None:
    async def script(made: Bench) -> None:
        await made.offer(7)
        assert made.visit.answers == [m.ChannelAnswer(7, b"answer", "")]
        key = made.making[0].key
        assert key is not None
        assert (key.key, key.role, key.generation) == (bytes([7]) * 32, Role.RECEIVER, 7)
        await made.open(made.making[0])
        assert len(made.taken) == 1

    bench(script)


def test_a_receiver_that_was_told_ws_declines_and_makes_nothing(bench: Any) -> None:
    async def script(made: Bench) -> None:
        await made.offer()
        assert made.reasons == ["this end was told --transport ws"]
        assert made.making == []

    bench(script, Choice.WS)


def test_no_more_are_made_at_once_than_a_core_can_make(bench: Any) -> None:
    async def script(made: Bench) -> None:
        for number in range(MAX_MAKING + 1):
            await made.offer(number)
        assert made.reasons == ["", "", "", "too many channels at once"]
        made.making[0].outcome.set_exception(TransportClosed("no way"))
        await asyncio.sleep(0.1)
        await made.offer(9)
        assert made.reasons[-1] == ""

    bench(script)


def test_of_open_ones_there_are_no_more_than_a_listener_has_connections(bench: Any) -> None:
    async def script(made: Bench) -> None:
        for number in range(MAX_CHANNELS):
            await made.offer(number)
            await made.open(made.making[-1])
        await made.offer(99)
        assert made.reasons[-1] == "too many channels at once"
        made.over.set()
        await asyncio.sleep(0.1)
        await made.offer(100)
        assert made.reasons[-1] == ""

    bench(script)


def test_what_is_no_offer_is_declined_and_told_here(bench: Any) -> None:
    async def script(made: Bench) -> None:
        await made.offer(1, b"bad")
        assert made.visit.answers == [m.ChannelAnswer(1, b"", "this is no offer")]
        assert made.remarks == ["a data channel was refused: this is no offer"]

    bench(script)


@pytest.mark.parametrize(
    ("error", "told"),
    [(AuthenticationError("a stranger"), True), (TransportClosed("no way"), False)],
)
def test_a_stranger_on_a_channel_is_told_and_a_way_that_is_not_there_is_not(
    bench: Any, error: MedroiError, told: bool
) -> None:
    async def script(made: Bench) -> None:
        await made.offer()
        made.making[0].outcome.set_exception(error)
        await asyncio.sleep(0.1)
        assert bool(made.remarks) is told
        assert made.taken == []

    bench(script)


class Named:
    """A transport, as far as its name goes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stats(self) -> TransportStats:
        return TransportStats(self._name, "", 0, 0, 0, 0)


@pytest.mark.parametrize("choice", Choice)
@pytest.mark.parametrize("name", ["websocket", "webrtc"])
def test_only_where_webrtc_was_chosen_may_a_websocket_have_no_session(
    choice: Choice, name: str, bench: Any
) -> None:
    async def script(made: Bench) -> None:
        why = made.channels.no_session_over(cast("Transport", Named(name)))
        refused = choice is Choice.WEBRTC and name == "websocket"
        assert bool(why) is refused
        assert ("--transport webrtc" in why) is refused

    bench(script, choice)
