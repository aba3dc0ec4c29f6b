"""The rendezvous behind real sockets on loopback: what ends get of it, and strangers do not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from shared.clock import SystemClock
from shared.errors import AuthenticationError, MedroiError, TransportClosed
from shared.rendezvous import server
from shared.rendezvous.mailboxes import BURST_LINES
from shared.rendezvous.server import serving
from shared.rendezvous.wire import MAX_FRAME_BYTES, pack_join, pack_line
from shared.transports.websocket import dial
from tests.commands import ROOT
from tests.shared.transports.trusted import identity, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.transports.websocket import WebSocketTransport
    from shared.trust.identity import Identity

A, B = b"a" * 32, b"b" * 32


@asynccontextmanager
async def rendezvous(shown: Identity | None = None, *, max_alike: int = 8) -> AsyncIterator[str]:
    async with (
        asyncio.timeout(20),
        serving("127.0.0.1", 0, shown, SystemClock(), max_alike=max_alike) as url,
    ):
        yield url


@asynccontextmanager
async def end(url: str, *frames: bytes) -> AsyncIterator[WebSocketTransport]:
    transport = await dial(url, max_frame_bytes=2 * MAX_FRAME_BYTES, keyless=True)
    try:
        for frame in frames:
            await transport.send(frame)
        yield transport
    finally:
        transport.abort()


async def heard(transport: WebSocketTransport) -> bytes:
    async for frame in transport.frames():
        return frame
    return b"closed"


@pytest.mark.parametrize("shown", [None, identity()])
def test_lines_go_both_ways_and_wait_for_who_is_late(shown: Identity | None) -> None:
    async def talk() -> tuple[bytes, bytes]:
        async with rendezvous(shown) as url:
            assert url.startswith("wss" if shown else "ws:")
            async with (
                end(url, pack_join([A]), pack_line(0, "medroi:offer")) as site,
                end(url, pack_join([B, A])) as clinic,
            ):
                offer = await heard(clinic)
                await clinic.send(pack_line(1, "medroi:answer"))
                return offer, await heard(site)

    offer, answer = asyncio.run(talk())
    assert (offer, answer) == (pack_line(1, "medroi:offer"), pack_line(0, "medroi:answer"))


def test_an_offer_goes_with_who_made_it() -> None:
    async def talk() -> bytes:
        async with rendezvous() as url, end(url, pack_join([A])) as clinic:
            async with end(url, pack_join([A]), pack_line(0, "medroi:first")) as site:
                assert await heard(clinic) == pack_line(0, "medroi:first")
                await site.close()
            async with end(url, pack_join([A])) as late:
                await clinic.send(pack_line(0, "medroi:second"))
                return await heard(late)

    assert asyncio.run(talk()) == pack_line(0, "medroi:second")


@pytest.mark.parametrize(
    "frames",
    [
        (b"hello",),
        (pack_join([A, A]),),
        (pack_join([A]), pack_line(1, "medroi:x")),
        (pack_join([A]), b"\x00no line"),
        (pack_join([A]), b"\x00medroi:" + b"x" * MAX_FRAME_BYTES),
        (pack_join([A]), *[pack_line(0, "medroi:x")] * (BURST_LINES + 1)),
    ],
    ids=["no join", "twice", "elsewhere", "no line", "too long", "too many"],
)
def test_who_breaks_a_limit_is_closed_and_nobody_else_is(frames: tuple[bytes, ...]) -> None:
    async def talk() -> bytes:
        async with (
            rendezvous() as url,
            end(url, pack_join([B])) as site,
            end(url, pack_join([B])) as clinic,
        ):
            async with end(url, *frames) as bad:
                with suppress(TransportClosed):  # where the library itself saw the limit broken
                    assert await heard(bad) == b"closed"
            await site.send(pack_line(0, "medroi:offer"))
            return await heard(clinic)

    assert asyncio.run(talk()) == pack_line(0, "medroi:offer")


def test_who_does_not_say_where_it_waits_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> bytes:
        async with rendezvous() as url, end(url) as silent:
            return await heard(silent)

    monkeypatch.setattr(server, "JOIN_S", 0.05)
    assert asyncio.run(talk()) == b"closed"


def test_of_one_address_only_so_many_are_taken_in() -> None:
    async def talk() -> None:
        async with (
            rendezvous(max_alike=2) as url,
            end(url, pack_join([A])),
            end(url, pack_join([A])),
        ):
            with pytest.raises(TransportClosed):
                async with end(url, pack_join([A])):
                    pass

    asyncio.run(talk())


def test_an_end_that_does_not_read_is_let_go_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk() -> int:
        async with (
            rendezvous() as url,
            end(url, pack_join([A])) as deaf,
            end(url, pack_join([A])) as site,
        ):
            for _ in range(3):
                await site.send(pack_line(0, "medroi:offer"))
            count = 0
            with suppress(TransportClosed):
                async for _ in deaf.frames():
                    count += 1
            return count

    monkeypatch.setattr(server, "MAX_QUEUE", 1)

    async def stuck(_desk: object, guest: server._Guest) -> None:
        await guest.transport.send(await guest.waiting.get())
        await asyncio.Event().wait()

    monkeypatch.setattr(server._Desk, "_pass_on", stuck)
    assert asyncio.run(talk()) <= 1


def test_who_gives_no_sign_of_life_is_dropped_and_who_does_may_wait_for_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk() -> bytes:
        async with rendezvous() as url, end(url, pack_join([A])) as clinic:
            _, _, port = url.rpartition(":")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            writer.write(request())
            said = await reader.read()  # it answers no ping
            assert said.startswith(b"HTTP/1.1 101")
            writer.close()
            async with end(url, pack_join([A]), pack_line(0, "medroi:offer")):
                return await heard(clinic)

    monkeypatch.setattr(server, "PING_S", 0.1)
    assert asyncio.run(talk()) == pack_line(0, "medroi:offer")


def test_tls_without_the_pin_in_the_address_is_not_dialled_nor_with_another() -> None:
    async def talk(pin: str) -> None:
        async with rendezvous(identity()) as url, end(url.partition("#")[0] + pin):
            pass

    with pytest.raises(MedroiError, match="its certificate's hash is missing"):
        asyncio.run(talk(""))
    with pytest.raises(AuthenticationError, match="not the one that its address names"):
        asyncio.run(talk("#" + "ab" * 32))


def test_it_is_light_and_knows_nothing_of_studies() -> None:
    probe = (
        "import sys, shared.rendezvous.cli, shared.rendezvous.server\n"
        "print([name for name in ('numpy', 'aiortc', 'av', 'imagecodecs', 'protocol', 'sender', "
        "'receiver') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"
