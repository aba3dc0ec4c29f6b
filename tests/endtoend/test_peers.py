"""Other people's programs over our line: dcmtk's storescu and storescp through the relay."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.commands import command, environment

TOOLS = [shutil.which(name, path="/usr/bin") for name in ("storescu", "storescp")]


@pytest.mark.skipif(None in TOOLS, reason="dcmtk (storescu, storescp) is not on this machine")
def test_a_dicom_association_crosses_the_relay(tmp_path: Path) -> None:
    storescu, storescp = map(str, TOOLS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stored = tmp_path / "stored"
    stored.mkdir()
    taker = subprocess.Popen([storescp, "-od", str(stored), str(port)])
    link = ("--link", "rate=2M,rtt=60ms")
    to = ("--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{port}")
    relay = subprocess.Popen(
        command("shared.transports.relay", *to, *link),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert relay.stdout is not None
        through = relay.stdout.readline().strip().rpartition(":")[2]
        source = Path(str(get_testdata_file("CT_small.dcm")))
        time.sleep(0.5)
        start_s = time.monotonic()
        subprocess.run([storescu, "127.0.0.1", through, str(source)], check=True, timeout=30)
        taken_s = time.monotonic() - start_s
    finally:
        for process in (relay, taker):
            process.terminate()
            process.wait()
        assert relay.stdout is not None
        relay.stdout.close()
    (file,) = stored.iterdir()
    assert dcmread(file).PixelData == dcmread(source).PixelData
    assert taken_s > source.stat().st_size * 8 / 2e6 + 3 * 0.060, "it paid for rate and round trips"
