"""Both ends of an agreement in one process, over real data channels on loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aioice import ice, stun

from shared.errors import MedroiError, SettingsError, TransportClosed
from shared.transports.webrtc import signals
from shared.transports.webrtc.sealed import BadLine, Fault
from shared.transports.webrtc.signals import Answering, Offering
from shared.trust.keys import SharedKey
from shared.trust.proof import Proven
from tests.contracts.transport import MAX_FRAME_BYTES
from tests.shared.transports.webrtc.ends import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.transports.base import Transport

KEY, OTHER_KEY = SharedKey("ours", bytes(range(32))), SharedKey("theirs", bytes(32))
END = ""
"""After which nobody carries lines."""


class Hand:
    """A carrier that is a pair of queues."""

    patience_s = 10.0
    pause_s = 0.0

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.given: asyncio.Queue[str] = asyncio.Queue()
        self.refused: asyncio.Queue[Fault] = asyncio.Queue()

    @asynccontextmanager
    async def carried(self) -> AsyncIterator[Hand]:
        yield self

    async def say(self, line: str) -> None:
        await self.said.put(line)

    async def hear(self) -> str:
        line = await self.given.get()
        if line == END:
            raise SettingsError("no more")
        return line

    def refuse(self, why: BadLine) -> None:
        self.refused.put_nowait(why.fault)


class Bench:
    """A sender, a receiver, and their hands."""

    def __init__(self, group: asyncio.TaskGroup, *, receivers_key: SharedKey = KEY) -> None:
        self.group = group
        self.near, self.far = Hand(), Hand()
        self.taken: asyncio.Queue[Transport] = asyncio.Queue()
        self.troubles: list[MedroiError] = []
        self.now_s = 1_800_000_000.0
        self.offering = Offering(
            self.near.carried,
            KEY,
            LOOPBACK,
            max_frame_bytes=MAX_FRAME_BYTES,
            now_s=lambda: self.now_s,
        )
        self.answering = Answering(
            self.far,
            [receivers_key],
            LOOPBACK,
            self._take,
            self.troubles.append,
            max_frame_bytes=MAX_FRAME_BYTES,
            now_s=lambda: self.now_s,
        )
        self.running = group.create_task(self.answering.run())

    async def _take(self, transport: Transport) -> None:
        await self.taken.put(transport)
        async for _ in transport.frames():
            pass

    async def agree(self) -> tuple[Transport, str, str]:
        """A channel's near end, and the two lines that led to it."""
        dialling = self.group.create_task(self.offering.dial())
        offer = await self.near.said.get()
        await self.far.given.put(offer)
        answer = await self.far.said.get()
        await self.near.given.put(answer)
        return await dialling, offer, answer


@asynccontextmanager
async def bench(receivers_key: SharedKey = KEY) -> AsyncIterator[Bench]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        made = Bench(group, receivers_key=receivers_key)
        yield made
        made.running.cancel()


def test_two_lines_make_a_channel_and_are_good_for_one() -> None:
    async def talk() -> tuple[Fault, Fault, Fault]:
        async with bench() as both:
            near, offer, answer = await both.agree()
            await near.send(b"frame")
            far = await both.taken.get()
            assert near.stats().name == far.stats().name == "webrtc"
            proven = getattr(far, "proven", None)  # whoever is forgotten is known by it
            assert isinstance(proven, Proven)
            assert proven.key_name == KEY.name
            await both.far.given.put(offer)
            again = await both.far.refused.get()
            await both.far.given.put(answer)
            own = await both.far.refused.get()
            dialling = both.group.create_task(both.offering.dial())
            await both.near.said.get()
            await both.near.given.put(answer)
            old = await both.near.refused.get()
            dialling.cancel()
            await near.close()
            return again, own, old

    assert asyncio.run(talk()) == (Fault.USED, Fault.OWN, Fault.USED)


def test_an_end_takes_neither_its_own_line_nor_an_answer_to_another_offer() -> None:
    async def talk() -> list[Fault]:
        async with bench() as both:
            first = both.group.create_task(both.offering.dial())
            offer = await both.near.said.get()
            await both.far.given.put(offer)
            answer = await both.far.said.get()
            first.cancel()
            second = both.group.create_task(both.offering.dial())
            await both.near.given.put(await both.near.said.get())
            await both.near.given.put(answer)
            faults = [await both.near.refused.get(), await both.near.refused.get()]
            second.cancel()
            return faults

    assert asyncio.run(talk()) == [Fault.OWN, Fault.OTHER]


def test_a_receiver_with_another_key_and_one_that_is_late_say_so() -> None:
    async def talk(key: SharedKey, late_s: float) -> Fault:
        async with bench(key) as both:
            dialling = both.group.create_task(both.offering.dial())
            offer = await both.near.said.get()
            both.now_s += late_s
            await both.far.given.put(offer)
            fault = await both.far.refused.get()
            dialling.cancel()
            return fault

    assert asyncio.run(talk(OTHER_KEY, 0)) is Fault.KEY
    assert asyncio.run(talk(KEY, 601)) is Fault.OLD


def test_of_too_many_offers_the_oldest_is_given_up() -> None:
    async def talk() -> None:
        async with bench() as both:
            for _ in range(signals.MAX_MAKING + 1):
                dialling = both.group.create_task(both.offering.dial())
                await both.far.given.put(await both.near.said.get())
                await both.far.said.get()
                dialling.cancel()
            assert len(both.answering._making) == signals.MAX_MAKING
            near, *_ = await both.agree()
            await near.close()

    asyncio.run(talk())


def test_nobody_answers_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        async with bench() as both:
            with pytest.raises(TransportClosed, match="no answer to the offered line"):
                await both.offering.dial()

    monkeypatch.setattr(signals, "LIFE_S", 0.2)
    asyncio.run(talk())


def test_where_lines_end_channels_that_are_open_do_not() -> None:
    async def talk() -> None:
        async with bench() as both:
            near, *_ = await both.agree()
            await both.far.given.put(END)
            far = await both.taken.get()
            await near.send(b"frame")
            await asyncio.sleep(0)
            assert not both.running.done()
            await near.close()
            await far.close()
            with pytest.raises(SettingsError, match="no more"):
                await both.running

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(talk())
    assert caught.group_contains(SettingsError)


@pytest.mark.parametrize("patience_s", [10.0, 0.0])
def test_the_answering_end_checks_on_until_a_person_has_carried_its_answer(
    patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offering end's NAT lets nothing in before that end has begun."""

    async def dropped(*_: object, **__: object) -> None:
        await asyncio.sleep(0.05)
        raise stun.TransactionTimeout

    async def talk() -> None:
        async with bench() as both:
            dialling = both.group.create_task(both.offering.dial())
            with monkeypatch.context() as nat:
                nat.setattr(ice.StunProtocol, "request", dropped)
                await both.far.given.put(await both.near.said.get())
                answer = await both.far.said.get()
                await asyncio.sleep(0.5)
            assert bool(both.troubles) is not bool(patience_s)
            if both.troubles:
                assert "no way was found between the two ends" in str(both.troubles)
                dialling.cancel()
                return
            await both.near.given.put(answer)
            near = await dialling
            await near.close()

    monkeypatch.setattr(Hand, "patience_s", patience_s)
    monkeypatch.setattr("shared.transports.webrtc.ice.CHECK_PAUSE_S", 0.1)
    asyncio.run(talk())
