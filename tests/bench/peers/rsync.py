"""rsync of the instances' folder to a daemon at the clinic, compressed on the way (``-z``)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.peers.base import Stopwatch, ended, run_within
from tests.bench.peers.dicom import stored_pieces
from tests.bench.peers.instances import write_raw
from tests.bench.peers.tools import tool
from tests.emulator.relayed import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.peers.course import Piece
    from tests.bench.peers.scan import Scan
    from tests.emulator.relayed import AnyLink

_SETTLE_S = 0.5


class Rsync:
    """Without SSH, which is in its favour."""

    name = "rsync -z of the instances"

    def prepare(self, scan: Scan, folder: Path) -> None:
        """See `Peer`."""
        tool("rsync")
        write_raw(scan, folder / "in")

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """See `Peer`."""
        out, port, config = folder / "out", free_port(), folder / "rsyncd.conf"
        out.mkdir()
        config.write_text(
            f"use chroot = no\nuid = {out.stat().st_uid}\n[in]\npath = {out}\nread only = no\n"
        )
        serve = [tool("rsync"), "--daemon", "--no-detach", f"--config={config}", f"--port={port}"]
        with ended(link.clinic.popen(serve)):
            time.sleep(_SETTLE_S)
            host, through = link.reach(port)
            watch = Stopwatch()
            send = [tool("rsync"), "-rz", f"{folder / 'in'}/", f"rsync://{host}:{through}/in/"]
            run_within(limit_s, link.site, send)
            return stored_pieces(out, watch)
