"""The ends at a rendezvous: over loopback, and with a rendezvous that is a script."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
from websockets.utils import accept_key

from shared.clock import SystemClock
from shared.errors import AuthenticationError, SettingsError, TransportClosed
from shared.rendezvous import carriers
from shared.rendezvous.carriers import MAX_KEYS, Joined, Letterboxes, offering_at
from shared.rendezvous.server import serving
from shared.tasks import one_error
from shared.transports.webrtc.sealed import BadLine, Fault
from shared.trust.keys import SharedKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

KEY, OTHER = SharedKey("ours", bytes(range(32))), SharedKey("theirs", bytes(32))
MIDNIGHT_S = 20_000 * 86_400.0


class HandClock:
    """Sleeping takes no time, and is written down."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.slept: list[float] = []

    def now_s(self) -> float:
        return self.time_s

    async def sleep_s(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time_s += seconds
        await asyncio.sleep(0)


class Visit:
    """One connection: gives its lines, then ends as it is told to."""

    def __init__(self, *lines: tuple[SharedKey, str], ends: Exception | None = None) -> None:
        self.given = lines
        self.ends = ends
        self.good_for_s = 1e6
        self.put_lines: list[tuple[SharedKey, str]] = []

    async def put(self, key: SharedKey, line: str) -> None:
        self.put_lines.append((key, line))

    async def lines(self) -> AsyncIterator[tuple[SharedKey, str]]:
        for each in self.given:
            yield each
        if self.ends is not None:
            raise self.ends
        await asyncio.Event().wait()


class Script:
    """What becomes of one try after the other; then the last of all is waited in for ever."""

    def __init__(self, clock: HandClock, *steps: Visit | Exception) -> None:
        self._clock = clock
        self._steps = deque(steps)
        self.times_s: list[float] = []
        self.over = asyncio.Event()

    @asynccontextmanager
    async def join(
        self, _url: str, _keys: Sequence[SharedKey], _now_s: float
    ) -> AsyncIterator[Joined]:
        self.times_s.append(self._clock.now_s())
        if not self._steps:
            self.over.set()
            await asyncio.Event().wait()
        step = self._steps.popleft()
        if isinstance(step, Exception):
            raise step
        yield cast("Joined", step)


def played(*steps: Visit | Exception) -> tuple[Letterboxes, list[str], list[float], HandClock]:
    """Run letterboxes through a script."""

    async def run() -> tuple[Letterboxes, list[str], list[float], HandClock]:
        clock, said = HandClock(), list[str]()
        script = Script(clock, *steps)
        boxes = Letterboxes(
            "ws://127.0.0.1:1/#x",
            [KEY, OTHER],
            clock,
            random.Random(0),
            said.append,
            now_s=lambda: MIDNIGHT_S,
            join=script.join,
        )
        with one_error():
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                running = group.create_task(boxes.run())
                await script.over.wait()
                running.cancel()
        return boxes, said, script.times_s, clock

    return asyncio.run(run())


AWAY = TransportClosed("no rendezvous: nobody answers")


def test_lines_lie_in_the_box_of_the_key_whose_mailbox_they_came_by() -> None:
    visit = Visit((KEY, "one"), (OTHER, "two"), (KEY, "three"), ends=AWAY)
    boxes, *_ = played(visit)

    async def take() -> list[str]:
        ours, theirs = boxes.boxes
        return [await ours.hear(), await ours.hear(), await theirs.hear()]

    assert asyncio.run(take()) == ["one", "three", "two"]


def test_of_more_lines_than_a_box_holds_the_oldest_go() -> None:
    visit = Visit(*[(KEY, str(number)) for number in range(40)], ends=AWAY)
    boxes, *_ = played(visit)
    assert asyncio.run(boxes.boxes[0].hear()) == "24"


def test_a_rendezvous_that_is_away_is_told_once_and_tried_less_and_less_often() -> None:
    _, said, times_s, _ = played(*[AWAY] * 60)
    assert said == ["no rendezvous: nobody answers; trying on"]
    gaps = [later - earlier for earlier, later in pairwise(times_s)]
    assert gaps[0] < 0.4
    assert max(gaps) <= 15 * 1.3
    assert all(gap > 0.1 for gap in gaps)
    assert sum(gaps[-10:]) > 8 * 10


def test_one_that_comes_back_is_told_and_found_again_soon_after_the_next_break() -> None:
    class Long(Visit):
        async def lines(self) -> AsyncIterator[tuple[SharedKey, str]]:
            clock.time_s += 3600
            async for each in super().lines():
                yield each

    clock = HandClock()
    steps: list[Visit | Exception] = [*[AWAY] * 30, Long(ends=AWAY), AWAY]

    async def run() -> tuple[list[str], list[float]]:
        said = list[str]()
        script = Script(clock, *steps)
        boxes = Letterboxes(
            "ws://h:1", [KEY], clock, random.Random(0), said.append, join=script.join
        )
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            running = group.create_task(boxes.run())
            await script.over.wait()
            running.cancel()
        return said, script.times_s

    said, times_s = asyncio.run(run())
    gone = "no rendezvous: nobody answers; trying on"
    assert said == [gone, "waiting at the rendezvous ws://h:1", gone]
    assert times_s[-1] - times_s[-2] < 0.5
    assert times_s[-2] - 3600 - times_s[-3] < 0.5


def test_one_that_closes_every_connection_at_once_is_not_tried_in_a_loop() -> None:
    _, _, times_s, _ = played(*[Visit(ends=AWAY) for _ in range(40)])
    assert times_s[-1] > 60


def test_another_certificate_ends_the_receiver_unless_it_was_the_right_one_before() -> None:
    stranger = AuthenticationError("its certificate is not the one")
    with pytest.raises(AuthenticationError):
        played(stranger)
    with pytest.raises(AuthenticationError):
        played(AWAY, stranger)
    _, said, times_s, _ = played(Visit(ends=AWAY), stranger)
    assert said[-1] == "its certificate is not the one; trying on"
    assert len(times_s) == 3


def test_where_names_change_the_end_goes_to_the_new_mailboxes_at_once() -> None:
    visit = Visit()
    visit.good_for_s = 0.01
    _, said, times_s, clock = played(visit)
    assert len(times_s) == 2
    assert clock.slept == []
    assert said == ["waiting at the rendezvous ws://127.0.0.1:1/"]


def test_nothing_can_be_said_while_the_rendezvous_is_away() -> None:
    boxes, *_ = played(AWAY)
    with pytest.raises(TransportClosed, match="the rendezvous is away"):
        asyncio.run(boxes.boxes[0].say("medroi:answer"))


def test_more_keys_than_a_rendezvous_takes_are_refused() -> None:
    keys = [SharedKey(str(number), bytes([number] * 32)) for number in range(MAX_KEYS + 1)]
    with pytest.raises(SettingsError, match=f"up to {MAX_KEYS} keys, not {MAX_KEYS + 1}"):
        Letterboxes("ws://h:1", keys, HandClock(), random.Random(0), lambda _: None)


def test_lines_that_a_shared_mailbox_brings_are_passed_over_and_others_told_once() -> None:
    said = list[str]()
    boxes = Letterboxes("ws://h:1", [KEY], HandClock(), random.Random(0), said.append)
    for fault in (Fault.OWN, Fault.USED, Fault.OTHER, Fault.OLD, Fault.OLD, Fault.TORN):
        boxes.boxes[0].refuse(BadLine(fault))
    assert len(said) == 2
    assert said[0].startswith("a line that came by the rendezvous is of no use: this line is too")


def test_an_offer_and_its_answer_meet_at_a_real_rendezvous_at_midnight_too() -> None:
    async def talk(sender_s: float, receiver_s: float) -> tuple[str, str]:
        async with (
            asyncio.timeout(20),
            serving("127.0.0.1", 0, None, SystemClock()) as url,
            asyncio.TaskGroup() as group,
        ):
            boxes = Letterboxes(
                url,
                [OTHER, KEY],
                SystemClock(),
                random.Random(0),
                lambda _: None,
                now_s=lambda: receiver_s,
            )
            running = group.create_task(boxes.run())
            carried = offering_at(url, KEY, lambda _: None, now_s=lambda: sender_s)
            async with carried() as site:
                await site.say("medroi:offer")
                offer = await boxes.boxes[1].hear()
                await boxes.boxes[1].say("medroi:answer")
                answer = await site.hear()
            running.cancel()
            return offer, answer

    for sender_s, receiver_s in ((0.0, 0.0), (-200.0, 200.0), (299.0, 301.0)):
        lines = asyncio.run(talk(MIDNIGHT_S + sender_s, MIDNIGHT_S + receiver_s))
        assert lines == ("medroi:offer", "medroi:answer")


def test_an_offer_that_nobody_answers_is_given_up_so_that_another_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk() -> None:
        async with (
            serving("127.0.0.1", 0, None, SystemClock()) as url,
            offering_at(url, KEY, lambda _: None)() as site,
        ):
            await site.say("medroi:offer")
            await site.hear()

    monkeypatch.setattr(carriers, "ANSWER_S", 0.05)
    with pytest.raises(TransportClosed, match="has not answered at the rendezvous"):
        asyncio.run(talk())


def test_a_rendezvous_that_goes_ends_an_offer_at_once() -> None:
    async def talk() -> None:
        async with asyncio.timeout(10), AsyncExitStack() as stack:
            serving_it = serving("127.0.0.1", 0, None, SystemClock())
            url = await serving_it.__aenter__()
            site = await stack.enter_async_context(offering_at(url, KEY, lambda _: None)())
            await site.say("medroi:offer")
            await serving_it.__aexit__(None, None, None)
            await site.hear()

    with pytest.raises(TransportClosed, match="the rendezvous closed the connection"):
        asyncio.run(talk())


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A rendezvous that opens connections and never says a word, not even to end them."""

    async def open_and_say_nothing(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).decode()
        (key,) = (line for line in asked.splitlines() if line.startswith("Sec-WebSocket-Key"))
        accepted = accept_key(key.partition(": ")[2])
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()
        left.set()

    left = asyncio.Event()
    async with (
        asyncio.timeout(20),
        await asyncio.start_server(open_and_say_nothing, "127.0.0.1", 0) as server,
    ):
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            await left.wait()


def test_a_rendezvous_that_has_fallen_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its machine has lost its power: nobody closes the connection."""

    async def talk() -> None:
        async with silent() as url, offering_at(url, KEY, lambda _: None)() as site:
            await site.say("medroi:offer")
            await site.hear()

    monkeypatch.setattr(carriers, "PING_S", 0.1)
    with pytest.raises(TransportClosed, match="the rendezvous is gone: the connection broke"):
        asyncio.run(talk())


def test_leaving_a_rendezvous_waits_for_nobody() -> None:
    async def talk() -> float:
        loop = asyncio.get_running_loop()
        async with silent() as url:
            async with offering_at(url, KEY, lambda _: None)() as site:
                await site.say("medroi:offer")
                left_s = loop.time()
            return loop.time() - left_s

    assert asyncio.run(talk()) < 1.0


def test_a_key_that_is_named_twice_has_one_letterbox() -> None:
    again = SharedKey("under another name", KEY.secret)
    boxes = Letterboxes("ws://h:1", [KEY, OTHER, again], HandClock(), random.Random(0), print)
    assert len(boxes.boxes) == 2


def test_nobody_at_the_address_is_a_sentence_that_names_it() -> None:
    async def talk() -> None:
        async with offering_at("ws://127.0.0.1:1", KEY, lambda _: None)():
            pass

    with pytest.raises(TransportClosed, match=r"no rendezvous: nobody answers at ws://127"):
        asyncio.run(talk())
