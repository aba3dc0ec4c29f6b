"""WebSockets between processes on this machine: `dial` one, or `listen` for them.

    dial(url) --> WebSocketTransport <== frames ==> WebSocketTransport --> handler, of listen(...)

Nothing in plaintext goes beyond loopback, and there is no TLS yet. A browser is never a peer, but
may run a stranger's page: whatever names an Origin is refused (RFC 6455, section 10.2).

The library's pings are off. They wait behind bulk: at 64 kbit/s and a round trip of 2 s, full
buffers hold an answer back for some 10 s, and a recorded link stalls for 78 s; the ping's time-out
would end connections that work. Whether the peer lives is for the session to say, which knows what
it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.protocol import State

from shared.errors import SettingsError, TransportClosed
from shared.transports.loopback import connect_first, loopback_addresses
from shared.transports.tasks import TaskOwner
from shared.transports.websocket_transport import WRITE_LIMIT_BYTES, WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from websockets.http11 import Request, Response

__all__ = ["Listener", "WebSocketTransport", "dial", "listen"]

READ_QUEUE_FRAMES = 16
"""Read ahead of `WebSocketTransport.frames`; then the peer is held up."""
DIAL_TIMEOUT_S = 30.0
"""Two round trips, of a link that may have seconds, behind what is queued on it."""
ACCEPT_TIMEOUT_S = 5.0
"""For a handshake to come once the kernel has the connection."""
CLOSE_TIMEOUT_S = 10.0
"""For the peer to agree to an end; then the connection is dropped."""
MAX_CONNECTIONS = 8
"""Open at the same time on a listener."""
MAX_HANDSHAKES = 16
"""Connections beside those, in their handshake."""


async def dial(
    url: str,
    *,
    max_frame_bytes: int,
    open_timeout_s: float = DIAL_TIMEOUT_S,
    close_timeout_s: float = CLOSE_TIMEOUT_S,
) -> WebSocketTransport:
    """Connect to a listener on this machine; `WebSocketTransport.close` must follow.

    Raises:
        SettingsError: not a ``ws://`` address, or not on loopback.
        TransportClosed: nobody answers there, or not as a listener does.
    """
    host, port = _parse_url(url)
    addresses = await loopback_addresses(host)
    try:
        async with asyncio.timeout(open_timeout_s):
            connection = await connect(
                url,
                sock=await connect_first(addresses, port),
                compression=None,
                proxy=None,
                user_agent_header=None,
                open_timeout=None,
                ping_interval=None,
                close_timeout=close_timeout_s,
                max_size=max_frame_bytes,
                max_queue=READ_QUEUE_FRAMES,
                write_limit=WRITE_LIMIT_BYTES,
            )
    except TimeoutError as error:
        raise TransportClosed(f"{url} did not answer within {open_timeout_s:g} s") from error
    except OSError as error:
        raise TransportClosed(f"nobody answers at {url}: {error.strerror}") from error
    except InvalidStatus as error:
        status = error.response.status_code
        raise TransportClosed(f"{url} refused the connection: HTTP status {status}") from error
    except (WebSocketException, EOFError, ValueError) as error:
        # ValueError is how the library declines to be redirected away from a given socket.
        raise TransportClosed(f"{url} did not answer as a WebSocket: {error}") from error
    return WebSocketTransport(connection, max_frame_bytes=max_frame_bytes)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where `listen` listens."""

    url: str
    port: int


@contextlib.asynccontextmanager
async def listen(
    host: str,
    port: int,
    handler: Callable[[WebSocketTransport], Coroutine[Any, Any, None]],
    *,
    max_frame_bytes: int,
    max_connections: int = MAX_CONNECTIONS,
    open_timeout_s: float = ACCEPT_TIMEOUT_S,
    close_timeout_s: float = CLOSE_TIMEOUT_S,
) -> AsyncIterator[Listener]:
    """Take in connections on this machine while the ``async with`` lasts; port 0 is any free one.

    ``handler`` runs once for each connection, which is closed when it returns. It answers itself
    what a peer may do to it: an error that it lets through cancels the body, and comes as an
    `ExceptionGroup`. Leaving cancels the handlers and closes their connections in order, which a
    peer that does not answer holds up for ``close_timeout_s``.

    Raises:
        SettingsError: not on loopback, or a port that cannot be had.
    """
    address = (await loopback_addresses(host))[0]
    taken_in: set[ServerConnection] = set()

    async def serve_one(connection: ServerConnection) -> None:
        transport = WebSocketTransport(connection, max_frame_bytes=max_frame_bytes)
        if task := owner.start(handler(transport)):
            await asyncio.wait([task])
        await transport.close()

    def admit(connection: ServerConnection, _request: Request) -> Response | None:
        if sum(other.state is State.OPEN for other in taken_in) < max_connections:
            return None
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")

    async with TaskOwner() as owner:
        try:
            server = await serve(
                serve_one,
                address,
                port,
                origins=[None],
                compression=None,
                process_request=admit,
                server_header=None,
                open_timeout=open_timeout_s,
                ping_interval=None,
                close_timeout=close_timeout_s,
                max_size=max_frame_bytes,
                max_queue=READ_QUEUE_FRAMES,
                write_limit=WRITE_LIMIT_BYTES,
                create_connection=_registering(taken_in, max_connections + MAX_HANDSHAKES),
            )
        except OSError as error:
            raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        bound_port: int = next(iter(server.sockets)).getsockname()[1]
        try:
            shown = f"[{address}]" if ":" in address else address
            yield Listener(f"ws://{shown}:{bound_port}", bound_port)
        finally:
            owner.stop()
            await _shut(server, taken_in)


def _registering(taken_in: set[ServerConnection], most: int) -> type[ServerConnection]:
    """The library's connection, which is in ``taken_in`` from its first moment to its last.

    One more than ``most`` is dropped, before a byte of it is read.
    """

    class Registered(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            taken_in.add(self)
            if len(taken_in) > most:
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            taken_in.discard(self)
            super().connection_lost(exc)

    return Registered


async def _shut(server: Server, taken_in: set[ServerConnection]) -> None:
    """Stop listening and close what is open; when cancelled, drop it."""
    server.close()
    for connection in list(taken_in):
        if connection.state is State.CONNECTING:  # or its time-out would be waited for
            connection.transport.abort()
    try:
        await server.wait_closed()
    except asyncio.CancelledError:
        for connection in list(taken_in):
            connection.transport.abort()
        raise


def _parse_url(url: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        SettingsError: anything else than ws://HOST:PORT, with or without a path.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"expected an address such as ws://127.0.0.1:8765: {error}") from error
    if parts.scheme == "wss":
        raise SettingsError(f"expected ws:// on this machine, got {url}: TLS is not there yet")
    if parts.scheme != "ws" or not host or not port or "@" in parts.netloc or parts.fragment:
        raise SettingsError(f"expected an address such as ws://127.0.0.1:8765, got {url!r}")
    return host, port
