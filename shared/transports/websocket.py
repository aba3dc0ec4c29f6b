"""WebSockets between two ends: `dial` one, or `listen` for them.

    dial(url) --> WebSocketTransport <== frames ==> WebSocketTransport --> handler, of listen(...)

Beyond loopback there is TLS with a pinned certificate and a proof of a shared key, or nothing
(docs/trust.md). A browser is never a peer, but may run a stranger's page: whatever names an Origin
is refused (RFC 6455, section 10.2).

Round trips until a dialler's first frame leaves: TCP one, TLS one, the WebSocket's request one. The
proof adds none: its challenge travels in the request, its reply behind the response.

The library's pings are off unless asked for. They wait behind bulk: at 64 kbit/s and a round trip
of 2 s, full buffers hold an answer back for some 10 s, and a recorded link stalls for 78 s; the
ping's time-out would end connections that work. Whether the peer lives is for the session to say,
which knows what it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import secrets
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, cast

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidMessage, InvalidStatus, WebSocketException
from websockets.protocol import State

from shared.errors import (
    AuthenticationError,
    PeerRefused,
    RemoteProtocolError,
    SettingsError,
    TransportClosed,
)
from shared.transports.address import (
    listening_address,
    listening_url,
    parse_address,
    pin_of,
    resolve,
)
from shared.transports.loopback import connect_first, loopback_addresses
from shared.transports.pki import PkiConnection, pki_connection
from shared.transports.proving import prove_dialling, prove_listening
from shared.transports.tasks import TaskOwner
from shared.transports.tls import pinned_connection
from shared.transports.websocket_gate import CHALLENGE_HEADER, Gate, Guest, guest_of
from shared.transports.websocket_transport import WRITE_LIMIT_BYTES, WebSocketTransport
from shared.trust.proof import NO_BINDING, NONCE_BYTES, DiallingProof

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from websockets.asyncio.client import ClientConnection
    from websockets.http11 import Request, Response

    from shared.transports.address import Address
    from shared.trust.credentials import Credentials
    from shared.trust.identity import Identity

__all__ = ["Listener", "WebSocketTransport", "dial", "listen"]

READ_QUEUE_FRAMES = 16
"""Read ahead of `WebSocketTransport.frames`; then the peer is held up."""
DIAL_TIMEOUT_S = 30.0
"""Three round trips, of a link that may have seconds, behind what is queued on it."""
ACCEPT_TIMEOUT_S = 5.0
"""For TLS and the request to come once the kernel has the connection."""
CLOSE_TIMEOUT_S = 10.0
"""For the peer to agree to an end; then the connection is dropped."""
MAX_CONNECTIONS = 8
"""Open at the same time on a listener."""


async def dial(
    url: str,
    *,
    max_frame_bytes: int,
    credentials: Credentials | None = None,
    open_timeout_s: float = DIAL_TIMEOUT_S,
    close_timeout_s: float = CLOSE_TIMEOUT_S,
    keyless: bool = False,
    ping_s: float | None = None,
) -> WebSocketTransport:
    """Connect to a listener, prove the key and have it proven; `WebSocketTransport.close` follows.

    Without credentials only to this machine, in plaintext and with no proof; ``keyless`` allows TLS
    all the same, with a pin and no proof, for what is sealed itself. See `listen` for ``ping_s``.

    Raises:
        SettingsError: the address is none, or leads where these credentials do not.
        AuthenticationError: who answers is not the listener that was meant.
        PeerRefused: it is, and does not fit: the same role, another version.
        TransportClosed: nobody answers there, or not as a listener does.
    """
    address = parse_address(url)
    proof, made = _proof_to_dial(address, credentials, keyless=keyless)
    hosts = [] if address.secure else await loopback_addresses(address.host)
    try:
        async with asyncio.timeout(open_timeout_s):
            connection = await connect(
                address.request,
                sock=await connect_first(
                    hosts or await resolve(address.host, address.port), address.port
                ),
                proxy=None,
                user_agent_header=None,
                additional_headers={CHALLENGE_HEADER: proof.challenge.hex()} if proof else None,
                open_timeout=None,
                create_connection=made,
                **_terms(max_frame_bytes, close_timeout_s, ping_s),
            )
    except (AuthenticationError, TransportClosed) as error:  # of TLS
        raise type(error)(f"{address.shown}: {error}") from error
    except (OSError, WebSocketException, EOFError, ValueError) as error:
        raise _dial_error(address, error, open_timeout_s, keyed=credentials is not None) from error
    if isinstance(connection, PkiConnection):
        proof = connection.proof
    transport = WebSocketTransport(connection, max_frame_bytes=max_frame_bytes)
    if proof is not None:
        await _prove(transport, proof, address)
    return transport


class _Terms(TypedDict):
    """What a connection is like whoever dialled."""

    compression: None
    ping_interval: float | None
    ping_timeout: float | None
    close_timeout: float
    max_size: int
    max_queue: int
    write_limit: int


def _terms(max_frame_bytes: int, close_timeout_s: float, ping_s: float | None) -> _Terms:
    return _Terms(
        compression=None,
        ping_interval=ping_s,
        ping_timeout=ping_s,
        close_timeout=close_timeout_s,
        max_size=max_frame_bytes,
        max_queue=READ_QUEUE_FRAMES,
        write_limit=WRITE_LIMIT_BYTES,
    )


def _proof_to_dial(
    address: Address, credentials: Credentials | None, *, keyless: bool
) -> tuple[DiallingProof | None, type[ClientConnection] | None]:
    """What is to be proven, if that is known before the connection; and its class, with TLS.

    Raises:
        SettingsError: the address and the credentials do not fit.
    """
    if credentials is None:
        if address.secure and keyless:
            return None, pinned_connection(pin_of(address, None))
        if address.secure:
            raise SettingsError(f"{address.shown}: TLS goes with a shared key: --key FILE names it")
        return None, None
    nonce = secrets.token_bytes(NONCE_BYTES)
    if credentials.pki is not None:
        if not address.secure or address.pin is not None:
            raise SettingsError(f"{address.shown}: with --pki-ca expected wss://HOST:PORT, no pin")
        return None, pki_connection(credentials.pki, address.host, credentials.claim, nonce)
    pin = pin_of(address, credentials) if address.secure else None
    proof = DiallingProof(credentials.key_to_dial(), pin or NO_BINDING, credentials.claim, nonce)
    return proof, pinned_connection(pin) if pin else None


async def _prove(transport: WebSocketTransport, proof: DiallingProof, address: Address) -> None:
    try:
        transport.begin_session(await prove_dialling(transport, proof, challenged=True))
    except PeerRefused:
        await transport.close()  # in order, so that the peer hears our proof, and the same reason
        raise
    except AuthenticationError as error:
        transport.abort()
        raise AuthenticationError(f"{address.shown}: {error}") from error
    except (TransportClosed, RemoteProtocolError) as error:
        transport.abort()
        raise TransportClosed(f"{address.shown}: {error}") from error
    except asyncio.CancelledError:
        transport.abort()
        raise


def _dial_error(
    address: Address, error: Exception, timeout_s: float, *, keyed: bool
) -> AuthenticationError | TransportClosed:
    """What went wrong until the WebSocket was open."""
    where = address.shown
    match error:
        case TimeoutError():
            return TransportClosed(f"{where} did not answer within {timeout_s:g} s")
        case OSError():
            return TransportClosed(f"nobody answers at {where}: {error.strerror or error}")
        case InvalidStatus():
            status = error.response.status_code
            return TransportClosed(f"{where} refused the connection: HTTP status {status}")
        case InvalidMessage(__cause__=EOFError()) if keyed:
            return AuthenticationError(
                f"{where} hung up without an answer, as who does not know our key does, or "
                "does not take our certificate"
            )
        case _:
            # ValueError is how the library declines to be redirected away from a given socket.
            return TransportClosed(f"{where} did not answer as a WebSocket: {error}")


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
    credentials: Credentials | None = None,
    on_refused: Callable[[str], None] = lambda _: None,
    on_wrong_proof: Callable[[], None] = lambda: None,
    max_connections: int = MAX_CONNECTIONS,
    open_timeout_s: float = ACCEPT_TIMEOUT_S,
    close_timeout_s: float = CLOSE_TIMEOUT_S,
    identity: Identity | None = None,
    max_alike: int | None = None,
    ping_s: float | None = None,
) -> AsyncIterator[Listener]:
    """Take in connections while the ``async with`` lasts; port 0 is any free one.

    With an identity among the credentials TLS only, and anywhere; else plaintext, on loopback. With
    credentials whoever does not prove a key is dropped, and ``on_refused`` is told in a sentence;
    ``on_wrong_proof`` is called for each of them that tried a key. With an ``identity`` alone
    there is TLS and no proof: anybody may come, ``max_alike`` from one address, for what is sealed
    itself.

    ``ping_s``: a peer that does not answer a ping for so long is dropped; for lines without bulk.

    ``handler`` runs once for each connection, which is closed when it returns. It answers itself
    what a peer may do to it: an error that it lets through cancels the body, and comes as an
    `ExceptionGroup`. Leaving cancels the handlers and closes their connections in order, which a
    peer that does not answer holds up for ``close_timeout_s``.

    Raises:
        SettingsError: an address that cannot be had, or not without TLS; an identity that is none.
    """
    if credentials is not None:
        identity = credentials.identity
    secure = identity is not None or (credentials is not None and credentials.has_tls)
    address = await listening_address(host, port, secure=secure)
    gate = Gate(
        credentials,
        max_connections=max_connections,
        on_refused=on_refused,
        on_wrong_proof=on_wrong_proof,
        identity=identity,
        max_alike=max_alike,
    )

    terms = _terms(max_frame_bytes, close_timeout_s, ping_s)
    async with _serving(address, port, gate, handler, open_timeout_s, terms) as bound_port:
        pin = identity.pin if identity else None
        yield Listener(listening_url(address, bound_port, secure=secure, pin=pin), bound_port)


@contextlib.asynccontextmanager
async def _serving(
    address: str,
    port: int,
    gate: Gate,
    handler: Callable[[WebSocketTransport], Coroutine[Any, Any, None]],
    open_timeout_s: float,
    terms: _Terms,
) -> AsyncIterator[int]:
    """Take in connections, each of which the gate admits or not; the port that is bound."""

    async def attend(transport: WebSocketTransport, guest: Guest) -> None:
        if await _admit(gate, transport, guest):
            await handler(transport)

    async def serve_one(connection: ServerConnection) -> None:
        transport = WebSocketTransport(connection, max_frame_bytes=terms["max_size"])
        if task := owner.start(attend(transport, cast("Guest", connection))):
            await asyncio.wait([task])
        await transport.close()

    async with TaskOwner() as owner:
        try:
            server = await serve(
                serve_one,
                address,
                port,
                origins=[None],
                process_request=partial(_is_there_room, gate),
                server_header=None,
                open_timeout=open_timeout_s,
                create_connection=guest_of(gate),
                **terms,
            )
        except OSError as error:
            raise SettingsError(f"cannot listen on {address}:{port}: {error.strerror}") from error
        try:
            yield next(iter(server.sockets)).getsockname()[1]
        finally:
            owner.stop()
            await _shut(server, gate)


def _is_there_room(gate: Gate, connection: ServerConnection, _request: Request) -> Response | None:
    if not gate.is_full:
        return None
    return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")


async def _admit(gate: Gate, transport: WebSocketTransport, guest: Guest) -> bool:
    """Whether an open connection may go to the handler: its proof is heard first."""
    if guest.proof is None:
        return True
    try:
        proven = await prove_listening(transport, guest.proof, reply=guest.reply)
    except PeerRefused as error:  # it is told so by our reply, and closed in order
        gate.tell(guest, error)
        return False
    except (AuthenticationError, TransportClosed, RemoteProtocolError) as error:
        gate.refuse(guest, error)
        if isinstance(error, AuthenticationError):
            gate.on_wrong_proof()
        return False
    transport.begin_session(proven)
    guest.proven = True
    return True


async def _shut(server: Server, gate: Gate) -> None:
    """Stop listening and close what is open; when cancelled, drop it."""
    server.close()
    for guest in list(gate.guests):
        if guest.state is State.CONNECTING or (guest.proof and not guest.proven):
            guest.transport.abort()  # or its time-out would be waited for
    try:
        await server.wait_closed()
    except asyncio.CancelledError:
        for guest in list(gate.guests):
            guest.transport.abort()
        raise
