"""A relay that carries datagrams over a modelled link, on this machine and without root rights.

    near peers == UDP == DatagramRelay == UDP == far peer

Each near address has a socket of its own towards the far peer, as behind a NAT, so that answers
find their way back and a far peer sees several near ones apart. WebRTC goes through it when each
end is told the relay's address in place of its peer's candidates: aioice takes it for a peer's
reflexive address. Since aioice ignores 127.0.0.1, any address of this machine may be used; nothing
is sent beyond it.

A datagram counts with its headers, as it would on a line. What the kernel takes in while the event
loop is held up waits in `RECEIVE_BUFFER_BYTES`; the queue that drops is the model's.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Self

from shared.clock import LoopClock
from shared.errors import SettingsError
from shared.line import Line
from shared.line_datagrams import LineDatagrams

if TYPE_CHECKING:
    from types import TracebackType

    from shared.line_datagrams import Fates
    from shared.link import LinkProfile

HEADERS_BYTES = 28
"""IPv4 and UDP."""
MAX_DATAGRAM_BYTES = 65_535
MAX_PEERS = 64
"""Near addresses; what one more sends is dropped."""
RECEIVE_BUFFER_BYTES = 1 << 20
"""Asked of the kernel (SO_RCVBUF)."""
READ_AT_ONCE = 64
"""Datagrams taken from one socket before others have their turn."""

_Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Way:
    """Where a datagram goes: out of a socket, to an address."""

    sock: socket.socket
    address: _Address


class DatagramRelay:
    """Carries datagrams for ``port`` on to a target; both are on this machine (IPv4).

    The line comes up with the first datagram. Use as ``async with DatagramRelay(...) as relay``.
    What is under way when it is left is gone. A reset is nothing to a datagram.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        profile: LinkProfile,
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._target = target_host, target_port
        self._listen_on = host, port
        self._profile = profile
        self._seed = seed
        self._clock = LoopClock()
        self._up: LineDatagrams | None = None
        self._down: LineDatagrams | None = None
        self._far_sockets: dict[_Address, socket.socket] = {}
        self._under_way: list[tuple[float, int, bytes, _Way]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            SettingsError: an address that is not this machine's, or a port that cannot be had.
        """
        with _bound(self._target[0], 0) as probe:  # only an address of this machine can be bound
            self._target = probe.getsockname()[0], self._target[1]
        self._near_socket = _bound(*self._listen_on)
        self.port: int = self._near_socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._near_socket, self._from_near)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer:
            self._timer.cancel()
        for sock in (self._near_socket, *self._far_sockets.values()):
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    @property
    def fates(self) -> tuple[Fates, Fates] | None:
        """What has become of the datagrams, towards the target and back; None before the first."""
        return (self._up.fates, self._down.fates) if self._up and self._down else None

    def _from_near(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                datagram, peer = self._near_socket.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            if peer not in self._far_sockets:
                if len(self._far_sockets) == MAX_PEERS:
                    continue
                self._far_sockets[peer] = self._new_far_socket(peer)
            self._come_up()
            self._hand_over(self._up, datagram, _Way(self._far_sockets[peer], self._target))

    def _from_far(self, sock: socket.socket, peer: _Address) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                datagram, sender = sock.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:  # nothing more, or the target's port is closed (ICMP)
                return
            if sender == self._target:
                self._hand_over(self._down, datagram, _Way(self._near_socket, peer))

    def _new_far_socket(self, peer: _Address) -> socket.socket:
        sock = _bound(self._target[0], 0)
        asyncio.get_running_loop().add_reader(sock, self._from_far, sock, peer)
        return sock

    def _come_up(self) -> None:
        if self._up is None:
            start_s = self._clock.now_s()
            self._up, self._down = (
                LineDatagrams(Line(self._profile, 2 * self._seed + way, start_s=start_s))
                for way in (0, 1)
            )

    def _hand_over(self, line: LineDatagrams | None, datagram: bytes, way: _Way) -> None:
        assert line is not None  # the first datagram comes from near
        for arrives_s in line.arrivals_s(self._clock.now_s(), len(datagram) + HEADERS_BYTES):
            heapq.heappush(self._under_way, (arrives_s, next(self._order), datagram, way))
        self._await_arrival()

    def _await_arrival(self) -> None:
        if not self._under_way:
            return
        due_s = self._under_way[0][0]
        if self._timer and self._timer_s > due_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer_s = due_s
            self._timer = asyncio.get_running_loop().call_at(due_s, self._arrive)

    def _arrive(self) -> None:
        """Let out what is due. A loop may call early by part of its resolution."""
        self._timer = None
        now_s = self._clock.now_s()
        while self._under_way and self._under_way[0][0] <= now_s:
            _, _, datagram, way = heapq.heappop(self._under_way)
            with suppress(OSError):  # a full buffer, or a peer that is gone: datagrams get lost
                way.sock.sendto(datagram, way.address)
        self._await_arrival()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise SettingsError(
            f"cannot use {host}:{port}, expected an IPv4 address of this machine: {error.strerror}"
        ) from error
    if ipaddress.ip_address(sock.getsockname()[0]).is_unspecified:
        sock.close()
        raise SettingsError(f"expected one address of this machine, got {host!r}")
    return sock
