"""Time to ROI and to the whole over 1 Mbit/s and 100 ms, and dcmtk's storescu over the same relay.

Every run is two real processes; times are the sender's own report, from the start of its process,
and end when the receiver's proof has come back.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.table import Row
from tests.commands import Receiver, command, environment, send

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = "rate=1M,rtt=100ms"
_SETTLE_S = 1.0
"""A clinic's receiver has been waiting for a while: its decoders are warm."""


def main_job_rows(data: Path, runs: int) -> list[Row]:
    """The figures of the main job (issue 2), each the median of so many runs."""
    return [*_brain(data, runs), *_against_storescu(data, runs)]


def transfers(study: Path, mask: Path, runs: int) -> list[dict[str, Any]]:
    """The sender's reports of so many transfers of a study."""
    reports = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name, Receiver(Path(name)) as receiver:
            time.sleep(_SETTLE_S)
            folder = Path(name)
            sent = send(receiver.url, study, "--roi", f"mask:{mask}", "--link", LINK, folder=folder)
            if sent.code != 0 or receiver.wait() != 0 or not receiver.report()["exact"]:
                raise RuntimeError(f"a transfer failed: {sent.stderr}")
            reports.append(sent.report)
    return reports


def _brain(data: Path, runs: int) -> Iterator[Row]:
    folder = data / "tumour" / "brats_unknown"
    reports = transfers(folder / "flair.nii.gz", folder / "truth.nii.gz", runs)
    times = [report["times_s"] for report in reports]
    roi_s = _median(t["roi_exact"] for t in times)
    yield Row(
        "brats_unknown: ROI exact", "within 4 s", _spread(t["roi_exact"] for t in times), roi_s <= 4
    )
    share = _median(
        (t["roi_exact"] - t["connected"]) / (t["whole_exact"] - t["connected"]) for t in times
    )
    yield Row(
        "  of the time to whole exact, from connected",
        "at most 0.333",
        f"{share:.3f}",
        share <= 1 / 3,
    )
    for name, least in (("roi_preview", 37.0), ("whole_preview", 40.0)):
        worst = min(report["psnr_db"][name] for report in reports)
        yield Row(f"  {name}", f"at least {least:g} dB", f"{worst:.2f} dB", worst >= least)
    over = max(_over_exact(report, "total") for report in reports)
    yield Row("  bytes over the exact layers alone", "within 6 %", f"{over:.1%}", over <= 0.06)
    wire = max(_over_exact(report, "wire") for report in reports)
    yield Row("  the same, all frames on the wire", "", f"{wire:.1%}")
    for name in ("connected", "roi_preview", "whole_preview", "whole_exact"):
        yield Row(f"  {name}", "", _spread(t[name] for t in times))


def _against_storescu(data: Path, runs: int) -> Iterator[Row]:
    study = data / "mr" / "dicom" / "brainix_flair"
    reports = transfers(study, data / "mr" / "dicom" / "brainix_flair_tumour_mask.nii.gz", runs)
    times = [report["times_s"] for report in reports]
    roi_s = _median(t["roi_exact"] for t in times)
    yield Row("brainix_flair: ROI exact", "", _spread(t["roi_exact"] for t in times))
    yield Row("  whole exact", "", _spread(t["whole_exact"] for t in times))
    storescu_s = time_storescu(study)
    if storescu_s is None:
        yield Row("  storescu", "", "left out: dcmtk is not on this machine")
        return
    yield Row("  storescu of the same series, same line", "", f"{storescu_s:.1f} s")
    ratio = storescu_s / roi_s
    yield Row("  ROI exact sooner than storescu", "at least 20 x", f"{ratio:.1f} x", ratio >= 20)


def time_storescu(study: Path) -> float | None:
    """Seconds that dcmtk's storescu takes for a folder, over the same relayed line."""
    # pynetdicom installs tools of the same names: dcmtk's own are Debian's.
    tools = [shutil.which(name, path="/usr/bin") for name in ("storescu", "storescp")]
    if None in tools:
        return None
    storescu, storescp = map(str, tools)
    with tempfile.TemporaryDirectory() as out:
        port = _free_port()
        taker = subprocess.Popen([storescp, "-od", out, str(port)])
        relay = subprocess.Popen(
            command(
                "shared.transports.relay",
                "--listen",
                "127.0.0.1:0",
                "--to",
                f"127.0.0.1:{port}",
                "--link",
                LINK,
            ),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            assert relay.stdout is not None
            through = relay.stdout.readline().strip().rpartition(":")[2]
            files = sorted(str(path) for path in study.iterdir())
            time.sleep(_SETTLE_S)
            start_s = time.monotonic()
            subprocess.run([storescu, "127.0.0.1", through, *files], check=True)
            taken_s = time.monotonic() - start_s
            if len(list(Path(out).iterdir())) != len(files):
                raise RuntimeError("storescp did not store every file")
            return taken_s
        finally:
            for process in (relay, taker):
                process.terminate()
                process.wait()
            assert relay.stdout is not None
            relay.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _over_exact(report: dict[str, Any], what: str) -> float:
    """What was sent over what the exact layers of the same regions take alone, less one."""
    sizes: dict[str, int] = report["bytes"]
    return sizes[what] / sum(size for name, size in sizes.items() if name.endswith("_exact")) - 1


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _spread(values: Iterator[float]) -> str:
    known = sorted(values)
    return f"{statistics.median(known):.2f} s ({known[0]:.2f}..{known[-1]:.2f})"
