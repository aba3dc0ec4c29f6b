"""TLS under a WebSocket: 1.3 only, and the certificate is the pinned one or nothing is said.

    raw transport <== wire ==> Tls <== plaintext ==> the WebSocket library's connection

Every byte of the wire goes through `Tls`, from the first one on. The event loops' own TLS was tried
first: it lets a listener count no connection before its handshake is over, sends the dialler's last
message before anybody can look at the certificate, and keeps 64 KiB that nothing can overtake.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import ssl
from typing import TYPE_CHECKING, cast

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection

from shared.errors import AuthenticationError, SettingsError, TransportClosed
from shared.trust.identity import hash_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.datastructures import HeadersLike

    from shared.trust.identity import Identity

_CERTIFICATE_ALERT = re.compile("ALERT_(.*CERTIFICATE|UNKNOWN_CA)")
"""How OpenSSL names what a peer says of a certificate of ours (RFC 8446, section 6.2)."""
_RECORD_BYTES = 16 << 10
"""Plaintext of one record, at most (RFC 8446, section 5.1)."""


def listening_context(identity: Identity) -> ssl.SSLContext:
    """TLS for a listener with this identity.

    Raises:
        SettingsError: its file does not hold a key and the certificate of it.
    """
    context = bare_context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # no session is taken up again: the pin is compared every time
    try:
        context.load_cert_chain(identity.path)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"{identity.path}: no key that fits its certificate") from error
    return context


def dialling_context() -> ssl.SSLContext:
    """TLS for a dialler, who compares the certificate itself (`Tls`)."""
    context = bare_context(ssl.PROTOCOL_TLS_CLIENT)
    # The pin says which certificate, so no name, date or authority has anything to add. That the
    # peer has the certificate's key is proven all the same (RFC 8446, section 4.4.3).
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def bare_context(kind: int) -> ssl.SSLContext:
    """TLS 1.3 and nothing older, for an end that says itself whom it believes."""
    # Not `ssl.create_default_context`: that one writes session keys where SSLKEYLOGFILE points.
    context = ssl.SSLContext(kind)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    return context


class Tls:
    """TLS of one connection, sans-I/O: what it has for the wire waits in `data_to_send`."""

    def __init__(
        self,
        context: ssl.SSLContext,
        pin: bytes | None = None,
        *,
        dials: bool = False,
        check: Callable[[ssl.SSLObject], None] | None = None,
    ) -> None:
        """The dialler's end with a pin or ``dials``, the listener's without.

        ``check`` looks at a handshake that is over, and raises `AuthenticationError`.
        """
        self._pin = pin
        self._check = check
        dials = dials or pin is not None
        self._from_wire, self._to_wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_wire, self._to_wire, server_side=not dials)
        self.stands = False
        """The handshake is over, and the certificate is the pinned one."""
        self.has_ended = False
        """The peer has said that it sends no more."""
        if dials:
            self._shake_hands()

    def peer_certificate(self) -> bytes:
        """DER, once the handshake `stands`; empty where the peer showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def receive(self, content: bytes) -> bytes:
        """Take what came by the wire; the plaintext in it.

        Raises:
            AuthenticationError: the certificate is not the pinned one; since the first message
                nothing has been sent, and nothing may be.
            TransportClosed: it is no TLS 1.3, or was changed on the way. There may be an alert to
                send.
        """
        self._from_wire.write(content)
        try:
            if not self.stands:
                self._shake_hands()
            return self._read() if self.stands else b""
        except ssl.SSLCertVerificationError as error:
            raise AuthenticationError(
                f"its certificate is not good: {error.verify_message}; nothing was sent"
            ) from error
        except ssl.SSLError as error:
            reason = error.reason or "no reason given"
            if _CERTIFICATE_ALERT.search(reason):
                raise AuthenticationError(
                    f"the other end does not take our certificate ({reason})"
                ) from error
            raise TransportClosed(f"it does not speak TLS 1.3 with us ({reason})") from error

    def send(self, plaintext: bytes | bytearray | memoryview) -> None:
        """Encrypt; only once the handshake `stands`."""
        rest = memoryview(plaintext)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def end(self) -> None:
        """Say that no more is sent."""
        if self.stands:
            try:
                self._tls.unwrap()
            except ssl.SSLError:  # the peer's own end is not waited for
                return

    def data_to_send(self) -> bytes:
        """What is to go by the wire now."""
        return self._to_wire.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        if self._pin is not None and not hmac.compare_digest(
            hash_certificate(self.peer_certificate()), self._pin
        ):
            raise AuthenticationError(
                "its certificate is not the one that its address names; nothing was sent"
            )
        if self._check is not None:
            self._check(self._tls)
        self.stands = True

    def _read(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_RECORD_BYTES):
                parts.append(part)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the same, after an end of our own
            self.has_ended = True
        return b"".join(parts)


class TlsTransport(asyncio.Transport):
    """What the library writes to. What it reads comes by `SecuredConnection`."""

    def __init__(self, raw: asyncio.Transport, tls: Tls) -> None:
        super().__init__()
        self._raw = raw
        self._tls = tls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport`; what comes after a close is dropped, as sockets do."""
        if not self._raw.is_closing():
            self._tls.send(data)
            self.flush()

    def flush(self) -> None:
        """Hand over what TLS has for the wire."""
        if waiting := self._tls.data_to_send():
            self._raw.write(waiting)

    def can_write_eof(self) -> bool:
        """No: TLS has an end of its own."""
        return False

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        if not self._raw.is_closing():
            self._tls.end()
            self.flush()
            self._raw.close()

    def abort(self) -> None:
        """See `asyncio.WriteTransport`."""
        self._raw.abort()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport`; TLS itself keeps nothing back."""
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """See `asyncio.BaseTransport`."""
        return self._raw.get_extra_info(name, default)


class SecuredConnection(Connection):
    """A connection of the library's that may have TLS under it."""

    tls: Tls | None = None
    _handshake: asyncio.Future[None]
    """Over, for better or worse."""
    _tls_error: AuthenticationError | TransportClosed | None = None

    def secured(self, raw: asyncio.BaseTransport, tls: Tls) -> TlsTransport:
        """The transport to give to the library's `connection_made`."""
        self.tls = tls
        self._handshake = self.loop.create_future()
        transport = TlsTransport(cast("asyncio.Transport", raw), tls)
        transport.flush()
        return transport

    async def until_secured(self) -> None:
        """Wait for the handshake; at once where there is none.

        Raises:
            AuthenticationError: the peer's certificate is not the pinned one. Nothing has been sent
                but the handshake's first message.
            TransportClosed: the peer speaks no TLS 1.3, or is gone.
        """
        if self.tls is None:
            return
        await asyncio.wait([self._handshake])
        if self._tls_error is not None:
            raise self._tls_error
        if not self.tls.stands:
            raise TransportClosed("it hung up in the TLS handshake")

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`: from the wire."""
        if self.tls is None:
            super().data_received(data)
            return
        try:
            plaintext = self.tls.receive(data)
        except AuthenticationError as error:
            self.give_up(error)
            self.transport.abort()
            return
        except TransportClosed as error:
            self.give_up(error)
            self.transport.close()  # behind the alert that says why
            return
        cast("TlsTransport", self.transport).flush()
        if self.tls.stands:
            self._end_handshake()
        if plaintext:
            super().data_received(plaintext)
        if self.tls.has_ended:
            self.eof_received()
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self.tls is not None:
            self._end_handshake()
        super().connection_lost(exc)

    def give_up(self, error: AuthenticationError | TransportClosed) -> None:
        """No TLS will stand: why is what `until_secured` raises."""
        self._tls_error = error
        self.set_connection_exc(error)
        self._end_handshake()

    def _end_handshake(self) -> None:
        if not self._handshake.done():
            self._handshake.set_result(None)


class PinnedConnection(SecuredConnection, ClientConnection):
    """A dialler's connection, which compares the pin before it says anything."""

    context: ssl.SSLContext
    pin: bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`: TCP stands."""
        super().connection_made(self.secured(transport, Tls(self.context, self.pin)))

    async def handshake(
        self,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = None,
    ) -> None:
        """TLS, the pin, and then the WebSocket's own handshake."""
        await self.until_secured()
        await super().handshake(additional_headers, user_agent_header)


def pinned_connection(wanted: bytes) -> type[ClientConnection]:
    """The class of connections to a listener with this pin: the library makes one of it."""

    class Pinned(PinnedConnection):
        context = dialling_context()
        pin = wanted

    return Pinned
