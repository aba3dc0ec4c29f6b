"""Both of medroi's ends over a named link, in three ways, and the course of it as rows.

`over_virtual`, `over_relay` and `over_tun` give the same `Simulated`; `tests.simulate` is the
command.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.errors import ExitCode, SettingsError
from shared.link import parse_link
from tests.commands import Receiver, command, environment
from tests.emulator.namespaces import TunLink, missing_for_tun

if TYPE_CHECKING:
    from shared.link import LinkProfile
    from tests.endtoend.virtual_transfer import Ended

_SETTLE_S = 1.0
"""A clinic's receiver has been waiting for a while: its decoders are warm."""
_SAMPLE_S = 0.02
_LINES = 1000
"""Connections a transfer in virtual time may use up: as many as it likes."""
_TITLES = {
    "connected": "connected",
    "roi_preview": "ROI preview",
    "roi_exact": "ROI exact",
    "whole_preview": "whole preview",
    "whole_exact": "whole exact",
}


@dataclass(frozen=True)
class Asked:
    """What to simulate."""

    study: Path
    roi: str
    volume: int | None
    link: str
    seed: int
    congestion: str = ""


@dataclass(frozen=True)
class Moment:
    """One row of the table."""

    at_s: float
    what: str
    sent_bytes: int | None
    roi_share: float | None
    whole_share: float | None


@dataclass
class Simulated:
    """What came of it."""

    mode: str
    link: str
    seed: int
    sender: dict[str, Any]
    """Its report (`shared.report`)."""
    receiver: dict[str, Any]
    line_up_s: float | None
    """When the line was first used, in the sender's time."""
    line: dict[str, Any] = field(default_factory=dict)
    """What the line itself counted, where it does."""

    @property
    def exact(self) -> bool:
        """Whether both ends say that every voxel is proven."""
        return bool(self.sender.get("exact") and self.receiver.get("exact"))

    def moments(self) -> list[Moment]:
        """Marks of the transfer and events of the line, in order."""
        times: dict[str, float | None] = self.sender.get("times_s", {})
        psnr: dict[str, float | None] = self.sender.get("psnr_db") or {}
        found = []
        for name, title in _TITLES.items():
            if (at_s := times.get(name)) is not None:
                quality = psnr.get(name)
                found.append((at_s, f"{title} ({quality:.1f} dB)" if quality else title))
        course: list[list[float]] = self.sender.get("course", [])
        last_s = max([at_s for at_s, _ in found] + [point[0] for point in course[-1:]], default=0.0)
        if self.line_up_s is not None:
            found += _events(parse_link(self.link), self.line_up_s, last_s)
        return [self._moment(at_s, what) for at_s, what in sorted(found)]

    def _moment(self, at_s: float, what: str) -> Moment:
        """With where the transfer stood then, or at the sender's next look at it."""
        course: list[list[float]] = self.sender.get("course", [])
        looks = [point for point in course if point[0] >= at_s] or course[-1:]
        if not looks:
            return Moment(at_s, what, None, None, None)
        _, roi, whole, sent = looks[0]
        return Moment(at_s, what, int(sent), roi, whole)


def _events(profile: LinkProfile, up_s: float, last_s: float) -> list[tuple[float, str]]:
    """What befell the line until the transfer ended."""
    events = [(up_s + at_s, "the line resets") for at_s in profile.resets_s]
    for outage in profile.outages:
        events.append((up_s + outage.start_s, "the line goes away"))
        events.append((up_s + outage.stop_s, "the line is back"))
    return [event for event in events if event[0] <= last_s]


# -- virtual --------------------------------------------------------------------------------------


def over_virtual(asked: Asked) -> Simulated:
    """Both ends' sessions over a modelled line, in virtual time."""
    from sender.prepare import prepare_study
    from sender.settings import SendSettings
    from shared.timeline import Course
    from shared.transports.simulated import SimulatedLine
    from tests.endtoend.virtual_transfer import transfer
    from tests.virtual import run_virtual

    settings = SendSettings(roi=asked.roi).checked()
    study = prepare_study([asked.study], settings, series=None, volume=asked.volume)
    course = Course()

    async def watch(ended: Ended) -> None:
        while not ended.ended_s[0]:
            sent_bytes = ended.sender.sent_bytes
            course.note(ended.sent.now_s(), ended.sender.progress(), sent_bytes)
            await asyncio.sleep(_SAMPLE_S)

    async def run() -> Ended:
        line = SimulatedLine(parse_link(asked.link), asked.seed)
        return await transfer(study, Path(name), line, settings, meanwhile=watch, lines=_LINES)

    with tempfile.TemporaryDirectory() as name:
        ended = run_virtual(run())
        from receiver.report import receiver_report
        from sender.report import sender_report

        outcomes = [str(error) if error else "stored and verified" for error in ended.errors]
        codes = [error.exit_code if error else ExitCode.OK for error in ended.errors]
        sent = sender_report(
            ended.sender,
            study,
            ended.sent,
            course,
            asked.link,
            outcome=outcomes[0],
            exit_code=codes[0],
        )
        received = receiver_report(
            ended.receiver, ended.received, outcome=outcomes[1], exit_code=codes[1]
        )
    return Simulated(
        "virtual",
        asked.link,
        asked.seed,
        json.loads(sent.as_json()),
        json.loads(received.as_json()),
        line_up_s=0.0,
    )


# -- real processes -------------------------------------------------------------------------------


def over_relay(asked: Asked) -> Simulated:
    """Two processes on this machine, the relay between them in this one."""
    with tempfile.TemporaryDirectory() as name, Receiver(Path(name)) as receiver:
        time.sleep(_SETTLE_S)
        began_s, came_up_s = asyncio.run(_relayed(asked, receiver, Path(name)))
        return _gather("relay", asked, receiver, Path(name), came_up_s - began_s)


async def _relayed(asked: Asked, receiver: Receiver, folder: Path) -> tuple[float, float]:
    from shared.transports.relay import Relay

    parts = urlsplit(receiver.url)
    profile = parse_link(asked.link)
    async with Relay(parts.hostname or "", parts.port or 0, profile, seed=asked.seed) as relay:
        url = receiver.url.replace(parts.netloc, f"127.0.0.1:{relay.port}")
        began_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *_sending(asked, url, folder), env=environment()
        )
        await process.wait()
        return began_s, relay.came_up_s or began_s


def over_tun(asked: Asked) -> Simulated:
    """Two processes in namespaces of their own, the kernel's TCP over an emulated line.

    Raises:
        SettingsError: this machine cannot have one.
    """
    if reason := missing_for_tun():
        raise SettingsError(f"{reason}; MODE=relay needs none of it")
    link = TunLink(asked.link, seed=asked.seed, congestion=asked.congestion)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with link:
            clinic = link.clinic
            with Receiver(folder, host=clinic.plain_address, place=clinic.command) as receiver:
                time.sleep(_SETTLE_S)
                began_s = time.monotonic()
                link.site.run(_sending(asked, receiver.url, folder))
                simulated = _gather("tun", asked, receiver, folder, None)
        came_up_s = link.report.get("came_up_s")
        simulated.line_up_s = came_up_s - began_s if came_up_s else None
        simulated.line = link.report
    return simulated


def _sending(asked: Asked, url: str, folder: Path) -> list[str]:
    volume = [] if asked.volume is None else ["--volume", asked.volume]
    report = ["--report", folder / "send.json"]
    return command(
        "sender.cli", asked.study, "--to", url, "--roi", asked.roi, "--quiet", *volume, *report
    )


def _gather(
    mode: str, asked: Asked, receiver: Receiver, folder: Path, line_up_s: float | None
) -> Simulated:
    """Both reports; the receiver's is there when it has ended, or never."""
    sent = folder / "send.json"
    report: dict[str, Any] = json.loads(sent.read_text()) if sent.is_file() else {}
    if report.get("exact"):
        receiver.wait()
    received = receiver.report() if receiver.report_path.is_file() else {}
    return Simulated(mode, asked.link, asked.seed, report, received, line_up_s)
