"""Whole transfers in virtual time: both real sessions, real codecs, real files, a modelled link."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from receiver.compose import GrowingVolume
from receiver.decode import InlineDecoder
from receiver.session import ReceivingSession
from receiver.visit import Visit
from receiver.watch import NoWatcher
from sender import layering
from sender.prepare import prepare_study
from sender.session import SendingSession
from sender.settings import SendSettings
from shared.clock import LoopClock
from shared.errors import MedroiError, TransportClosed
from shared.link import LinkProfile, parse_link
from shared.timeline import Timeline
from shared.transports.simulated import SimulatedLine, SimulatedTransport
from shared.workers import InlineWorkers
from tests.sender.read.files import nifti
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

    from protocol.messages import Attach, LayerOffer, Mark
    from receiver.decode import Decoder, DecodeTask
    from receiver.watch import Watcher
    from sender.ledger import Ledger
    from sender.prepare import Study
    from shared.geometry import Box
    from shared.layer import LayerKey
    from shared.workers import Workers

SLOW = "rate=256k,rtt=100ms"
GIVE_UP_S = 30.0
"""Without a line for so long a sender ends; the only line here comes up in time."""


@dataclass
class Ended:
    """A transfer that has ended, at both ends."""

    sender: SendingSession
    receiver: ReceivingSession
    near: SimulatedTransport
    """The sender's end of the only line."""
    sent: Timeline
    """The sender's marks, in seconds since the transfer began."""
    received: Timeline
    errors: list[MedroiError | None] = field(default_factory=lambda: [None, None])
    """How the sender and the receiver ended."""
    ended_s: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """When they ended, in seconds since the transfer began."""

    @property
    def ledger(self) -> Ledger:
        """What the sender has counted."""
        assert self.sender.offering is not None
        return self.sender.offering.ledger

    @property
    def volume(self) -> GrowingVolume:
        """The first series as it is at the receiver."""
        return self.receiver.volumes[0]

    def at_s(self, mark: Mark) -> float:
        """When the receiver had reached a mark."""
        reached_s = self.received[mark.value]
        assert reached_s is not None, f"{mark} was not reached"
        return reached_s


class Watching(NoWatcher):
    """Looks on, and does something of a test's when a mark is reached."""

    def __init__(
        self, act: Callable[[ReceivingSession, int, Mark], None] = lambda *_: None
    ) -> None:
        self.act = act
        self.seen: list[tuple[int, Mark]] = []

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        self.seen.append((series, mark))
        self.act(session, series, mark)


class Corrupting(InlineDecoder):
    """Decodes, and gets some of it wrong."""

    def __init__(self, is_wrong: Callable[[DecodeTask], bool]) -> None:
        self.is_wrong = is_wrong
        self.tasks: list[DecodeTask] = []

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        samples = await super().decode(task)
        self.tasks.append(task)
        if self.is_wrong(task):
            samples = samples.copy()
            samples.reshape(-1).view("u1")[0] ^= 1
        return samples


def link_of(text: str = SLOW) -> LinkProfile:
    """A link as the command line takes it."""
    return parse_link(text)


def study_in(
    folder: Path,
    files: Mapping[str, NDArray[Any] | bytes],
    settings: SendSettings,
    *,
    volume: int | None = None,
) -> Study:
    """A study of NIfTI files of these names, written first."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else nifti(content)
        (folder / name).write_bytes(raw)
    paths = [folder / name for name in files]
    return prepare_study(paths, settings, series=None, volume=volume)


def send(
    study: Study,
    out: Path,
    link: str = SLOW,
    *,
    seed: int = 0,
    settings: SendSettings | None = None,
    decoder: Decoder | None = None,
    watcher: Watcher | None = None,
    meanwhile: Callable[[Ended], Coroutine[Any, Any, None]] | None = None,
    workers: Workers | None = None,
) -> Ended:
    """Send a study over a line of its own, to the end of both sessions."""
    profile = link_of(link)

    async def main() -> Ended:
        line = SimulatedLine(profile, seed)
        return await transfer(study, out, line, settings, decoder, watcher, meanwhile, workers)

    return run_virtual(main(), limit_s=3600)


async def transfer(
    study: Study,
    out: Path,
    line: SimulatedLine,
    settings: SendSettings | None = None,
    decoder: Decoder | None = None,
    watcher: Watcher | None = None,
    meanwhile: Callable[[Ended], Coroutine[Any, Any, None]] | None = None,
    workers: Workers | None = None,
    lines: int = 1,
) -> Ended:
    """A study over a line, on a loop of virtual time.

    Args:
        lines: connections that may be made, one after the other or side by side.
    """
    loop = asyncio.get_running_loop()
    near, first = line.connect()
    connected: list[SimulatedTransport] = []
    began_s = loop.time()

    def age_s() -> float:
        return loop.time() - began_s

    async def prepared() -> Study:
        return study

    async def claim(_study: bytes) -> None:
        return

    async def dial() -> SimulatedTransport:
        if len(connected) == lines:
            raise TransportClosed("there is no other line")
        if connected:
            await asyncio.sleep(line.profile.rtt_s)
        mine, far = line.connect() if connected else (near, first)
        connected.append(mine)
        receiving.add(group.create_task(receive(far)))
        return mine

    clock, workers = LoopClock(), workers or InlineWorkers()
    sent, received = Timeline(age_s), Timeline(age_s)
    sender = SendingSession(
        dial,
        workers,
        clock,
        settings or SendSettings(),
        sent,
        random.Random(1),
        give_up_s=GIVE_UP_S,
    )
    receiver = ReceivingSession(
        bytes(16),
        decoder or InlineDecoder(),
        workers,
        clock,
        out,
        received,
        watcher or NoWatcher(),
        claim,
    )

    async def find(_attach: Attach) -> ReceivingSession:
        return receiver

    ended = Ended(sender, receiver, near, sent, received)
    receiving: set[asyncio.Task[None]] = set()

    async def receive(far: SimulatedTransport) -> None:
        visit = Visit(far, clock, find)
        broken: MedroiError | None = None
        try:
            await visit.run()
        except MedroiError as error:
            broken = error
        if visit.host is not None:
            receiver.detach(visit, broken)
        if len(connected) == lines:
            receiver.fail(broken or TransportClosed("the sender closed the connection"))

    async def noting(end: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except MedroiError as error:
            ended.errors[end] = error
        ended.ended_s[end] = age_s()

    async with asyncio.TaskGroup() as group:
        group.create_task(noting(0, sender.run(prepared())))
        if meanwhile is not None:
            group.create_task(meanwhile(ended))
        await noting(1, receiver.run())
        for each in receiving:
            each.cancel()
    return ended


@dataclass
class Painted:
    """Every exact layer that was proven, in order, and those that were not."""

    proven: list[LayerKey] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    size_bytes: int = 0
    """Of the encodings of those that were proven."""
    refused: list[tuple[LayerKey, str]] = field(default_factory=list)
    """With the codec that was used."""


def watch_painting(monkeypatch: pytest.MonkeyPatch) -> Painted:
    """Note every exact layer that a receiver paints from now on."""
    noted = Painted()
    paint = GrowingVolume.paint_exact

    def note(volume: GrowingVolume, offer: LayerOffer, samples: NDArray[Any]) -> bool:
        good = paint(volume, offer, samples)
        if good and offer.box is not None:
            noted.proven.append(offer.key)
            noted.boxes.append(offer.box)
            noted.size_bytes += offer.size_bytes
        elif not good:
            noted.refused.append((offer.key, offer.codec))
        return good

    monkeypatch.setattr(GrowingVolume, "paint_exact", note)
    return noted


def cut_small(monkeypatch: pytest.MonkeyPatch, block_voxels: int) -> None:
    """Have every region cut in blocks of about so many voxels, from now on."""
    sizes = dict.fromkeys(layering._BLOCK_VOXELS, block_voxels)
    monkeypatch.setattr(layering, "_BLOCK_VOXELS", sizes)
