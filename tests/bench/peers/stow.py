"""STOW-RS (PS3.18, section 10.5) to Orthanc, as its own DICOMweb client sends: ten a request."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.peers.base import Stopwatch, ended, run_within
from tests.bench.peers.dicom import stored_pieces
from tests.bench.peers.instances import write_raw
from tests.bench.peers.tools import PeerMissing, tool
from tests.emulator.relayed import free_port

if TYPE_CHECKING:
    from tests.bench.peers.course import Piece
    from tests.bench.peers.scan import Scan
    from tests.emulator.relayed import AnyLink

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_IN_A_REQUEST = 10
"""Orthanc's own default (StowMaxInstances)."""
_BOUNDARY = "medroi-bench"
_START_S = 30.0


class Stow:
    """Raw instances in POSTs over one kept connection, in plain HTTP, which is in its favour."""

    name = "STOW-RS to Orthanc, raw"

    def prepare(self, scan: Scan, folder: Path) -> None:
        """See `Peer`."""
        tool("Orthanc"), tool("curl")
        if not _PLUGIN.is_file():
            raise PeerMissing("Orthanc's DICOMweb plugin is not on this machine")
        (folder / "in").mkdir()
        files = write_raw(scan, folder / "raw")
        for start in range(0, len(files), _IN_A_REQUEST):
            body = b"".join(
                f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
                + path.read_bytes()
                + b"\r\n"
                for path in files[start : start + _IN_A_REQUEST]
            )
            (folder / "in" / f"{start:04}").write_bytes(body + f"--{_BOUNDARY}--\r\n".encode())

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """See `Peer`."""
        port, store = free_port(), folder / "store"
        (folder / "orthanc.json").write_text(
            json.dumps(
                {
                    "Name": "bench",
                    "StorageDirectory": str(store),
                    "IndexDirectory": str(store),
                    "HttpPort": port,
                    "DicomServerEnabled": False,
                    "RemoteAccessAllowed": True,
                    "AuthenticationEnabled": False,
                    "Locale": "C.UTF-8",
                    "Plugins": [str(_PLUGIN)],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )
        serve = [tool("Orthanc"), folder / "orthanc.json"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with ended(link.clinic.popen(serve, **quiet)):
            _await_answer(link, f"http://127.0.0.1:{port}/system")
            host, through = link.reach(port)
            url = f"http://{host}:{through}/dicom-web/studies"
            media = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
            posts: list[object] = []
            for body in sorted((folder / "in").iterdir()):
                posts += ["--next"] if posts else []
                posts += ["-sSf", "-o", "/dev/null", "-H", f"Content-Type: {media}"]
                posts += ["-H", "Expect:", "--data-binary", f"@{body}", url]
            watch = Stopwatch()
            run_within(limit_s, link.site, [tool("curl"), *posts])
            return stored_pieces(store, watch)


def _await_answer(link: AnyLink, url: str) -> None:
    deadline_s = time.monotonic() + _START_S
    ask = [tool("curl"), "-sf", "-o", "/dev/null", url]
    while link.clinic.run(ask).returncode != 0:
        if time.monotonic() > deadline_s:
            raise PeerMissing(f"Orthanc did not start within {_START_S:.0f} s")
        time.sleep(0.2)
