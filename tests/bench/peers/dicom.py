"""DICOM C-STORE by dcmtk: ``storescu`` at the site, ``storescp`` at the clinic."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread

from tests.bench.peers.base import Stopwatch, ended, run_within
from tests.bench.peers.course import Piece
from tests.bench.peers.instances import write_jpeg2000, write_jpegls, write_raw
from tests.bench.peers.tools import tool
from tests.emulator.relayed import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.peers.scan import Scan
    from tests.emulator.relayed import AnyLink

_SETTLE_S = 1.0


class StoreScu:
    """Instances one after the other over one association, as they are on disk.

    Debian's dcmtk leaves Nagle's algorithm on, which makes each instance wait for a delayed
    acknowledgement; a site that knows sets TCP_NODELAY=1 in the environment.
    """

    def __init__(
        self, name: str, form: str, proposal: tuple[str, ...], *, nodelay: bool = False
    ) -> None:
        """``form`` is raw, jpeg2000 or jpegls; ``proposal`` has storescu propose it."""
        self.name = name
        self._form = form
        self._proposal = proposal
        self._environment = ["env", "TCP_NODELAY=1"] if nodelay else []

    def prepare(self, scan: Scan, folder: Path) -> None:
        """See `Peer`."""
        tool("storescu"), tool("storescp")
        if self._form == "jpeg2000":
            write_jpeg2000(scan, folder / "in")
        elif self._form == "jpegls":
            write_jpegls(write_raw(scan, folder / "raw"), folder / "in")
        else:
            write_raw(scan, folder / "in")

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """See `Peer`."""
        out, port = folder / "out", free_port()
        out.mkdir()
        accept = [*self._environment, tool("storescp"), "+xa", "-od", out, port]
        with ended(link.clinic.popen(accept)):
            time.sleep(_SETTLE_S)
            host, through = link.reach(port)
            files = sorted((folder / "in").iterdir())
            watch = Stopwatch()
            send = [*self._environment, tool("storescu"), *self._proposal, "-R", host, through]
            run_within(limit_s, link.site, [*send, *files])
            return stored_pieces(out, watch)


def stored_pieces(folder: Path, watch: Stopwatch) -> list[Piece]:
    """What DICOM files below a folder show, each when it was written last."""
    pieces = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.stat().st_size < 132 or not _is_dicom(path):
            continue
        instance = dcmread(path)
        if "PixelData" not in instance:
            continue
        expected = instance.Rows * instance.Columns * 2
        if not instance["PixelData"].is_undefined_length and len(instance.PixelData) < expected:
            continue  # not all of it has come
        plane = np.asarray(instance.pixel_array)
        z = int(instance.InstanceNumber) - 1
        pieces.append(Piece(watch.of_file(path), path.stat().st_size, {z: plane}))
    return pieces


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
