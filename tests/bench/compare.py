"""medroi and what a site would use instead: the same scan, link and machine, in one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.link import parse_link
from tests.bench.peers import medroi
from tests.bench.peers.course import Outcome, judge
from tests.bench.peers.registry import PEERS
from tests.bench.peers.tools import PeerMissing
from tests.emulator.relayed import best_link

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.peers.base import Peer
    from tests.bench.peers.scan import Scan

PEERS_AT_ONCE = 4
PEERS_AT_ONCE_BPS = 50e6
"""Peers that wait for a thin link need no core of their own: so many run side by side, each over a
link of its own, as long as their rates do not add up to more. medroi always runs alone."""
SLACK_S = 60.0
SLACK_FACTOR = 4.0
"""A peer may take so many times what its raw bytes take at the mean rate, and a minute more."""


@dataclass(frozen=True)
class Asked:
    """What is compared."""

    scan: Scan
    roi: str
    link: str
    runs: int
    """Of medroi; the median by time to ROI exact counts. Peers run once."""
    seed: int = 0
    congestion: str = ""
    """Of TCP in both namespaces; the machine's own if empty."""

    @property
    def limit_s(self) -> float:
        """For one transfer."""
        rate_bps = parse_link(self.link).rate_bps
        return SLACK_S + SLACK_FACTOR * self.scan.raw_bytes * 8 / rate_bps


@dataclass
class Compared:
    """All outcomes over one link."""

    link: str
    carried_by: str
    """``tun`` or ``relay``."""
    outcomes: list[Outcome]
    """medroi's first."""
    reports: list[dict[str, Any]]
    """Of the runs of medroi, as the sender left them."""

    def of(self, name: str) -> Outcome:
        """The outcome of that name."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)


class Prepared:
    """Every peer's forms of one scan, on disk. Use as a context manager."""

    def __init__(self, scan: Scan, peers: Iterable[Peer] = PEERS) -> None:
        self._scan = scan
        self._peers = tuple(peers)
        self.ready: list[tuple[Peer, Path, float]] = []
        """With the folder, and the seconds that it took."""
        self.missing: list[Outcome] = []

    def __enter__(self) -> Prepared:
        self._folder = tempfile.TemporaryDirectory(prefix="medroi-bench-")
        for place, peer in enumerate(self._peers):
            folder = Path(self._folder.name) / str(place)
            folder.mkdir()
            began_s = time.monotonic()
            try:
                peer.prepare(self._scan, folder)
            except PeerMissing as missing:
                self.missing.append(Outcome(peer.name, note=f"left out: {missing}"))
            else:
                self.ready.append((peer, folder, time.monotonic() - began_s))
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def compare(asked: Asked, prepared: Prepared) -> Compared:
    """Everybody over one link."""
    own, reports = _own(asked)
    at_once = int(PEERS_AT_ONCE_BPS / parse_link(asked.link).rate_bps)
    with ThreadPoolExecutor(max(1, min(PEERS_AT_ONCE, at_once))) as pool:
        others = list(pool.map(lambda ready: _peer(asked, *ready), prepared.ready))
    carried_by = best_link(asked.link).name
    return Compared(asked.link, carried_by, [own, *others, *prepared.missing], reports)


def _own(asked: Asked) -> tuple[Outcome, list[dict[str, Any]]]:
    """The median of so many runs of medroi, and what the sender said of each."""
    found = []
    for run in range(asked.runs):
        link = best_link(asked.link, seed=asked.seed + run, congestion=asked.congestion)
        with tempfile.TemporaryDirectory() as name:
            with link:
                outcome, report = medroi.transfer(
                    link, asked.scan, asked.roi, Path(name), asked.limit_s
                )
            _note_line(outcome, link.report)
            found.append((outcome, report))
    median_s = statistics.median_low(outcome.roi_exact_s or 0.0 for outcome, _ in found)
    chosen = next(outcome for outcome, _ in found if outcome.roi_exact_s == median_s)
    return chosen, [report for _, report in found]


def _peer(asked: Asked, peer: Peer, folder: Path, prepared_s: float) -> Outcome:
    link = best_link(asked.link, seed=asked.seed, congestion=asked.congestion)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "in").symlink_to(folder / "in")
        try:
            with link:
                pieces = peer.transfer(link, asked.scan, Path(name), asked.limit_s)
        except PeerMissing as missing:
            return Outcome(peer.name, note=f"left out: {missing}")
    outcome = judge(peer.name, asked.scan, pieces)
    outcome.prepared_s = prepared_s
    _note_line(outcome, link.report)
    if outcome.whole_exact_s is None:
        outcome.note = f"not done after {asked.limit_s:.0f} s"
    return outcome


def _note_line(outcome: Outcome, report: dict[str, Any]) -> None:
    """What the line counted, where it does."""
    if fates := report.get("to_clinic"):
        outcome.line_bytes = fates["carried_bytes"]
        outcome.line_late_ms = report["late_ms"]["mean"]
