"""What a way of sending is to the benchmark."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.bench.peers.course import Piece
    from tests.bench.peers.scan import Scan
    from tests.emulator.relayed import AnyLink, AnyPlace

_END_S = 5.0


class Peer(Protocol):
    """One way from a site to a clinic. Both methods raise `PeerMissing` where it is not here."""

    name: str

    def prepare(self, scan: Scan, folder: Path) -> None:
        """Put what will be sent into a folder of its own."""
        ...

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """Send what was prepared; what arrived, and when, since the sending command was started.

        What has not come within the limit is left out.
        """
        ...


class Stopwatch:
    """Seconds since it was made, and the same for the times that file systems note."""

    def __init__(self) -> None:
        self._began_s = time.time()

    def of_file(self, path: Path) -> float:
        """When a file was written last."""
        return path.stat().st_mtime - self._began_s

    def now_s(self) -> float:
        """Seconds since it was made."""
        return time.time() - self._began_s


def run_within(limit_s: float, place: AnyPlace, arguments: Sequence[object]) -> None:
    """Run a command, and no longer than that: what has come by then is what counts."""
    with suppress(subprocess.TimeoutExpired):
        place.run(arguments, timeout=limit_s, check=True)


@contextmanager
def ended(server: subprocess.Popen[str]) -> Iterator[None]:
    """A server of ours that is stopped at the end."""
    try:
        yield
    finally:
        server.terminate()
        try:
            server.wait(_END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
