"""The userspace relay with the face of a `TunLink`: for machines without root rights.

Both places are this machine, and who wants to be reached over the line is reached through a relay
of its own. The kernel's TCP sees no loss here; what is lost is late (`shared.line_stream`).
"""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

from tests.commands import command, environment, here
from tests.emulator.namespaces import TunLink, missing_for_tun

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_S = 10.0


class AnyPlace(Protocol):
    """One end of a link: where commands are run, and under which addresses they listen."""

    @property
    def address(self) -> str:
        """Where a server listens."""
        ...

    @property
    def plain_address(self) -> str:
        """Where one listens that keeps to loopback addresses."""
        ...

    def command(self, arguments: Sequence[object]) -> list[str]:
        """A command line that runs another one in here."""
        ...

    def popen(self, arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:
        """Start a command in here."""
        ...

    def run(self, arguments: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in here to its end."""
        ...


class AnyLink(Protocol):
    """A link between a site and a clinic. Use as a context manager."""

    name: str
    """What carries it: for tables."""
    report: dict[str, Any]

    @property
    def site(self) -> AnyPlace: ...

    @property
    def clinic(self) -> AnyPlace: ...

    def __enter__(self) -> AnyLink: ...

    def __exit__(self, *_: object) -> None: ...

    def reach(self, port: int, *, plain: bool = False, at_site: bool = False) -> tuple[str, int]:
        """Where the site finds what listens on a port of the clinic's address, or the reverse."""
        ...


class _Here:
    address = plain_address = "127.0.0.1"

    def command(self, arguments: Sequence[object]) -> list[str]:
        return here(arguments)

    def popen(self, arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(here(arguments), text=True, env=environment(), **options)

    def run(self, arguments: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(here(arguments), text=True, env=environment(), **options)


class RelayLink:
    """Two places that are one, and relays between them."""

    name = "relay"

    def __init__(self, link: str, *, seed: int = 0) -> None:
        """``link`` as `shared.link.parse_link` takes it."""
        self._link = link
        self._seed = seed
        self._relays: list[subprocess.Popen[str]] = []
        self.site = self.clinic = _Here()
        self.report: dict[str, Any] = {}

    def __enter__(self) -> RelayLink:
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self._relays:
            relay.send_signal(signal.SIGTERM)
        for relay in self._relays:
            relay.communicate(timeout=_END_S)

    def reach(self, port: int, *, plain: bool = False, at_site: bool = False) -> tuple[str, int]:
        """See `AnyLink`."""
        to = ["--to", f"127.0.0.1:{port}", "--link", self._link, "--seed", self._seed]
        relay = self.site.popen(command("shared.transports.relay", *to), stdout=subprocess.PIPE)
        self._relays.append(relay)
        assert relay.stdout is not None
        return "127.0.0.1", int(relay.stdout.readline())


def best_link(link: str, *, seed: int = 0, congestion: str = "") -> AnyLink:
    """A TUN link where this machine can have one, a relay elsewhere."""
    if missing_for_tun() is None:
        return TunLink(link, seed=seed, congestion=congestion)
    return RelayLink(link, seed=seed)


def free_port() -> int:
    """A port that nobody listens on here; in a namespace hardly anybody does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
