from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from shared.errors import RemoteProtocolError, TransportClosed
from shared.transports.websocket import WebSocketTransport, dial, listen
from tests.contracts.transport import MAX_FRAME_BYTES, Breakable, TransportContract, collect
from tests.shared.transports.trusted import dialling, listening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from shared.transports.base import TransportStats


@dataclass
class Ends:
    near: WebSocketTransport
    far: WebSocketTransport

    def cut(self) -> None:
        self.near.abort()


async def play(scenario: Callable[[Ends], Awaitable[None]], *, tls: bool = False) -> None:
    """Both ends of a connection over real sockets, closed in the end."""
    taken_in: asyncio.Queue[WebSocketTransport] = asyncio.Queue()
    done = asyncio.Event()

    async def handler(far: WebSocketTransport) -> None:
        await taken_in.put(far)
        await done.wait()

    async with (
        asyncio.timeout(30),
        listen(
            "127.0.0.1",
            0,
            handler,
            max_frame_bytes=MAX_FRAME_BYTES,
            credentials=listening() if tls else None,
        ) as listener,
    ):
        near = await dial(
            listener.url,
            max_frame_bytes=MAX_FRAME_BYTES,
            credentials=dialling() if tls else None,
        )
        pair = Ends(near, await taken_in.get())
        await scenario(pair)
        done.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(pair.near.close())
            group.create_task(pair.far.close())


class TestWebSocket(TransportContract):
    patience_s = 0.5
    tls = False

    def run(self, scenario: Callable[[Breakable], Awaitable[None]]) -> None:
        self.run_loop(play(scenario, tls=self.tls))

    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        asyncio.run(main)

    def check_stats(self, stats: TransportStats) -> None:
        assert stats.name == "websocket"
        if hasattr(socket, "TCP_CONGESTION"):
            assert stats.congestion


class TestWebSocketOnUvloop(TestWebSocket):
    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


class TestWebSocketOverTls(TestWebSocket):
    tls = True


class TestWebSocketOverTlsOnUvloop(TestWebSocketOnUvloop):
    tls = True


def receive_from(stranger: Callable[[ClientConnection], Awaitable[None]]) -> list[bytes]:
    """What a handler receives from a client of the library's own, until its frames end."""
    received: list[bytes] = []
    outcome: list[BaseException] = []

    async def main() -> None:
        done = asyncio.Event()

        async def handler(transport: WebSocketTransport) -> None:
            try:
                async for frame in transport.frames():
                    received.append(frame)
            except (RemoteProtocolError, TransportClosed) as error:
                outcome.append(error)
            finally:
                done.set()

        async with (
            asyncio.timeout(10),
            listen("127.0.0.1", 0, handler, max_frame_bytes=1000) as listener,
            connect(listener.url, proxy=None, compression=None, max_size=None) as client,
        ):
            await stranger(client)
            await done.wait()

    asyncio.run(main())
    if outcome:
        raise outcome[0]
    return received


def test_binary_messages_are_frames() -> None:
    async def stranger(client: ClientConnection) -> None:
        await client.send(b"one")
        await client.send([b"t", b"w", b"o"])  # in fragments
        await client.close()

    assert receive_from(stranger) == [b"one", b"two"]


def test_text_is_no_frame() -> None:
    closed_with: list[int | None] = []

    async def stranger(client: ClientConnection) -> None:
        await client.send("hello")
        await client.wait_closed()
        closed_with.append(client.close_code)

    with pytest.raises(RemoteProtocolError, match="the peer sent text, expected binary frames"):
        receive_from(stranger)
    assert closed_with == [1003]  # unsupported data


def test_text_that_is_none_is_no_frame_either() -> None:
    async def stranger(client: ClientConnection) -> None:
        await client.send(b"\xff\xfe", text=True)
        await client.wait_closed()

    with pytest.raises(RemoteProtocolError, match="not UTF-8"):
        receive_from(stranger)


def test_a_frame_over_the_limit_is_the_peers_fault() -> None:
    async def stranger(client: ClientConnection) -> None:
        await client.send(bytes(1001))
        await client.wait_closed()

    with pytest.raises(RemoteProtocolError, match="the peer sent a frame over the size limit"):
        receive_from(stranger)


def test_fragments_over_the_limit_together_are_too() -> None:
    async def stranger(client: ClientConnection) -> None:
        await client.send([bytes(600), bytes(600)])
        await client.wait_closed()

    with pytest.raises(RemoteProtocolError, match="the peer sent a frame over the size limit"):
        receive_from(stranger)


def test_what_is_no_websocket_frame_is_the_peers_fault() -> None:
    async def stranger(client: ClientConnection) -> None:
        client.transport.write(b"\xff" * 20)
        await client.wait_closed()

    with pytest.raises(RemoteProtocolError, match="broke the WebSocket protocol"):
        receive_from(stranger)


def test_a_peer_that_closes_with_an_error_is_a_broken_connection() -> None:
    async def stranger(client: ClientConnection) -> None:
        await client.close(1011, "disk full")

    with pytest.raises(TransportClosed, match=r"closed it with code 1011 \(disk full\)"):
        receive_from(stranger)


def test_a_peer_that_finds_our_protocol_broken_is_not_called_broken() -> None:
    async def stranger(client: ClientConnection) -> None:
        await client.close(1002)

    with pytest.raises(TransportClosed, match="closed it with code 1002"):
        receive_from(stranger)


def test_a_peer_that_goes_away_is_a_broken_connection() -> None:
    async def stranger(client: ClientConnection) -> None:
        client.transport.close()

    with pytest.raises(TransportClosed, match="the peer is gone without closing it"):
        receive_from(stranger)


def test_a_cancelled_close_leaves_no_connection_behind() -> None:
    async def scenario(ends: Ends) -> None:
        # The far end has more unread than its queue takes, so that it never sees the close.
        for _ in range(40):
            await ends.near.send(bytes(100))
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ends.near.close()
        assert ends.near._connection.transport.is_closing()
        assert len(await collect(ends.far)) == 40

    asyncio.run(play(scenario))


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="an option of Linux")
def test_the_kernel_holds_little_that_is_not_sent() -> None:
    async def scenario(ends: Ends) -> None:
        for end in (ends.near, ends.far):
            sock = end._connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16384
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1

    for tls in (False, True):
        asyncio.run(play(scenario, tls=tls))
        uvloop.run(play(scenario, tls=tls))


def test_a_connection_without_a_key_has_no_session_key() -> None:
    async def scenario(ends: Ends) -> None:
        assert ends.near.session_key == ends.far.session_key == b""
        assert ends.near.proven is None

    asyncio.run(play(scenario))
