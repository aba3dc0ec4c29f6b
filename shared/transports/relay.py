"""A relay that carries any TCP peers over a modelled link, on this machine and without root rights.

    near peer == TCP == Relay == TCP == far peer
    (connects)            |            (listens)
                    one Line each way

The kernel takes in a connection on loopback at once and bytes at any rate. So the relay models the
round trip of the handshake too, and stops reading while the modelled queue is full: that is the
back-pressure of a bottleneck. What the kernel takes in before the relay reads it comes on top of
that queue: `RECEIVE_BUFFER_BYTES`.

Times are as good as the event loop's timers, which count milliseconds, as long as the loop is not
held up: in a process that computes, the relay is late by what holds its loop.

Also a command: ``python -m shared.transports.relay --listen 127.0.0.1:0 --to HOST:PORT --link 3g``
prints its port and carries until it is stopped; with ``--udp`` it carries datagrams instead
(`shared.transports.datagram_relay`). SIGUSR1 resets every TCP connection.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING, Self

from shared.clock import LoopClock
from shared.errors import ExitCode, SettingsError
from shared.line import Line
from shared.link import LinkProfile, parse_link
from shared.transports.datagram_relay import DatagramRelay
from shared.transports.loopback import connect_first, loopback_addresses, new_socket
from shared.transports.relayed import RelayedConnection
from shared.transports.tasks import TaskOwner

if TYPE_CHECKING:
    from types import TracebackType

MAX_CONNECTIONS = 64
"""At the same time; one more is reset."""
RECEIVE_BUFFER_BYTES = 4 << 10
"""Asked of the kernel (SO_RCVBUF; Linux takes it twice), where its own choice on loopback would be
megabytes, seconds of a thin link. Measured: holds some 5 kB, and a link of up to 100 Mbit/s stays
full even so; at 1 Gbit/s it does from 16 kB on."""
RECEIVE_BUFFER_S = 0.005
"""Or so much of the rate, where that is more."""


class Relay:
    """Carries connections to ``port`` on to a target; both are on loopback.

    All connections share the line: one `Line` in each direction, which comes up with the first
    connection. Use as ``async with Relay(...) as relay``, entered and left by one task. Leaving
    breaks what is still open; an error of the relay itself comes as an `ExceptionGroup`.
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
        self._owner = TaskOwner()
        self._connections: dict[RelayedConnection, asyncio.Task[None] | None] = {}
        self._lines: tuple[Line, Line] | None = None
        self._resets: list[asyncio.TimerHandle] = []
        self.came_up_s: float | None = None
        """When the first connection came, on the loop's clock; None before it."""

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            SettingsError: an address that is not on loopback, or a port that cannot be had.
        """
        host, port = self._listen_on
        self._target_addresses = await loopback_addresses(self._target[0])
        address = (await loopback_addresses(host))[0]
        self._listener = new_socket(address)
        try:
            self._tune(self._listener)
            self._listener.bind((address, port))
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        self.port: int = self._listener.getsockname()[1]
        await self._owner.__aenter__()
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for timer in self._resets:
            timer.cancel()
        try:
            await self._owner.__aexit__(kind, error, traceback)
        finally:
            for connection in self._connections:  # those whose task never took its first step
                connection.close()

    def cut(self) -> None:
        """Reset every connection now, as a line that fails; new ones are taken in."""
        for connection, task in self._connections.items():
            connection.reset()
            if task:
                task.cancel()

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self._lines = self._lines or self._come_up()
        connection = RelayedConnection(near, *self._lines, self._clock)
        if len(self._connections) < MAX_CONNECTIONS:
            self._connections[connection] = self._owner.start(self._carry(connection))
        else:
            connection.reset()
            connection.close()

    def _come_up(self) -> tuple[Line, Line]:
        """Both directions of the line, whose time begins now."""
        loop, start_s = asyncio.get_running_loop(), self._clock.now_s()
        self.came_up_s = start_s
        self._resets += [
            loop.call_at(start_s + reset_s, self.cut) for reset_s in self._profile.resets_s
        ]
        up = Line(self._profile, 2 * self._seed, start_s=start_s)
        return up, Line(self._profile, 2 * self._seed + 1, start_s=start_s)

    async def _carry(self, connection: RelayedConnection) -> None:
        try:
            await connection.run(self._connect)
        finally:
            connection.close()
            del self._connections[connection]

    async def _connect(self) -> socket.socket:
        return await connect_first(self._target_addresses, self._target[1], self._tune)

    def _tune(self, sock: socket.socket) -> None:
        """Before it listens or connects: the window that is offered follows from the buffer, and
        what is taken in has both options from the listener.
        """
        rate_bytes = self._profile.rate_bps / 8 * RECEIVE_BUFFER_S
        buffer_bytes = max(RECEIVE_BUFFER_BYTES, round(rate_bytes))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise SettingsError(f"expected HOST:PORT, such as 127.0.0.1:11112, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _carry_until_stopped(options: argparse.Namespace) -> None:
    profile = parse_link(options.link)
    host, port = _parse_address(options.listen)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    target = _parse_address(options.to)
    made = DatagramRelay if options.udp else Relay
    async with made(*target, profile, seed=options.seed, host=host, port=port) as relay:
        if isinstance(relay, Relay):
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, relay.cut)
        print(relay.port, flush=True)
        await stopped.wait()


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.transports.relay",
        description="carry TCP connections, or datagrams, over a modelled link, on this machine",
    )
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="who to connect to")
    parser.add_argument("--udp", action="store_true", help="carry datagrams instead of TCP")
    parser.add_argument("--link", required=True, help="such as 3g, or rate=1M,rtt=100ms,loss=1%%")
    parser.add_argument("--seed", type=int, default=0, help="of the losses")
    try:
        asyncio.run(_carry_until_stopped(parser.parse_args()))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
