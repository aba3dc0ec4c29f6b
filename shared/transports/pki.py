"""TLS with a hospital's authority: contexts of both ends, and a dialler's connection.

The listener asks for a certificate and so does the dialler; what is wrong with one is found in the
handshake, before the WebSocket's request, and so before anything of a session.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers

from shared.transports.tls import SecuredConnection, Tls, bare_context
from shared.transports.websocket_gate import CHALLENGE_HEADER
from shared.trust.identity import hash_certificate
from shared.trust.pki import check_peer, load_into, pki_key
from shared.trust.proof import DiallingProof

if TYPE_CHECKING:
    import asyncio

    from websockets.datastructures import HeadersLike

    from shared.trust.pki import Pki
    from shared.trust.proof import Claim


class PkiConnection(SecuredConnection, ClientConnection):
    """A dialler's connection, which says nothing before the listener's certificate is verified."""

    context: ssl.SSLContext
    pki: Pki
    wanted: tuple[str, ...]
    claim: Claim
    nonce: bytes
    proof: DiallingProof | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`: TCP stands."""
        tls = Tls(self.context, dials=True, check=self._check)
        super().connection_made(self.secured(transport, tls))

    async def handshake(
        self,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = None,
    ) -> None:
        """TLS, then the WebSocket's own handshake with the challenge in its request."""
        await self.until_secured()
        tls = cast("Tls", self.tls)
        listener = hash_certificate(tls.peer_certificate())
        key = pki_key(self.wanted[0], self.pki.own, listener)
        self.proof = DiallingProof(key, listener, self.claim, self.nonce)
        headers = Headers(additional_headers or {})
        headers[CHALLENGE_HEADER] = self.proof.challenge.hex()
        await super().handshake(headers, user_agent_header)

    def _check(self, tls: ssl.SSLObject) -> None:
        check_peer(dict(tls.getpeercert() or {}), self.wanted)


def pki_connection(used: Pki, host: str, ours: Claim, fresh: bytes) -> type[PkiConnection]:
    """The class of connections to a host of the authority's: the library makes one of it.

    Raises:
        SettingsError: the files do not fit each other.
    """
    made = bare_context(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False  # `check_peer` does, without telling the name on the wire (SNI)
    load_into(made, used)

    class Ours(PkiConnection):
        context = made
        pki = used
        wanted = used.peers or (host,)
        claim = ours
        nonce = fresh

    return Ours
