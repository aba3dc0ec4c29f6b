"""Addresses of listeners, and how far they may lead: in plaintext no further than this machine.

ws://127.0.0.1:8765                         plaintext, loopback only
wss://clinic:8765/#<64 hex digits>          TLS; the fragment is the pin, and never travels
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.transports.loopback import loopback_addresses
from shared.trust.identity import parse_pin

if TYPE_CHECKING:
    from shared.trust.credentials import Credentials

_EXAMPLE = "an address such as ws://127.0.0.1:8765 or wss://clinic:8765/#<64 hex digits>"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener is, as a user wrote it."""

    secure: bool
    host: str
    port: int
    shown: str
    """The address without its fragment: for sentences."""
    request: str
    """What is asked of the listener, once TLS stands: a ``ws://`` address."""
    pin: bytes | None
    """The hash that its certificate must have, if the address says it."""


def parse_address(url: str) -> Address:
    """An address, taken apart.

    Raises:
        SettingsError: anything else than ``ws://HOST:PORT`` or ``wss://HOST:PORT``, with or without
            a path, or a fragment that is no pin.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"expected {_EXAMPLE}: {error}") from error
    secure = parts.scheme == "wss"
    if parts.scheme not in ("ws", "wss") or not host or not port or "@" in parts.netloc:
        raise SettingsError(f"expected {_EXAMPLE}, got {url!r}")
    if parts.fragment and not secure:
        raise SettingsError(f"expected {_EXAMPLE}, got {url!r}: only wss:// has a hash behind it")
    return Address(
        secure,
        host,
        port,
        parts._replace(fragment="").geturl(),
        parts._replace(scheme="ws", fragment="").geturl(),
        parse_pin(parts.fragment) if parts.fragment else None,
    )


def pin_of(address: Address, credentials: Credentials | None) -> bytes:
    """The hash that the listener's certificate must have.

    Raises:
        SettingsError: nobody says it, or address and credentials say two.
    """
    told = (address.pin, credentials.pin if credentials else None)
    pins = {pin for pin in told if pin is not None}
    if len(pins) > 1:
        raise SettingsError(f"{address.shown}: its hash and --pin are not the same")
    if not pins:
        raise SettingsError(
            f"{address.shown}: its certificate's hash is missing; take the whole address that the "
            f"listening end printed, {address.shown.rstrip('/')}/#<64 hex digits>, or give --pin"
        )
    return pins.pop()


def parse_place(text: str, flag: str = "--listen") -> tuple[str, int]:
    """Host and port of a flag.

    Raises:
        SettingsError: it is not ``HOST:PORT``.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise SettingsError(f"{flag} {text}: HOST:PORT expected, such as 127.0.0.1:8765")
    return host.strip("[]") or "127.0.0.1", int(port)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the order in which the machine would try them.

    Raises:
        OSError: it has none, or nobody says so now.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def listening_address(host: str, port: int, *, secure: bool) -> str:
    """Where to listen: anywhere with TLS, else on loopback.

    Raises:
        SettingsError: it may not be listened there, or there is no such address.
    """
    if not secure:
        return (await loopback_addresses(host))[0]
    try:
        return (await resolve(host, port))[0]
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}: {error.strerror}") from error


def listening_url(address: str, port: int, *, secure: bool, pin: bytes | None = None) -> str:
    """What to dial to get to a listener: with the machine's name where it listens on all of it."""
    host = f"[{address}]" if ":" in address else address
    if address in ("0.0.0.0", "::"):
        host = socket.gethostname()
    if not secure:
        return f"ws://{host}:{port}"
    if pin is None:  # a name of the authority's says enough
        return f"wss://{host}:{port}/"
    return f"wss://{host}:{port}/#{pin.hex()}"
