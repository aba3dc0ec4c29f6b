"""Strangers at a listener: what they get, how long they stay, how many there may be."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from shared.errors import AuthenticationError, MedroiError, TransportClosed
from shared.transports import websocket, websocket_gate
from shared.transports.proving import prove_listening
from shared.transports.websocket import dial
from shared.transports.websocket_gate import CHALLENGE_HEADER, MAX_STRANGERS
from tests.shared.transports.trusted import (
    LIMIT,
    SECRET,
    STRANGE,
    Site,
    ask,
    challenge,
    dialling,
    held_open,
    listening,
    read_to_end,
    request,
    site,
    stranger,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
TLS = pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])


@RUNNERS
@TLS
@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(""),
        request("00" * 72),
        request("00" * 71),
        request("zz" * 72),
        request(challenge(b"o" * 32)),
        request(challenge(b"o" * 32), **{CHALLENGE_HEADER.lower(): challenge()}),
        b"GET / HTTP/1.1\r\nHost: clinic\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: clinic\r\nConnection: close\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n",
    ],
    ids=range(11),
)
def test_a_stranger_gets_not_a_byte_back(asked: bytes, tls: bool, run: Run) -> None:
    async def main() -> None:
        async with site(listening(tls=tls)) as clinic, stranger(clinic) as (reader, writer):
            writer.write(asked)
            with contextlib.suppress(NotImplementedError, OSError):
                if not tls:
                    writer.write_eof()
            assert await asyncio.wait_for(read_to_end(reader), 10) == b""
            assert not clinic.came

    run(main())


@RUNNERS
def test_a_page_in_a_browser_is_refused_even_if_it_knew_the_key(run: Run) -> None:
    async def main() -> None:
        async with site(listening(tls=False)) as clinic:
            headers = {CHALLENGE_HEADER: challenge(bytes(32)), "Origin": "https://evil.example"}
            with pytest.raises(InvalidStatus, match="403"):
                await connect(clinic.url, proxy=None, additional_headers=headers)
            assert not clinic.came

    run(main())


def test_refusals_are_told_once_a_second_and_counted() -> None:
    async def main() -> None:
        async with site() as clinic:
            for _ in range(5):
                with pytest.raises(AuthenticationError):
                    await ask(clinic.url, dialling(STRANGE))
            assert len(clinic.refused) == 1
            await asyncio.sleep(1)
            with pytest.raises(AuthenticationError):
                await ask(clinic.url, dialling(STRANGE))
            assert clinic.refused[1].endswith("(and 4 before it)")

    asyncio.run(main())


@RUNNERS
@TLS
@pytest.mark.parametrize("drip", [b"", b"\x16", b"GET"], ids=["silent", "tls", "http"])
def test_slow_strangers_are_dropped_in_time(drip: bytes, tls: bool, run: Run) -> None:
    """Slow-loris: a byte now and then, or none, before, in and behind TLS."""

    async def main() -> None:
        async with site(listening(tls=tls), open_timeout_s=0.3) as clinic:
            loop = asyncio.get_running_loop()
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", clinic.listener.port))
                started_s = loop.time()
                with contextlib.suppress(OSError):
                    for _ in range(40):
                        if drip:
                            await loop.sock_sendall(sock, drip[:1])
                        async with asyncio.timeout(0.05):
                            await loop.sock_recv(sock, 1)
                            break
                assert loop.time() - started_s < 1.5
            async with stranger(clinic) as (reader, writer):
                started_s = loop.time()
                writer.write(drip)
                await asyncio.wait_for(read_to_end(reader), 5)
                assert loop.time() - started_s < 1.5

    run(main())


@RUNNERS
@TLS
def test_who_stops_before_the_proof_is_dropped_in_time(
    tls: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        websocket, "prove_listening", functools.partial(prove_listening, timeout_s=0.3)
    )

    async def main() -> None:
        async with site(listening(tls=tls)) as clinic, stranger(clinic) as (reader, writer):
            writer.write(request(challenge(None if tls else bytes(32))))
            answer = await asyncio.wait_for(read_to_end(reader), 5)
            assert answer.startswith(b"HTTP/1.1 101")
            assert clinic.refused == [
                "refused a connection from 127.0.0.1: "
                "the peer did not prove within 0.3 s that it knows the key"
            ]
            assert not clinic.came

    run(main())


@RUNNERS
@TLS
def test_a_stranger_may_send_little(tls: bool, run: Run) -> None:
    binding = None if tls else bytes(32)

    async def main() -> None:
        async with site(listening(tls=tls)) as clinic:
            async with stranger(clinic) as (reader, writer):  # a request without an end
                writer.write(b"GET / HTTP/1.1\r\nHost: " + b"x" * 8000)
                writer.write(b"x" * 1000)
                assert await asyncio.wait_for(read_to_end(reader), 2) == b""
            masked = b"\x82\xfe\xff\xff" + bytes(4)  # a binary message of 65,535 bytes
            async with stranger(clinic) as (reader, writer):
                writer.write(request(challenge(binding)))
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
                writer.write(masked + bytes(2000))
                async with asyncio.timeout(2):
                    await read_to_end(reader)
            async with stranger(clinic) as (reader, writer):  # in fragments, or as pings
                writer.write(request(challenge(binding)))
                await reader.readuntil(b"\r\n\r\n")
                for _ in range(40):
                    writer.write(b"\x89\xa0" + bytes(36))
                async with asyncio.timeout(2):
                    await read_to_end(reader)
            async with stranger(clinic) as (reader, writer):  # a whole one that is no proof
                writer.write(request(challenge(binding)))
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"\x82\xfe\x08\x00" + bytes(4 + 2048))
                async with asyncio.timeout(2):
                    await read_to_end(reader)
            assert not clinic.came
            assert await ask(clinic.url, dialling()) == SECRET

    run(main())


async def connected(clinic: Site, source: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", clinic.listener.port))
    return sock


async def is_dropped(sock: socket.socket) -> bool:
    try:
        async with asyncio.timeout(0.3):
            return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@RUNNERS
@TLS
def test_an_address_has_few_places_until_it_has_proven_a_key(tls: bool, run: Run) -> None:
    async def main() -> None:
        async with site(listening(tls=tls)) as clinic:
            with contextlib.ExitStack() as held:
                friends = [
                    await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling())
                    for _ in range(MAX_STRANGERS + 1)
                ]
                strangers = [
                    held.enter_context(await connected(clinic, "127.0.0.1"))
                    for _ in range(MAX_STRANGERS + 2)
                ]
                dropped = [await is_dropped(sock) for sock in strangers]
                assert dropped == [False] * MAX_STRANGERS + [True] * 2
                with pytest.raises(MedroiError):  # from there nobody else gets in now
                    await ask(clinic.url, dialling())
                other = held.enter_context(await connected(clinic, "127.0.0.2"))
                assert not await is_dropped(other)
                for friend in friends:
                    await friend.close()
            await asyncio.sleep(0.05)
            assert await ask(clinic.url, dialling()) == SECRET

    run(main())


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_with_ipv6_one_machine_has_many_addresses(one: str, other: str, alike: bool) -> None:
    assert (websocket_gate._origin(one) == websocket_gate._origin(other)) is alike


@RUNNERS
def test_a_full_listener_says_so_to_those_who_know_the_key_only(run: Run) -> None:
    async def main() -> None:
        async with site(max_connections=1) as clinic:
            first = await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling())
            with pytest.raises(TransportClosed, match="HTTP status 503"):
                await ask(clinic.url, dialling())
            with pytest.raises(AuthenticationError):
                await ask(clinic.url, dialling(STRANGE))
            await first.close()

    run(main())


@RUNNERS
@TLS
def test_strangers_hold_up_no_end(tls: bool, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as held:
            async with site(listening(tls=tls)) as clinic:
                held.enter_context(await connected(clinic, "127.0.0.1"))
                reader, writer = await held_open(clinic)
                writer.write(request(challenge(None if tls else bytes(32))))
                await reader.readuntil(b"\r\n\r\n")
                started_s = loop.time()
            assert loop.time() - started_s < 1
            writer.transport.abort()

    run(main())
