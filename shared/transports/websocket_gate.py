"""Who gets in at a WebSocket listener, and how little a stranger gets of it.

    TCP --> counted --> [TLS] --> request: [challenge] --> [proof] --> handler
         one too many? no TLS?     no key? not a byte back    no key?
                  dropped, each within its time and bytes

What is in brackets takes credentials. A connection is counted from its first moment. A stranger's
costs us a TLS handshake at most: it is dropped at the request, which carries the challenge of
`shared.trust.proof`, before anything is said to it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import secrets
import ssl
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.http11 import Request
from websockets.protocol import State

from shared.errors import AuthenticationError
from shared.transports.tls import SecuredConnection, Tls, bare_context, listening_context
from shared.trust.identity import hash_certificate
from shared.trust.pki import check_peer, load_into, pki_key
from shared.trust.proof import CHALLENGE_BYTES, NO_BINDING, NONCE_BYTES, ListeningProof

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.protocol import Event

    from shared.errors import TransportClosed
    from shared.transports.tls import TlsTransport
    from shared.trust.credentials import Credentials
    from shared.trust.identity import Identity
    from shared.trust.keys import SharedKey

MAX_HANDSHAKES = 64
"""Connections beside those that may be open: in their handshake, or not proven yet."""
MAX_STRANGERS = 4
"""Of them, from one address, where there is a key to prove."""
MAX_REQUEST_BYTES = 8 << 10
"""Of TLS' handshake and the WebSocket's: ours are about 1 KiB, 2 with post-quantum key shares."""
MAX_FIRST_BYTES = 1 << 10
"""Of a peer that has a key to prove and has sent no whole message; the proof is one of 48 bytes."""
CHALLENGE_HEADER = "Medroi-Challenge"
"""In the request, as hex: so the proof takes no round trip of its own."""
_TOLD_EVERY_S = 1.0
"""Refusals are told no faster: strangers do not get to fill a log."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Gate:
    """The door of one listener."""

    def __init__(
        self,
        credentials: Credentials | None,
        *,
        max_connections: int,
        on_refused: Callable[[str], None],
        on_wrong_proof: Callable[[], None] = lambda: None,
        identity: Identity | None = None,
        max_alike: int | None = None,
    ) -> None:
        """``on_wrong_proof`` hears of each who tried a key that is none of ours; ``identity`` is
        for TLS; ``max_alike`` may come from one address where there is no key.

        Raises `SettingsError` where the identity cannot be used.
        """
        self.credentials = credentials
        self.pki = credentials.pki if credentials else None
        self.context = listening_context(identity) if identity else None
        self.binding = identity.pin if identity else NO_BINDING
        if self.pki is not None:
            self.context = bare_context(ssl.PROTOCOL_TLS_SERVER)
            self.context.num_tickets = 0
            load_into(self.context, self.pki)
            self.binding = self.pki.own
        self._max_connections = max_connections
        self._max_alike = MAX_STRANGERS if credentials else max_alike
        self._on_refused = on_refused
        self.on_wrong_proof = on_wrong_proof
        self._told_s = -math.inf
        self._untold = 0
        self.guests: set[Guest] = set()
        """From their first moment to their last."""

    def enter(self, guest: Guest) -> bool:
        """Take a new connection in, unless there are too many."""
        self.guests.add(guest)
        if len(self.guests) > self._max_connections + MAX_HANDSHAKES:
            return False
        alike = sum(not other.proven and other.origin == guest.origin for other in self.guests)
        return self._max_alike is None or alike <= self._max_alike

    @property
    def is_full(self) -> bool:
        """Whether no more may be open."""
        return sum(guest.state is State.OPEN for guest in self.guests) >= self._max_connections

    def refuse(self, guest: Guest, why: object) -> None:
        """Drop a connection without a word, and tell our own side why."""
        guest.transport.abort()
        self.tell(guest, why)

    def tell(self, guest: Guest, why: object) -> None:
        """Tell our own side that a connection was refused."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s < _TOLD_EVERY_S:
            self._untold += 1
            return
        more = f" (and {self._untold} before it)" if self._untold else ""
        self._told_s, self._untold = now_s, 0
        self._on_refused(f"refused a connection from {guest.peer_address}: {why}{more}")


class Guest(SecuredConnection, ServerConnection):
    """One connection at the gate."""

    gate: Gate
    proven = False
    """It has proven a key."""
    proof: ListeningProof | None = None
    """Ours, while there is one to be heard."""
    reply = b""
    """To its challenge."""
    peer_address = ""
    origin: _Network | None = None
    """Where it comes from, as far as connections are counted."""
    _unheard_bytes = 0
    """Of its request, then of its first message, while that is not whole."""
    _pki_key: SharedKey | None = None
    """What it proves, where its certificate says who it is."""
    _has_spoken = False
    """It has sent that message whole, or need not send one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`: TCP stands, and nothing else."""
        self.peer_address = str((transport.get_extra_info("peername") or ("",))[0])
        self.origin = _origin(self.peer_address)
        if self.gate.context is not None:
            check = self._check_peer if self.gate.pki else None
            transport = self.secured(transport, Tls(self.gate.context, check=check))
        super().connection_made(transport)
        if not self.gate.enter(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gate.guests.discard(self)
        super().connection_lost(exc)

    def give_up(self, error: AuthenticationError | TransportClosed) -> None:
        """TLS has failed; of a certificate that is not good our own side is told."""
        super().give_up(error)
        if isinstance(error, AuthenticationError):
            cast("TlsTransport", self.transport).flush()  # the alert: of a session nothing was said
            self.gate.tell(self, error)

    def _check_peer(self, tls: ssl.SSLObject) -> None:
        pki = self.gate.pki
        assert pki is not None  # it is asked for with one only
        name = check_peer(dict(tls.getpeercert() or {}), pki.peers)
        dialler = hash_certificate(tls.getpeercert(binary_form=True) or b"")
        self._pki_key = pki_key(name, dialler, pki.own)

    async def handshake(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401  (passed on)
        """TLS, and then the WebSocket's own handshake; the library holds both to one time."""
        await self.until_secured()
        await super().handshake(*args, **settings)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._unheard_bytes += len(data)
        super().data_received(data)
        if self._has_spoken:
            return
        most_bytes = MAX_REQUEST_BYTES if self.request is None else MAX_FIRST_BYTES
        if self._unheard_bytes > most_bytes:
            self.transport.abort()

    def send_data(self) -> None:
        """What the library has to say, an error included, is for those who know a key only."""
        if self.gate.credentials is None or self.proof is not None:
            super().send_data()
        elif self.protocol.data_to_send():
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """The request first, then frames."""
        if isinstance(event, Request) and not self._is_known(event):
            return
        super().process_event(event)
        if isinstance(event, Request):
            self._unheard_bytes = 0
            self._has_spoken = self.proof is None
        elif isinstance(event, Frame) and event.opcode in DATA_OPCODES and event.fin:
            self._has_spoken = True

    def _is_known(self, request: Request) -> bool:
        credentials = self.gate.credentials
        if credentials is None:
            return True
        nonce = secrets.token_bytes(NONCE_BYTES)
        keys = credentials.keys if self._pki_key is None else (self._pki_key,)
        proof = ListeningProof(keys, self.gate.binding, credentials.claim, nonce)
        try:
            asked = _challenge(request)
        except AuthenticationError as error:
            self.gate.refuse(self, error)
            return False
        try:
            self.reply = proof.reply(asked)
        except AuthenticationError as error:
            self.gate.refuse(self, error)
            self.gate.on_wrong_proof()
            return False
        self.proof = proof
        return True


def guest_of(door: Gate) -> type[Guest]:
    """The class of connections at a gate: the library makes them."""

    class Ours(Guest):
        gate = door

    return Ours


def _challenge(request: Request) -> bytes:
    """What a request carries for the proof."""
    values = request.headers.get_all(CHALLENGE_HEADER)
    if len(values) != 1 or len(values[0]) != 2 * CHALLENGE_BYTES:
        raise AuthenticationError("the peer does not know a key of this end: it names none")
    try:
        return bytes.fromhex(values[0])
    except ValueError as error:
        raise AuthenticationError("the peer's challenge is no hex") from error


def _origin(address: str) -> _Network | None:
    """What counts as one address: with IPv6 a /64, which one machine can use all of."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # not an address, such as a unix socket's
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        return ipaddress.IPv6Network((ip, 64), strict=False)
    return ipaddress.IPv4Network(ip)
