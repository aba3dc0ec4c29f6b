from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from shared.errors import MedroiError, SettingsError, TransportClosed
from shared.transports.websocket import WebSocketTransport, dial, listen
from shared.transports.websocket_gate import MAX_HANDSHAKES
from tests.shared.transports.trusted import dialling

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
LIMIT = 1 << 20


async def echo(transport: WebSocketTransport) -> None:
    with contextlib.suppress(TransportClosed):
        async for frame in transport.frames():
            await transport.send(frame)


async def ask(url: str, frame: bytes = b"ping") -> bytes:
    transport = await dial(url, max_frame_bytes=LIMIT)
    try:
        await transport.send(frame)
        async for answer in transport.frames():
            return answer
    finally:
        await transport.close()
    raise AssertionError("no answer")


@RUNNERS
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_a_listener_says_where_it_is_and_answers_there(host: str, run: Run) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")

    async def main() -> None:
        async with listen(host, 0, echo, max_frame_bytes=LIMIT) as listener:
            assert listener.url.endswith(f":{listener.port}")
            assert await ask(listener.url) == b"ping"
            assert await ask(f"{listener.url}/any/path?and=more") == b"ping"

    run(main())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_localhost_is_found_whichever_of_its_addresses_listens() -> None:
    async def main() -> None:
        async with listen("127.0.0.1", 0, echo, max_frame_bytes=LIMIT) as listener:
            assert await ask(f"ws://localhost:{listener.port}") == b"ping"

    asyncio.run(main())


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "example.com", "127.1", ""]
)
def test_plaintext_stays_on_this_machine(host: str) -> None:
    async def main() -> None:
        with pytest.raises(SettingsError, match=r"on this machine|such as ws://"):
            await dial(f"ws://{f'[{host}]' if ':' in host else host}:1", max_frame_bytes=LIMIT)
        with pytest.raises(SettingsError, match="plaintext does not go further, TLS with a shared"):
            await listen(host, 0, echo, max_frame_bytes=LIMIT).__aenter__()

    asyncio.run(main())


def test_localhost_that_leads_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def elsewhere(*_: object, **__: object) -> list[Any]:
            local = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
            return [local, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", elsewhere)
        with pytest.raises(SettingsError, match="plaintext does not go further"):
            await dial("ws://localhost:9", max_frame_bytes=LIMIT)

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8765",
        "http://127.0.0.1:8765",
        "ws://127.0.0.1",
        "ws://127.0.0.1:0",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:port",
        "ws://:8765",
        "ws://[::1:8765",
        "ws://name:word@127.0.0.1:8765",
        "ws://127.0.0.1:8765/#token",
    ],
)
def test_what_is_no_address_is_a_setting_to_mend(url: str) -> None:
    with pytest.raises(SettingsError, match=r"expected an address such as ws://"):
        asyncio.run(dial(url, max_frame_bytes=LIMIT))


def test_tls_takes_a_key_and_a_pin() -> None:
    with pytest.raises(SettingsError, match=r"wss://127\.0\.0\.1:9: TLS goes with a shared key"):
        asyncio.run(dial("wss://127.0.0.1:9", max_frame_bytes=LIMIT))
    with pytest.raises(SettingsError, match="its certificate's hash is missing; take the whole"):
        asyncio.run(dial("wss://127.0.0.1:9", max_frame_bytes=LIMIT, credentials=dialling()))


def test_with_tls_whose_name_nobody_knows_is_a_transport_that_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async def unknown(*_: object, **__: object) -> list[Any]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        url = f"wss://clinic.invalid:9/#{'0' * 64}"
        await dial(url, max_frame_bytes=LIMIT, credentials=dialling())

    with pytest.raises(TransportClosed, match=r"nobody answers at wss://clinic\.invalid:9/: Temp"):
        asyncio.run(main())


def test_a_port_that_is_taken_is_a_setting_to_mend() -> None:
    async def main() -> None:
        async with listen("127.0.0.1", 0, echo, max_frame_bytes=LIMIT) as listener:
            with pytest.raises(SettingsError, match=r"cannot listen on 127\.0\.0\.1:\d+: "):
                await listen("127.0.0.1", listener.port, echo, max_frame_bytes=LIMIT).__aenter__()

    asyncio.run(main())


@RUNNERS
def test_a_port_where_nobody_listens_is_a_transport_that_is_closed(run: Run) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TransportClosed, match=r"nobody answers at ws://127\.0\.0\.1"):
            run(dial(f"ws://127.0.0.1:{port}", max_frame_bytes=LIMIT))


async def dial_stranger(answer: bytes | None, *, hang_up: bool = False) -> None:
    """Dial a server that answers so, or not at all."""

    gone = asyncio.Event()

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
        if not hang_up:
            await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            await dial(url, max_frame_bytes=LIMIT, open_timeout_s=0.3)
        finally:
            await gone.wait()


@RUNNERS
@pytest.mark.parametrize(
    ("answer", "hang_up", "sentence"),
    [
        (None, False, "did not answer within 0.3 s"),
        (None, True, "did not answer as a WebSocket"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", True, "did not answer as a WebSocket"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False, "HTTP status 404"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: ws://192.0.2.1:80/\r\nContent-Length: 0\r\n\r\n",
            False,
            "did not answer as a WebSocket",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: bm90IHRoZSBvbmU=\r\n\r\n",
            False,
            "did not answer as a WebSocket",
        ),
    ],
    ids=["silence", "hang-up", "ssh", "404", "redirect", "wrong accept"],
)
def test_a_server_that_is_no_listener_is_a_transport_that_is_closed(
    answer: bytes | None, hang_up: bool, sentence: str, run: Run
) -> None:
    with pytest.raises(TransportClosed, match=sentence) as caught:
        run(dial_stranger(answer, hang_up=hang_up))
    assert "\n" not in str(caught.value)


def test_a_page_in_a_browser_is_refused() -> None:
    async def main() -> None:
        async with listen("127.0.0.1", 0, echo, max_frame_bytes=LIMIT) as listener:
            for origin in ("http://evil.example", listener.url.replace("ws", "http"), "null"):
                with pytest.raises(InvalidStatus, match="403"):
                    await connect(listener.url, proxy=None, additional_headers={"Origin": origin})

    asyncio.run(main())


@RUNNERS
def test_one_connection_more_than_may_be_open_is_refused_until_one_closes(run: Run) -> None:
    async def main() -> None:
        async with listen(
            "127.0.0.1", 0, echo, max_frame_bytes=LIMIT, max_connections=2
        ) as listener:
            first, second = [await dial(listener.url, max_frame_bytes=LIMIT) for _ in range(2)]
            with pytest.raises(TransportClosed, match="HTTP status 503"):
                await dial(listener.url, max_frame_bytes=LIMIT)
            await first.close()
            assert await ask(listener.url) == b"ping"
            await second.close()

    run(main())


@RUNNERS
def test_silent_strangers_keep_no_places_and_hold_up_no_end(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as strangers:
            async with listen(
                "127.0.0.1", 0, echo, max_frame_bytes=LIMIT, max_connections=1
            ) as listener:
                for _ in range(MAX_HANDSHAKES):
                    sock = strangers.enter_context(socket.socket())
                    sock.setblocking(False)
                    await loop.sock_connect(sock, ("127.0.0.1", listener.port))
                assert await ask(listener.url) == b"ping"
                one_more = [strangers.enter_context(socket.socket()) for _ in range(3)]
                for sock in one_more:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, ("127.0.0.1", listener.port))
                async with asyncio.timeout(1):
                    assert await dropped(one_more[-1])
                started_s = loop.time()
            assert loop.time() - started_s < 1  # not the time that a handshake may take

    run(main())


async def dropped(sock: socket.socket) -> bool:
    try:
        return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except ConnectionResetError:
        return True


def test_a_handshake_has_its_time() -> None:
    async def main() -> None:
        async with listen(
            "127.0.0.1", 0, echo, max_frame_bytes=LIMIT, open_timeout_s=0.1
        ) as listener:
            with socket.socket() as sock:
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, ("127.0.0.1", listener.port))
                async with asyncio.timeout(2):
                    assert await dropped(sock)

    asyncio.run(main())


@RUNNERS
def test_leaving_the_listener_cancels_handlers_and_closes_their_connections(run: Run) -> None:
    cancelled = []

    async def main() -> None:
        started = asyncio.Event()

        async def handler(_transport: WebSocketTransport) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        async with listen("127.0.0.1", 0, handler, max_frame_bytes=LIMIT) as listener:
            transport = await dial(listener.url, max_frame_bytes=LIMIT)
            await started.wait()
        assert [frame async for frame in transport.frames()] == []  # in order
        await transport.close()
        with pytest.raises(TransportClosed):
            await dial(listener.url, max_frame_bytes=LIMIT)

    run(main())
    assert cancelled == [True]


@RUNNERS
def test_an_error_of_a_handler_ends_the_listener(run: Run) -> None:
    async def main() -> None:
        async def handler(_transport: WebSocketTransport) -> None:
            raise ZeroDivisionError

        async with listen("127.0.0.1", 0, handler, max_frame_bytes=LIMIT) as listener:
            transport = await dial(listener.url, max_frame_bytes=LIMIT)
            try:
                await asyncio.sleep(5)
            finally:
                transport.abort()

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


@RUNNERS
def test_an_error_of_the_body_comes_as_it_is(run: Run) -> None:
    async def main() -> None:
        async with listen("127.0.0.1", 0, echo, max_frame_bytes=LIMIT) as listener:
            transport = await dial(listener.url, max_frame_bytes=LIMIT)
            try:
                raise MedroiError("mine")
            finally:
                await transport.close()

    with pytest.raises(MedroiError, match="mine"):
        run(main())


@RUNNERS
def test_a_cancelled_listener_cleans_up_and_is_cancelled(run: Run) -> None:
    async def main() -> None:
        async def serve_and_be_cancelled() -> None:
            async with listen("127.0.0.1", 0, echo, max_frame_bytes=LIMIT) as listener:
                transport = await dial(listener.url, max_frame_bytes=LIMIT)
                try:
                    async with asyncio.timeout(0.05):
                        await asyncio.Event().wait()
                finally:
                    await transport.close()

        with pytest.raises(TimeoutError):
            await serve_and_be_cancelled()
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0

    run(main())
