"""A real link between two network namespaces, as a context manager; root only.

    with TunLink("rate=1M,rtt=100ms,loss=1%") as link:
        link.clinic.popen(["storescp", "11112"])
        link.site.run(["storescu", link.clinic.address, "11112", ...])
    print(link.report)

`tests.emulator.wire` is the line. Whoever kills this process with its children unasked leaves
nothing behind: the line ends with its standard input, commands in the namespaces with the *thread*
that started them (PR_SET_PDEATHSIG), so start them in one that lives as long as they should.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands import command, environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOOLS = ("ip", "ss", "nsenter", "setpriv")
"""Of iproute2 and util-linux."""
_START_S = 20.0
_END_S = 10.0


def missing_for_tun() -> str | None:
    """Why this machine cannot have such a link; None if it can."""
    if os.geteuid() != 0:
        return "a TUN link needs root rights"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "this machine has no /dev/net/tun"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"this machine has no {', '.join(absent)}" if absent else None


@dataclass(frozen=True)
class Place:
    """One end of the link: a network namespace, and how it is reached from the other end."""

    address: str
    plain_address: str
    """A loopback address that goes over the link too: for what keeps to loopback, being in
    plaintext."""
    namespace: str

    def command(self, arguments: Sequence[object]) -> list[str]:
        """A command line that runs another one in here."""
        inside = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.namespace}"]
        return [*inside, *map(str, arguments)]

    def popen(self, arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:
        """Start a command in here; the options are `subprocess.Popen`'s."""
        return subprocess.Popen(self.command(arguments), text=True, env=environment(), **options)

    def run(self, arguments: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in here to its end; the options are `subprocess.run`'s."""
        return subprocess.run(self.command(arguments), text=True, env=environment(), **options)


class TunLink:
    """Two namespaces, ``site`` and ``clinic``, and the line between them."""

    name = "tun"
    site: Place
    clinic: Place

    def __init__(self, link: str, *, seed: int = 0, congestion: str = "") -> None:
        """``link`` as `shared.link.parse_link` takes it; ``congestion`` of TCP in both namespaces,
        the machine's own if empty.
        """
        self._arguments = ["--link", link, "--seed", str(seed), "--congestion", congestion]
        self.report: dict[str, Any] = {}
        """What the line said at its end: what became of the packets, how late it was itself."""

    def __enter__(self) -> TunLink:
        """Make it.

        Raises:
            RuntimeError: the line could not be made; says why.
        """
        self._wire = subprocess.Popen(
            command("tests.emulator.wire", *self._arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._wire.stdout is not None
        said = self._wire.stdout.readline()
        if not said:
            _, complaint = self._wire.communicate(timeout=_END_S)
            raise RuntimeError(f"no TUN link: {complaint.strip()}")
        namespaces = json.loads(said)
        self.site, self.clinic = (
            Place(
                f"10.77.0.{number}",
                f"127.77.0.{number}",
                f"/proc/{self._wire.pid}/fd/{namespaces[name]}",
            )
            for number, name in ((1, "site"), (2, "clinic"))
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            said, complaint = self._wire.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._wire.kill()
            said, complaint = self._wire.communicate()
        self.report = json.loads(said) if said else {"fault": complaint.strip()}

    def reach(self, port: int, *, plain: bool = False, at_site: bool = False) -> tuple[str, int]:
        """Where the site finds what listens on a port of the clinic's address, or the reverse."""
        place = self.site if at_site else self.clinic
        return place.plain_address if plain else place.address, port

    @property
    def congestion(self) -> str:
        """What TCP has in the namespaces where a program asks for nothing."""
        file = "/proc/sys/net/ipv4/tcp_congestion_control"
        return self.site.run(["cat", file], capture_output=True, check=True).stdout.strip()


def names_left() -> set[str]:
    """Named namespaces and TUN devices of the machine itself: a link adds none."""
    named = Path("/run/netns")
    devices = {path.name for path in Path("/sys/class/net").iterdir() if "tun" in path.name}
    return devices | ({path.name for path in named.iterdir()} if named.is_dir() else set())
