"""Goodput, and what an urgent kilobyte costs behind bulk, over the kernel's TCP and a real line.

    python -m tests.bench.goodput [--all] [--outages] [--transport websocket] [--seconds 20]

Every row is two processes in namespaces of their own (root; elsewhere only the rows without loss,
over the relay, whose TCP is not the line's). Goodput is the content of fragments as a part of the
line's rate; headers of IP and TCP alone take 5 %, and a lost packet has spent its time on the line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from shared.link import parse_link
from shared.trace import OPPORTUNITY_BYTES
from tests.bench.probe import CARRIERS, Tally
from tests.bench.table import Row, publish, scans
from tests.commands import Receiver, command
from tests.emulator.namespaces import TunLink, missing_for_tun
from tests.emulator.relayed import RelayLink
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.trace import Trace
    from tests.emulator.relayed import AnyLink

WARM_UP_S = 3.0
"""Left out: the window opens, and the kernel finds the rate."""
_END_S = 30.0
_TRACE = "ATT-LTE-driving-2016.up"
_TRACE_S = 120.0
"""All of it."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    transport: str
    link: str
    congestion: str
    seconds: float
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.transport}, {self.congestion}, {self.link}"


def main() -> int:
    """Measure; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="CUBIC as well")
    parser.add_argument("--outages", action="store_true", help="5 s and 20 s, real commands")
    parser.add_argument("--transport", choices=tuple(CARRIERS), default="websocket")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    rows: list[Row] = []
    for congestion in ("bbr", "cubic") if options.all else ("bbr",):
        for mbps in (1, 5, 20):
            for loss in (0, 1, 3):
                link = f"rate={mbps}M,rtt=100ms,loss={loss}%"
                rows += cell_rows(Cell(options.transport, link, congestion, options.seconds))
    rows += trace_rows(options.transport)
    if options.outages:
        rows += [outage_row(seconds) for seconds in (5, 20)]
    title = f"Goodput over {'tun' if missing_for_tun() is None else 'the relay'}"
    name = f"goodput-{options.transport}"
    return 0 if publish(name, title, rows) else 1


def cell_rows(cell: Cell) -> Iterator[Row]:
    """Goodput and urgent latency of one cell, against what is asked of it."""
    reason = missing_for_tun()
    if reason and parse_link(cell.link).loss:
        yield Row(str(cell), "", f"left out: {reason}, and the relay's TCP sees no loss")
        return
    tally = measure(cell)
    profile = parse_link(cell.link)
    share = tally.goodput_bps(WARM_UP_S, cell.seconds - WARM_UP_S - 1) / profile.rate_bps
    least = _asked(cell, profile.loss)
    p50_s, p90_s = (tally.urgent_s(part, WARM_UP_S) for part in (0.5, 0.9))
    in_time = p50_s is not None and p90_s is not None and p50_s <= 0.1 and p90_s <= 0.2
    yield Row(
        f"{cell.transport}, {tally.congestion or cell.congestion}, {cell.link}: goodput",
        f"at least {least:.0%}" if least else "",
        f"{share:.1%}",
        share >= least if least else None,
    )
    asked = profile.rate_bps == 1e6 and not profile.loss
    yield Row(
        "  urgent 1 KB, p50 / p90",
        "100 / 200 ms" if asked else "",
        f"{_ms(p50_s)} / {_ms(p90_s)} ms",
        in_time if asked else None,
    )


def _asked(cell: Cell, loss: float) -> float:
    """The least share of the line's rate that issue 3 asks for; 0 where none is."""
    if cell.transport == "websocket":
        asked = 0.85 if loss > 0.02 else 0.9
        return asked if cell.congestion == "bbr" else 0.0
    return 0.8 if parse_link(cell.link).rate_bps > 10e6 else 0.85


def trace_rows(transport: str) -> Iterator[Row]:
    """A recorded uplink: as a part of what it could carry, in its first minute and in all of it.

    What it could carry from the first fragment on is told beside it: this recording has a fifth of
    its first minute in the first three seconds, and a second of silence in between.
    """
    data, name = scans(), f"{transport}, {_TRACE}"
    if data is None or missing_for_tun():
        yield Row(name, "", f"left out: {missing_for_tun() or 'the traces are not here'}")
        return
    link = f"trace:{data / 'traces' / 'mahimahi' / _TRACE},rtt=100ms,queue=150kB"
    tally = measure(Cell(transport, link, "bbr", _TRACE_S))
    profile = parse_link(link)
    assert profile.trace is not None
    zero_s = tally.came_up_s + profile.rtt_s / 2
    first_s = max(0.0, tally.bulk[0][0] - zero_s)
    for end_s in (60.0, _TRACE_S):
        came = sum(size for at_s, size in tally.bulk if at_s - zero_s <= end_s) * 8
        whole, behind = (_could_carry(profile.trace, start_s, end_s) for start_s in (0.0, first_s))
        yield Row(
            f"{name}, {end_s:.0f} s: share of what it could carry",
            "at least 85%",
            f"{came / whole:.1%} ({came / behind:.1%} from the first fragment, at {first_s:.1f} s)",
            came / whole >= 0.85,
        )
    p50_s, p90_s = (tally.urgent_s(part, 0.0) for part in (0.5, 0.9))
    good = p50_s is not None and p50_s <= 0.5
    yield Row("  urgent 1 KB, p50 / p90", "p50 500 ms", f"{_ms(p50_s)} / {_ms(p90_s)} ms", good)


def _could_carry(trace: Trace, start_s: float, end_s: float) -> int:
    """Bits that the line could carry from one time to another."""
    inside = (1000 * start_s <= time_ms <= 1000 * end_s for time_ms in trace.times_ms)
    return sum(inside) * OPPORTUNITY_BYTES * 8


def measure(cell: Cell) -> Tally:
    """One run of the probe.

    Raises:
        RuntimeError: an end did not say what it had to.
    """
    link: AnyLink
    if missing_for_tun() is None:
        link = TunLink(cell.link, seed=cell.seed)
    else:
        link = RelayLink(cell.link, seed=cell.seed)
    how = ["--transport", cell.transport]
    with link:
        host = ["--host", link.clinic.plain_address]
        receiving = link.clinic.popen(
            command("tests.bench.probe", "receive", *how, *host), stdout=subprocess.PIPE
        )
        with receiving:
            assert receiving.stdout is not None
            url = receiving.stdout.readline().strip()
            netloc = urlsplit(url).netloc
            near, port = link.reach(urlsplit(url).port or 0, plain=True)
            sending = link.site.run(
                command(
                    "tests.bench.probe",
                    "send",
                    url.replace(netloc, f"{near}:{port}"),
                    *how,
                    *("--seconds", cell.seconds, "--congestion", cell.congestion),
                ),
                stdout=subprocess.PIPE,
                timeout=cell.seconds + _END_S,
            )
            said, _ = receiving.communicate(timeout=_END_S)
    if not said or sending.returncode != 0:
        raise RuntimeError(f"{cell}: the probe failed")
    content = json.loads(said)
    return Tally(
        [(at_s, size) for at_s, size in content["bulk"]],
        [(asked_s, took_s) for asked_s, took_s in content["urgent"]],
        content["transport"],
        sending.stdout.strip(),
        link.report.get("came_up_s") or 0.0,
    )


def outage_row(seconds: int) -> Row:
    """Real commands, and a line that goes away: how long after its return data flows again."""
    name = f"outage of {seconds} s at 1 Mbit/s, 100 ms: data flows again after"
    if reason := missing_for_tun():
        return Row(name, "", f"left out: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "noise.nii"
        study.write_bytes(nifti(np.random.default_rng(0).integers(0, 4096, (24, 192, 192), "<i2")))
        link = TunLink(f"rate=1M,rtt=100ms,outage={seconds}s@3s")
        with link:
            clinic = link.clinic
            with Receiver(
                Path(folder) / "clinic", host=clinic.plain_address, place=clinic.command
            ) as receiver:
                time.sleep(1.0)
                sent = link.site.run(
                    command("sender.cli", study, "--to", receiver.url, "--quiet"), timeout=300
                )
    after_s = link.report["resumed_after_s"]
    if sent.returncode != 0 or not after_s:
        return Row(name, "within 1 s", "the transfer failed", good=False)
    return Row(name, "within 1 s", f"{after_s[0]:.2f} s", after_s[0] <= 1.0)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


if __name__ == "__main__":
    sys.exit(main())
