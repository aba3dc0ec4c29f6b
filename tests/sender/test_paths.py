"""The ways to the receiver, in virtual time: which line is given, and when there is a reserve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from protocol import messages as m
from sender import paths as paths_module
from sender.paths import Paths
from shared.clock import LoopClock
from shared.errors import MedroiError, SettingsError, TransportClosed
from shared.link import parse_link
from shared.role import Role
from shared.transports.base import TransportStats
from shared.transports.simulated import simulated_pair
from shared.transports.webrtc.flags import Choice, Ways
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from sender.call import Call
    from shared.transports.base import Transport
    from shared.transports.webrtc.binding import ChannelKey

SETTLED_S = 3.5
"""After which a line has had the session for long enough."""


class Channel:
    """A data channel, as far as paths look at it."""

    def __init__(self, key: ChannelKey) -> None:
        self.key = key
        self.is_open = True
        self.ended = ""

    def abort(self) -> None:
        self.is_open, self.ended = False, "aborted"

    async def close(self) -> None:
        self.is_open, self.ended = False, "closed"


class Line:
    """A call that has the session."""

    def __init__(self, bench: Bench, name: str = "websocket") -> None:
        self._bench = bench
        self._name = name
        self.transport = self
        self.is_stalled = False
        self.over = asyncio.Event()
        self.offers: list[m.ChannelOffer] = []

    def stats(self) -> TransportStats:
        return TransportStats(self._name, "", 0, 0, 0, 0)

    async def signal(self, offer: m.ChannelOffer) -> m.ChannelAnswer:
        self.offers.append(offer)
        if self._bench.answer is None:
            await asyncio.Event().wait()
        return m.ChannelAnswer(offer.number, *(self._bench.answer or (b"", "")))


class Offered:
    """Half of an offer."""

    sdp = "offer"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def connect(self, sdp: str, key: ChannelKey) -> Channel:
        if self._bench.failure is not None:
            raise self._bench.failure
        channel = Channel(key)
        self._bench.channels.append(channel)
        return channel


class Bench:
    """Paths, the WebSockets that were dialled and the channels that were made."""

    def __init__(self, choice: Choice) -> None:
        self.channels: list[Channel] = []
        self.remarks: list[str] = []
        self.failure: MedroiError | None = None
        self.no_webrtc: SettingsError | None = None
        self.answer: tuple[bytes, str] | None = (b"answer", "")
        self.dialled: list[Transport] = []
        self.call: Line | None = Line(self)
        self.offers_made = 0
        self.paths = Paths(self._dial, Ways(choice), LoopClock(), self.remarks.append)

    async def _dial(self) -> Transport:
        near, _ = simulated_pair(parse_link("rate=1M"), 0)
        self.dialled.append(near)
        return near

    async def make_offer(self, *_: object, **__: object) -> Offered:
        self.offers_made += 1
        if self.no_webrtc is not None:
            raise self.no_webrtc
        return Offered(self)

    def keep(self) -> Coroutine[Any, Any, None]:
        return self.paths.keep(lambda: cast("Call | None", self.call))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a script beside `Paths.keep`."""

    def run(script: Callable[[Bench], Coroutine[Any, Any, None]], choice: str = "auto") -> None:
        async def main() -> None:
            bench = Bench(Choice(choice))
            monkeypatch.setattr(paths_module, "make_offer", bench.make_offer)
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(bench.keep())
                await script(bench)
                keeping.cancel()

        run_virtual(main(), limit_s=3600)

    return run


def test_a_line_that_has_settled_gets_a_channel_in_reserve_which_the_next_dial_is_given(
    play: Any,
) -> None:
    async def script(bench: Bench) -> None:
        await asyncio.sleep(2.0)
        assert bench.offers_made == 0
        await asyncio.sleep(SETTLED_S - 2.0)
        assert bench.paths.has_reserve
        (channel,) = bench.channels
        assert bench.call is not None
        (offer,) = bench.call.offers
        assert (channel.key.key, channel.key.role) == (offer.secret, Role.SENDER)
        given: object = await bench.paths.dial()
        assert given is channel
        assert bench.dialled == []
        await bench.paths.dial()
        assert len(bench.dialled) == 1

    play(script)


def test_a_reserve_that_has_died_is_not_given_out_and_another_one_is_made(play: Any) -> None:
    async def script(bench: Bench) -> None:
        await asyncio.sleep(SETTLED_S)
        bench.channels[0].is_open = False
        await bench.paths.dial()
        assert (len(bench.dialled), bench.channels[0].ended) == (1, "aborted")
        await asyncio.sleep(SETTLED_S)
        assert bench.paths.has_reserve
        first, second = (channel.key for channel in bench.channels)
        assert first.key != second.key
        assert first.generation < second.generation

    play(script)


@pytest.mark.parametrize("why", ["none", "stalled", "over", "a channel itself"])
def test_no_reserve_is_made_beside_a_line_that_is_none_or_one_itself(why: str, play: Any) -> None:
    async def script(bench: Bench) -> None:
        assert bench.call is not None
        match why:
            case "none":
                bench.call = None
            case "stalled":
                bench.call.is_stalled = True
            case "over":
                bench.call.over.set()
            case _:
                bench.call = Line(bench, "webrtc")
        await asyncio.sleep(60)
        assert bench.offers_made == 0

    play(script)


def test_what_fails_is_told_once_and_tried_again_twice_as_late_each_time(play: Any) -> None:
    async def script(bench: Bench) -> None:
        bench.failure = TransportClosed("no way")
        await asyncio.sleep(600)
        assert bench.remarks == ["no data channel in reserve: no way"]
        assert 5 <= bench.offers_made <= 10
        bench.failure = None
        await asyncio.sleep(130)
        assert bench.paths.has_reserve

    play(script)


def test_a_receiver_that_declines_says_why(play: Any) -> None:
    async def script(bench: Bench) -> None:
        bench.answer = (b"", "this end was told --transport ws")
        await asyncio.sleep(SETTLED_S)
        assert bench.remarks == [
            "no data channel in reserve: the receiver offers no data channel: "
            "this end was told --transport ws"
        ]

    play(script)


def test_a_receiver_that_does_not_answer_an_offer_is_not_waited_for_for_ever(play: Any) -> None:
    async def script(bench: Bench) -> None:
        bench.answer = None
        await asyncio.sleep(SETTLED_S + 30)
        assert "did not answer the offer of a channel within 30 s" in bench.remarks[0]

    play(script)


def test_where_webrtc_cannot_be_used_at_all_it_is_tried_once(play: Any) -> None:
    async def script(bench: Bench) -> None:
        bench.no_webrtc = SettingsError("no aiortc")
        await asyncio.sleep(600)
        assert bench.offers_made == 1
        assert len(bench.remarks) == 1

    play(script)


@pytest.mark.parametrize("choice", ["ws", "webrtc"])
def test_a_reserve_is_kept_by_auto_only(choice: str, play: Any) -> None:
    async def script(bench: Bench) -> None:
        await asyncio.sleep(60)
        assert bench.offers_made == 0
        if choice == "ws":
            await bench.paths.dial()
            assert (len(bench.dialled), bench.offers_made) == (1, 0)

    play(script, choice)


def test_what_is_in_reserve_at_the_end_is_closed(play: Any) -> None:
    async def script(bench: Bench) -> None:
        await asyncio.sleep(SETTLED_S)
        await bench.paths.close()
        await bench.paths.close()
        assert bench.channels[0].ended == "closed"
        assert not bench.paths.has_reserve

    play(script)
