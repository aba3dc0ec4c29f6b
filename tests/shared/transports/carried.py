"""Raw sockets at both ends of a relay, for its tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.transports.relay import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.link import LinkProfile


@dataclass
class Carried:
    """A relay, who listens behind it, and the first connection."""

    relay: Relay
    listener: socket.socket
    near: socket.socket
    far: socket.socket
    connected_s: float
    """When the near end had its connection."""

    async def another(self) -> tuple[socket.socket, socket.socket]:
        return await connect(self.relay, self.listener)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def connect(relay: Relay, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    loop = asyncio.get_running_loop()
    near = socket.socket()
    near.setblocking(False)
    try:
        await loop.sock_connect(near, ("127.0.0.1", relay.port))
        far, _ = await loop.sock_accept(listener)
    except BaseException:
        near.close()
        raise
    return near, far


@contextlib.asynccontextmanager
async def carried(profile: LinkProfile, *, seed: int = 0) -> AsyncIterator[Carried]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        async with asyncio.timeout(20), Relay("127.0.0.1", port, profile, seed=seed) as relay:
            connected_s = now_s()
            near, far = await connect(relay, listener)
            with near, far:
                yield Carried(relay, listener, near, far, connected_s)


async def read_to_end(sock: socket.socket) -> list[tuple[float, int]]:
    """When how many bytes came, until the other end has sent its last."""
    arrivals: list[tuple[float, int]] = []
    while received := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
        arrivals.append((now_s(), len(received)))
    return arrivals


async def send_and_end(sock: socket.socket, content: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, content)
    sock.shutdown(socket.SHUT_WR)
