"""One connection at the receiver, in virtual time, with a session that only writes down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from protocol import messages as m
from protocol.inbox import Inbox
from protocol.limits import PROTOCOL_VERSION
from receiver.visit import Visit
from shared.clock import LoopClock
from shared.errors import MedroiError, RemoteProtocolError, TransportClosed
from shared.link import parse_link
from shared.transports.simulated import simulated_pair
from tests.receiver.studies import Peer, study
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from protocol.events import Event

HELLO = m.Hello(PROTOCOL_VERSION, m.Role.SENDER, "a test")
FIRST, SECOND = bytes(16), bytes(15) + b"\1"


class Guestbook:
    """A session."""

    def __init__(self, session: bytes) -> None:
        self.inbox = Inbox(session)
        self.events: list[Event] = []
        self.log: list[str] = []
        self.error: MedroiError | None = None

    def attach(self, visit: Visit) -> None:
        self.log.append(f"attached {visit.generation}")

    def detach(self, visit: Visit, error: MedroiError | None) -> None:
        self.log.append("detached")

    async def hear(self, visit: Visit, event: Event) -> None:
        self.events.append(event)


class Met:
    """How a visit went."""

    def __init__(self) -> None:
        self.books = {session: Guestbook(session) for session in (FIRST, SECOND)}
        self.error: MedroiError | None = None
        self.took_s = 0.0
        self.visit: Visit

    async def find(self, attach: m.Attach) -> Guestbook:
        return self.books[attach.session]


def met(script: Callable[[Peer], Awaitable[None]], **options: Any) -> tuple[Met, Peer]:
    async def main() -> tuple[Met, Peer]:
        near, far = simulated_pair(parse_link("rate=100M,rtt=2ms"), 0)
        outcome, peer, clock = Met(), Peer(near), LoopClock()
        outcome.visit = Visit(far, clock, outcome.find, **options)
        began_s = clock.now_s()

        async def run() -> None:
            try:
                await outcome.visit.run()
            except MedroiError as error:
                outcome.error = error
            outcome.took_s = clock.now_s() - began_s
            await far.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            listening = group.create_task(peer.listen())
            playing = group.create_task(_until_closed(script(peer)))
            await listening
            playing.cancel()
        return outcome, peer

    return run_virtual(main(), limit_s=3600)


async def _until_closed(playing: Awaitable[None]) -> None:
    try:
        await playing
    except TransportClosed:
        return


def farewells(peer: Peer) -> list[str]:
    return [each.reason for each in peer.heard if isinstance(each, m.Farewell)]


async def silence(_peer: Peer) -> None:
    await asyncio.sleep(3000)


def test_a_peer_without_a_hello_is_dropped_after_ten_seconds() -> None:
    outcome, peer = met(silence)
    assert isinstance(outcome.error, RemoteProtocolError)
    assert outcome.took_s == pytest.approx(10, abs=0.1)
    assert farewells(peer) == ["the peer did not say hello"]


def test_a_channel_in_reserve_may_be_silent_for_a_quarter_of_an_hour_and_no_longer() -> None:
    outcome, _ = met(silence, is_reserve=True)
    assert outcome.took_s == pytest.approx(900, abs=1)
    assert outcome.visit.is_beside


def test_a_peer_that_reads_a_large_study_may_say_later_which_session_it_is() -> None:
    async def slow(peer: Peer) -> None:
        await peer.say(HELLO)
        await asyncio.sleep(600)
        await peer.say(m.Attach(FIRST, 1, False))
        await peer.hear(m.Standing)
        await peer.transport.close()

    outcome, peer = met(slow)
    assert outcome.error is None
    assert outcome.books[FIRST].log == ["attached 1"]
    assert [type(each) for each in peer.heard] == [m.Hello, m.Standing]


def test_what_comes_behind_an_attach_is_the_sessions() -> None:
    sent = study()

    async def begin(peer: Peer) -> None:
        await peer.attach(FIRST)
        await peer.say(sent.manifest)
        await asyncio.sleep(1)
        await peer.transport.close()

    outcome, _ = met(begin)
    assert outcome.books[FIRST].events == [sent.manifest]
    assert outcome.visit.host is outcome.books[FIRST]


def test_a_connection_that_changes_its_session_leaves_the_first_one() -> None:
    async def change(peer: Peer) -> None:
        await peer.attach(FIRST)
        await peer.say(m.Attach(SECOND, 1, False))
        await peer.hear(m.Standing, 2)
        await peer.transport.close()

    outcome, _ = met(change)
    assert outcome.books[FIRST].log == ["attached 1", "detached"]
    assert outcome.books[SECOND].log == ["attached 1"]


def test_bytes_that_are_no_frame_are_a_strangers_before_the_hello_and_the_lines_behind_it() -> None:
    async def strange(peer: Peer) -> None:
        await peer.transport.send(b"GET / HTTP/1.1\r\n\r\n")
        await silence(peer)

    async def damaged(peer: Peer) -> None:
        await peer.attach(FIRST)
        await strange(peer)

    outcome, peer = met(strange)
    assert isinstance(outcome.error, RemoteProtocolError)
    assert farewells(peer)
    outcome, peer = met(damaged)
    assert isinstance(outcome.error, TransportClosed)
    assert "damages what it carries" in str(outcome.error)
    assert farewells(peer) == []  # which would end the session, and not the line


def test_where_there_are_no_channels_an_offer_is_declined_in_words() -> None:
    async def offer(peer: Peer) -> None:
        await peer.say(HELLO, m.ChannelOffer(1, bytes(32), b"v=0"))
        await peer.hear(m.ChannelAnswer)
        await peer.transport.close()

    outcome, peer = met(offer)
    assert [each.reason for each in peer.heard if isinstance(each, m.ChannelAnswer)]
    assert outcome.visit.is_beside


def test_where_a_connection_is_for_offers_only_a_session_is_refused_in_a_sentence() -> None:
    offers: list[m.ChannelOffer] = []

    def take(visit: Visit, offer: m.ChannelOffer) -> None:
        offers.append(offer)
        visit.say(m.ChannelAnswer(offer.number, b"v=0", ""))

    async def both(peer: Peer) -> None:
        await peer.say(HELLO, m.ChannelOffer(1, bytes(32), b"v=0"))
        await peer.hear(m.ChannelAnswer)
        await peer.say(m.Attach(FIRST, 1, False), study().manifest)
        await silence(peer)

    outcome, peer = met(both, on_channel=take, no_session="no study here")
    assert len(offers) == 1
    assert farewells(peer) == ["no study here"]
    assert str(outcome.error) == "no study here"
    assert outcome.books[FIRST].log == []
    assert outcome.visit.host is None
