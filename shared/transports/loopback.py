"""Addresses on this machine: as long as there is no TLS, nothing goes further in plaintext."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable


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
        if not _is_loopback(address):
            raise SettingsError(
                f"expected an address on this machine (127.0.0.1, ::1 or localhost), got {host}: "
                "plaintext does not go further, and TLS is not there yet"
            )
    return addresses


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def new_socket(address: str) -> socket.socket:
    """A TCP socket for a literal address, for use on the event loop."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setblocking(False)
    return sock


async def connect_first(
    addresses: list[str], port: int, tune: Callable[[socket.socket], None] = lambda _: None
) -> socket.socket:
    """A connection to the first of these addresses that takes one; ``tune`` sees it before that.

    Raises:
        OSError: none does; the last one's error.
    """
    refusal = OSError("no address")
    for address in addresses:
        sock = new_socket(address)
        try:
            tune(sock)
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except OSError as error:
            sock.close()
            refusal = error
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            return sock
    raise refusal
