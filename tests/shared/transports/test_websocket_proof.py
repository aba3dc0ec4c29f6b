"""Two ends at a WebSocket that prove a key to each other, and those who cannot."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.utils import accept_key

from shared.errors import AuthenticationError, MedroiError, PeerRefused, TransportClosed
from shared.link import parse_link
from shared.role import Role
from shared.transports import websocket
from shared.transports.proving import prove_dialling
from shared.transports.relay import Relay
from shared.transports.websocket import WebSocketTransport, dial, listen
from shared.transports.websocket_gate import CHALLENGE_HEADER
from shared.trust.proof import Claim, DiallingProof
from tests.shared.transports.trusted import (
    KEY,
    LIMIT,
    SECRET,
    STRANGE,
    ask,
    dialling,
    identity,
    impostor,
    listening,
    read_to_end,
    site,
    stranger,
    trusting_context,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from websockets.asyncio.client import ClientConnection

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
LINK = parse_link("rate=10M,rtt=100ms")
TLS = pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])


@RUNNERS
@TLS
def test_who_knows_the_key_is_let_in_and_both_have_the_session_key(tls: bool, run: Run) -> None:
    async def main() -> None:
        async with site(listening(STRANGE, KEY, tls=tls)) as clinic:
            transport = await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling())
            await transport.send(SECRET)
            async for answer in transport.frames():
                assert answer == SECRET
                break
            (far,) = clinic.came
            assert len(transport.session_key) == 32
            assert transport.session_key == far.session_key
            assert far.proven
            assert far.proven.key_name == "clinic"
            await transport.close()
            assert await ask(clinic.url, dialling(STRANGE)) == SECRET
            assert clinic.came[1].session_key != far.session_key
            assert not clinic.refused

    run(main())


@RUNNERS
@pytest.mark.parametrize("role", Role)
def test_either_end_may_listen(role: Role, run: Run) -> None:
    (other,) = set(Role) - {role}

    async def main() -> None:
        async with site(listening(role=role)) as clinic:
            assert await ask(clinic.url, dialling(role=other)) == SECRET

    run(main())


@RUNNERS
@pytest.mark.parametrize("role", Role)
def test_two_of_a_kind_refuse_each_other_with_a_sentence(role: Role, run: Run) -> None:
    sentence = f"both ends are {role}s: one must send and the other receive"

    async def main() -> None:
        async with site(listening(role=role)) as clinic:
            with pytest.raises(PeerRefused, match=sentence):
                await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling(role=role))
            assert clinic.refused == [f"refused a connection from 127.0.0.1: {sentence}"]
            assert not clinic.came

    run(main())


@RUNNERS
def test_two_versions_refuse_each_other_with_a_sentence(run: Run) -> None:
    async def main() -> None:
        async with site(listening(version=2)) as clinic:
            with pytest.raises(PeerRefused, match="the other end speaks version 2"):
                await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling())
            assert "the other end speaks version 1" in clinic.refused[0]
            assert not clinic.came

    run(main())


@RUNNERS
@TLS
def test_another_key_is_told_nothing_and_tells_nothing(tls: bool, run: Run) -> None:
    async def main() -> None:
        async with site(listening(tls=tls)) as clinic:
            with pytest.raises(AuthenticationError, match="hung up without an answer"):
                await ask(clinic.url, dialling(STRANGE))
            assert not clinic.came
            assert clinic.refused == [
                "refused a connection from 127.0.0.1: the peer does not know a key of this end"
            ]
            if not tls:
                assert clinic.wire.answered == b""
                assert SECRET not in clinic.wire.sent

    run(main())


@RUNNERS
def test_what_was_recorded_lets_nobody_in_again(run: Run) -> None:
    """On loopback in plaintext, where it can be recorded at all."""

    async def main() -> None:
        async with site(listening(tls=False)) as clinic:
            assert await ask(clinic.url, dialling()) == SECRET
            recorded = bytes(clinic.wire.sent[:-8])  # all but the close
            async with stranger(clinic) as (reader, writer):
                writer.write(recorded)
                answer = await asyncio.wait_for(read_to_end(reader), 10)
            assert SECRET not in answer
            assert len(clinic.came) == 1
            assert clinic.refused == [
                "refused a connection from 127.0.0.1: the peer did not prove that it knows the key"
            ]

    run(main())


def fields_of(asked: bytes) -> dict[str, str]:
    return dict(line.split(": ") for line in asked.decode().split("\r\n")[1:] if line)


def taken(asked: bytes) -> bytes:
    """The response that takes a request."""
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(fields_of(asked)['Sec-WebSocket-Key'])}\r\n\r\n"
    )
    return head.encode()


@RUNNERS
def test_what_is_reflected_proves_nothing(run: Run) -> None:
    """A listener that knows no key and gives back what it gets, and what it got before."""

    def reflect(asked: bytes) -> bytes:
        back = bytes.fromhex(fields_of(asked)[CHALLENGE_HEADER])
        return taken(asked) + bytes([0x82, len(back)]) + back

    async def main() -> None:
        for stolen in (identity(), None):
            async with impostor(stolen, reflect) as thief:
                url = thief.url if stolen else f"ws://127.0.0.1:{thief.port}"
                with pytest.raises(AuthenticationError, match="did not prove itself"):
                    await ask(url, dialling())
                await thief.gone.wait()
                assert SECRET not in thief.heard
                assert thief.heard.endswith(b"\r\n\r\n")  # the request, and no frame

    run(main())


@RUNNERS
def test_a_listener_that_wants_no_proof_gets_no_session(run: Run) -> None:
    """Without its key by a slip: it takes the request, and says nothing of a key."""

    async def main() -> None:
        heard: list[bytes] = []

        async def hello(transport: WebSocketTransport) -> None:
            with contextlib.suppress(MedroiError):
                await transport.send(b"hello")
                heard.extend([frame async for frame in transport.frames()])

        async with listen("127.0.0.1", 0, hello, max_frame_bytes=LIMIT) as listener:
            with pytest.raises(AuthenticationError, match="did not prove itself"):
                await ask(listener.url, dialling())
        assert heard == []

    run(main())


@RUNNERS
def test_who_brings_no_key_to_a_listener_that_wants_one_is_told_nothing(run: Run) -> None:
    async def main() -> None:
        async with site(listening(tls=False)) as clinic:
            with pytest.raises(TransportClosed, match="did not answer as a WebSocket"):
                await dial(clinic.url, max_frame_bytes=LIMIT)
            assert clinic.wire.answered == b""
            assert "it names none" in clinic.refused[0]

    run(main())


@RUNNERS
@TLS
def test_deflate_is_not_negotiated(tls: bool, run: Run) -> None:
    """A peer offers it, as browsers and most libraries do by themselves."""

    async def main() -> None:
        async with site(listening(tls=tls)) as clinic:
            binding = identity().pin if tls else bytes(32)
            proof = DiallingProof(KEY, binding, Claim(Role.SENDER, 1), b"n" * 32)
            client: ClientConnection = await connect(
                clinic.listener.url.partition("#")[0],
                ssl=trusting_context() if tls else None,
                proxy=None,
                compression="deflate",
                additional_headers={CHALLENGE_HEADER: proof.challenge.hex()},
            )
            assert client.request
            assert client.response
            assert "permessage-deflate" in client.request.headers["Sec-WebSocket-Extensions"]
            assert "Sec-WebSocket-Extensions" not in client.response.headers
            reply = await client.recv()
            assert isinstance(reply, bytes)
            await client.send(proof.answer(reply))
            await client.send(SECRET)
            assert await client.recv() == SECRET
            await client.close()

    run(main())


@RUNNERS
@TLS
def test_no_proxy_of_the_environment_is_asked(
    tls: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        asked = []

        async def proxy(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(True)
            writer.close()

        async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            for name in ("http", "https", "all", "ws", "wss", "socks"):
                monkeypatch.setenv(f"{name}_proxy", f"http://127.0.0.1:{port}")
                monkeypatch.setenv(f"{name.upper()}_PROXY", f"http://127.0.0.1:{port}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            async with site(listening(tls=tls)) as clinic:
                assert await ask(clinic.url, dialling()) == SECRET
        assert not asked

    run(main())


@RUNNERS
@pytest.mark.parametrize(
    ("behind", "sentence"),
    [
        (b"", "the peer did not prove within 0.3 s that it knows the key"),
        (b"\x81\x05hello", "the peer sent text, expected binary frames"),
        (b"\x88\x02\x03\xe8", "the peer did not prove within 0.3 s that it knows the key"),
    ],
    ids=["silence", "text", "close"],
)
def test_a_listener_that_does_not_prove_itself_gets_nothing(
    behind: bytes, sentence: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        websocket, "prove_dialling", functools.partial(prove_dialling, timeout_s=0.3)
    )

    def act(asked: bytes) -> bytes:
        return taken(asked) + behind if asked.startswith(b"GET") else b""

    async def main() -> None:
        async with impostor(identity(), act) as thief:
            with pytest.raises(TransportClosed, match=f"{thief.url.partition('#')[0]}: {sentence}"):
                await ask(thief.url, dialling())
            await thief.gone.wait()
            assert SECRET not in thief.heard
            assert len(thief.heard.partition(b"\r\n\r\n")[2]) < 16  # a close at most

    run(main())


@RUNNERS
def test_a_dialler_that_is_cancelled_in_the_proof_leaves_no_connection(run: Run) -> None:
    async def main() -> None:
        async with impostor(identity(), taken) as thief:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await ask(thief.url, dialling())
            async with asyncio.timeout(2):
                await thief.gone.wait()

    run(main())


@RUNNERS
def test_a_dialler_that_is_cancelled_leaves_no_connection(run: Run) -> None:
    async def main() -> None:
        async with impostor(identity()) as thief:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ask(thief.url, dialling())
            async with asyncio.timeout(2):
                await thief.gone.wait()

    run(main())


@RUNNERS
def test_the_first_frame_leaves_after_three_round_trips(run: Run) -> None:
    rtt_s = 0.1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with site() as clinic, Relay("127.0.0.1", clinic.listener.port, LINK) as relay:
            url = clinic.url.replace(f":{clinic.wire.port}", f":{relay.port}")
            took_s = []
            for _ in range(3):
                started_s = loop.time()
                transport = await dial(url, max_frame_bytes=LIMIT, credentials=dialling())
                took_s.append(loop.time() - started_s)
                await transport.close()
            assert 2.9 * rtt_s < min(took_s) < 3.7 * rtt_s

    run(main())


@RUNNERS
def test_the_first_frames_may_come_with_the_proof(run: Run) -> None:
    async def main() -> None:
        received: list[bytes] = []

        async def take(transport: WebSocketTransport) -> None:
            received.extend([frame async for frame in transport.frames()])

        async with site(handler=take) as clinic:
            transport = await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling())
            frames = [bytes(20), bytes(60_000), bytes(500_000)]
            for frame in frames:
                await transport.send(frame)
            await transport.close()
        assert received == frames

    run(main())
