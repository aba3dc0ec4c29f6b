"""Addresses on this machine: in plaintext nothing goes further."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

_NEXT_ADDRESS_S = 0.25
"""The RFC's recommended delay."""


async def loopback_addresses(host: str) -> list[str]:
    """The addresses of ``host``, each of them checked to be on loopback.

    127.0.0.0/8, ::1, or ``localhost`` with all that it resolves to. A caller uses the addresses,
    not the name again, so that what was checked is what is used.

    Raises:
        SettingsError: any other address or name.
    """
    if host == "localhost":
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, None, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise SettingsError(f"localhost has no address on this machine: {error}") from error
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    else:
        addresses = [host]
    for address in addresses:
        if not is_loopback(address):
            raise SettingsError(
                f"expected an address on this machine (127.0.0.1, ::1 or localhost), got {host}: "
                "plaintext does not go further, TLS with a shared key does (--key FILE)"
            )
    return addresses


def is_loopback(address: str) -> bool:
    """Whether a literal address is this machine's own; a name is none."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def new_socket(address: str) -> socket.socket:
    """A TCP socket for a literal address, for use on the event loop."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named. With it the request
    # behind a TLS handshake would wait for an acknowledgement, a round trip.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    return sock


async def connect_first(
    addresses: list[str], port: int, tune: Callable[[socket.socket], None] = lambda _: None
) -> socket.socket:
    """A connection to the first of these addresses that takes one; ``tune`` sees it before that.

    The next is tried when one refuses, or has not answered for a while (RFC 8305, section 5): a
    name may have an address that leads nowhere, as IPv6 does at many sites.

    Raises:
        OSError: none does; the last one's error.
    """
    waiting = list(addresses)
    opened: list[socket.socket] = []
    refusal = OSError("no address")
    try:
        async with asyncio.TaskGroup() as group:
            trying: set[asyncio.Task[OSError | None]] = set()
            while not opened and (waiting or trying):
                if waiting:
                    trying.add(
                        group.create_task(_connect(waiting.pop(0), port, tune, opened.append))
                    )
                tried, trying = await asyncio.wait(
                    trying,
                    timeout=_NEXT_ADDRESS_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in tried:
                    refusal = task.result() or refusal
            for task in trying:
                task.cancel()
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    if not opened:
        raise refusal
    for sock in opened[1:]:
        sock.close()
    return opened[0]


async def _connect(
    address: str,
    port: int,
    tune: Callable[[socket.socket], None],
    on_connected: Callable[[socket.socket], None],
) -> OSError | None:
    """Connect, or say what is in the way."""
    sock = new_socket(address)
    try:
        tune(sock)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except OSError as error:
        sock.close()
        return error
    except asyncio.CancelledError:
        sock.close()
        raise
    on_connected(sock)
    return None
