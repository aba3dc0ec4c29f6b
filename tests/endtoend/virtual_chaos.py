"""A whole transfer under a seed of trouble, in virtual time: both ends' real code, real files.

A clinic and a site, each a process that may be killed or lose its power at any moment, and a line
between them that is cut, falls silent, damages frames and carries late what an old connection still
had on its way. Whatever happens, the study has to end exact, and what the sender has heard to be
stored is never sent again.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import pytest

from protocol import messages as m
from protocol.frames import FrameKind, decode_frame, unpack_fragment
from protocol.payloads import unpack_message
from protocol.ranges import RangeSet
from receiver import clinic as clinic_module
from receiver import previews
from receiver.clinic import Clinic
from receiver.decode import InlineDecoder
from receiver.reception import Reception
from sender.growth import next_answer
from sender.prepare import Study
from sender.session import SendingSession
from sender.settings import SendSettings
from sender.spool import Spool
from shared.clock import LoopClock
from shared.display import PlainDisplay
from shared.errors import ExitCode, MedroiError, TransportClosed
from shared.link import parse_link
from shared.timeline import Timeline
from shared.transports.simulated import SimulatedLine
from shared.workers import InlineWorkers
from tests.endtoend.virtual_transfer import cut_small, study_in
from tests.sender.studies import TwoLooks, brain, not_thought_over
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.transports.simulated import SimulatedTransport

SHAPE = (12, 64, 64)
SETTINGS = SendSettings(roi="box:2:5,10:30,10:30", exact_codec="zstd")
LINKS = ("rate=200k,rtt=100ms", "rate=1M,rtt=300ms,loss=2%", "rate=64k,rtt=40ms", "lte")
FIRST_WINDOW_BYTES = 20 << 10
"""The first window, and frame headers, of which the window counts more than is in fragments."""
GROUP_S = 0.2
"""What waits to be synced, and what comes while the group before it is."""
THINKS_S = 1.0
"""A slow segmenter over each answer."""
_THINKING_EVERY = 4
"""Every so manyth seed is run once more with a plan that grows."""
UNTIL_S = 1200.0
"""Nothing goes wrong any more after so long, so that every transfer ends."""


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Mortal(InlineWorkers):
    """Workers of a process that may die: what a dead one is asked for is not done."""

    def __init__(self) -> None:
        self.dead = False

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self.dead:
            raise asyncio.CancelledError
        asked: object = work
        if asked is next_answer:
            await asyncio.sleep(THINKS_S)
        return await super().run(work, *arguments)


class Silent(PlainDisplay):
    """Says nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, sentence: str) -> None:
        self.lines.append(sentence)

    def show(self, progress: Any, now_s: float) -> None:
        """Nobody looks."""


@dataclass
class Told:
    """What the sender has heard to be stored, and what it has sent, by number."""

    stored: dict[tuple[bytes, int], RangeSet] = field(default_factory=dict)
    sent: dict[tuple[bytes, int], RangeSet] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)
    """Encodings that this sender process has offered: another may have had others of the number."""
    repeats: list[int] = field(default_factory=list)
    """Bytes that were sent once more, behind each connection that goes on with a session. What was
    withdrawn meanwhile for a smaller encoding is not among them."""
    repeated_bytes: int = 0
    fragment_bytes: int = 0
    session: bytes = b""

    def hear(self, raw: bytes) -> None:
        """A frame has come to the sender."""
        frame = decode_frame(raw)
        message = unpack_message(frame.payload)
        if isinstance(message, m.Standing) and message.known and not message.finished:
            self.repeats.append(0)
        if isinstance(message, m.Stored):
            for part in message.parts:
                ranges = self.stored.setdefault((self.session, part.number), RangeSet())
                for start, stop in part.ranges:
                    ranges.add(start, stop)

    def send(self, raw: bytes) -> None:
        """A frame leaves the sender."""
        frame = decode_frame(raw)
        if frame.kind is FrameKind.CONTROL:
            message = unpack_message(frame.payload)
            if isinstance(message, m.Attach):
                self.session = message.session
            elif isinstance(message, m.LayerOffer):
                self.live.add(message.number)
            return
        fragment = unpack_fragment(frame.payload)
        key, stop = (self.session, fragment.number), fragment.offset + len(fragment.content)
        for start, end in self.stored.get(key, RangeSet()):
            common = min(end, stop) - max(start, fragment.offset)
            assert common <= 0, f"{common} stored bytes of {fragment.number} were sent again"
        new = self.sent.setdefault(key, RangeSet()).add(fragment.offset, stop)
        self.repeated_bytes += len(fragment.content) - new
        if self.repeats and fragment.number in self.live:
            self.repeats[-1] += len(fragment.content) - new
        self.fragment_bytes += len(fragment.content)


class Tapped:
    """The sender's end of a connection, with an ear on it and chance in it."""

    def __init__(self, inner: SimulatedTransport, world: World) -> None:
        self.inner = inner
        self._world = world

    async def send(self, frame: bytes) -> None:
        self._world.told.send(frame)
        first = self.inner.stats().frames_sent == 0  # whose hello is no frame is a stranger
        await self.inner.send(frame if first else self._world.damaged(frame))

    async def frames(self) -> AsyncIterator[bytes]:
        async for frame in self.inner.frames():
            first = self.inner.stats().frames_received == 1
            sound = frame if first else self._world.damaged(frame)
            if sound == frame:
                self._world.told.hear(frame)
            yield sound

    async def close(self) -> None:
        await self.inner.close()

    def abort(self) -> None:
        self.inner.abort()

    def losses(self) -> int | None:
        return self.inner.losses()

    def stats(self) -> Any:
        return self.inner.stats()


class Process:
    """One end, which runs until it is done or killed."""

    def __init__(self, run: Callable[[Mortal], Awaitable[None]]) -> None:
        self.workers = Mortal()
        self.lines: list[SimulatedTransport] = []
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._run(run))

    async def _run(self, run: Callable[[Mortal], Awaitable[None]]) -> None:
        await run(self.workers)

    async def kill(self) -> None:
        """As kill -9 does: nothing is finished, nothing is said."""
        self.workers.dead = True
        for line in self.lines:
            line.abort()
        self.task.cancel()
        with suppress(asyncio.CancelledError, MedroiError, ExceptionGroup):
            await self.task


class World:
    """A site, a clinic, the line between them, and their disks."""

    def __init__(self, folder: Path, study: Study, settings: SendSettings, seed: int) -> None:
        self.chance = random.Random(seed)
        self.study = study
        self.settings = settings
        self.out, self.spool = folder / "clinic", folder / "spool"
        self.line = SimulatedLine(parse_link(self.chance.choice(LINKS)), seed)
        self.told = Told()
        self.synced: dict[str, int] = {}
        self.clinic: Clinic | None = None
        self.receiver: Process | None = None
        self.sender: Process | None = None
        self.down_until_s = 0.0
        self.boots = 0
        self.damage = 0.0
        self.session: SendingSession | None = None
        self.events: list[str] = []
        self.connections = 0

    @property
    def repeat_limit_bytes(self) -> int:
        """One window, and one group of what was not synced yet."""
        profile = self.line.profile
        return FIRST_WINDOW_BYTES + int(profile.rate_bps / 8 * (profile.rtt_s + GROUP_S))

    def damaged(self, frame: bytes) -> bytes:
        """A frame as the line leaves it."""
        if self.chance.random() >= self.damage:
            return frame
        self.events.append("damage")
        at = self.chance.randrange(len(frame))
        return frame[:at] + bytes([frame[at] ^ 1 << self.chance.randrange(8)]) + frame[at + 1 :]

    # -- the ends -----------------------------------------------------------------------------

    def start_receiver(self) -> None:
        self.receiver = Process(self._receive)

    def start_sender(self) -> None:
        self.sender = Process(self._send)

    async def _receive(self, workers: Mortal) -> None:
        reception = Reception("127.0.0.1", 0, self.out, True, None, False, True)
        async with Clinic(reception, workers, InlineDecoder(), Silent()) as clinic:
            self.clinic = clinic
            try:
                assert await clinic.until_done() is ExitCode.OK
            finally:
                self.clinic = None

    async def _send(self, workers: Mortal) -> None:
        clock = LoopClock()

        async def prepared() -> Study:
            await asyncio.sleep(self.chance.random())
            return self.study

        def open_spool(study: Study, fresh: bytes) -> Spool:
            return Spool.open(self.spool, study, self.settings, "ws://clinic", fresh)

        session = SendingSession(
            self._dial,
            workers,
            clock,
            self.settings,
            Timeline(clock.now_s),
            self.chance,
            open_spool=open_spool,
        )
        self.session = session
        await session.run(prepared())
        assert session.exact

    async def _dial(self) -> Any:
        loop = asyncio.get_running_loop()
        delay_s = self.line.profile.rtt_s
        if loop.time() < self.down_until_s:
            delay_s += self.down_until_s - loop.time()
        await asyncio.sleep(delay_s)
        if self.clinic is None or self.receiver is None or self.sender is None:
            raise TransportClosed("nobody answers")
        near, far = self.line.connect()
        self.connections += 1
        self.sender.lines.append(near)
        self.receiver.lines.append(far)
        visiting = loop.create_task(self._visit(self.clinic, far))
        self._visits.add(visiting)
        visiting.add_done_callback(self._visits.discard)
        return Tapped(near, self)

    async def _visit(self, clinic: Clinic, far: SimulatedTransport) -> None:
        with suppress(asyncio.CancelledError):
            await clinic.take(far)
        await far.close()

    # -- trouble ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the study is at the clinic."""
        self._visits: set[asyncio.Task[None]] = set()
        self.start_receiver()
        self.start_sender()
        trouble = asyncio.get_running_loop().create_task(self._trouble())
        try:
            while True:
                assert self.sender is not None
                assert self.receiver is not None
                ends = {self.sender.task, self.receiver.task}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if trouble.done():
                    trouble.result()
                if self.sender.task.done() and not self.sender.workers.dead:
                    await self.sender.task
                    break
                if self.receiver.task.done() and not self.receiver.workers.dead:
                    await self.receiver.task  # or it has done its part
                    await asyncio.wait_for(self.sender.task, 300)
                    break
                await asyncio.sleep(0.01)  # whoever kills starts anew
        finally:
            trouble.cancel()
        await asyncio.wait({self.receiver.task}, timeout=120)
        if self.receiver.task.done() and not self.receiver.workers.dead:
            await self.receiver.task
        else:  # it was killed when everything was here, and nobody comes any more
            await self.receiver.kill()

    async def _trouble(self) -> None:
        """Something happens every few seconds, until enough has happened."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        self.calm_s = self.chance.choice((0.2, 0.5, 2.0))
        self.damage = self.chance.choice((0.0, 0.0, 0.002, 0.01))
        for _ in range(self.chance.randrange(1, 12)):
            await asyncio.sleep(self.chance.expovariate(1 / self.calm_s))
            if loop.time() - start_s > UNTIL_S:
                break
            what = self.chance.choice(
                (self._cut, self._silence, self._kill_sender, self._kill_receiver, self._both)
            )
            self.events.append(f"{loop.time() - start_s:.2f} {what.__name__}")
            await what()
        self.damage = 0.0

    async def _cut(self) -> None:
        for line in self._live():
            line.cut()

    async def _silence(self) -> None:
        """The line loses everything for a while; old connections never recover from it."""
        loop = asyncio.get_running_loop()
        self.down_until_s = loop.time() + self.chance.expovariate(1 / 8.0)
        for line in self._live():
            line.silence()

    async def _kill_sender(self, *, power: bool = False) -> None:
        assert self.sender is not None
        if self.session is not None and self.session.exact is not None:
            return  # it has its receipt; who sends the study once more begins a session of its own
        await self.sender.kill()
        if power or self.chance.random() < 0.3:
            self._tear(self.spool)
        await asyncio.sleep(self.chance.expovariate(1 / 2.0))
        self.start_sender()

    async def _kill_receiver(self, *, power: bool = False) -> None:
        assert self.receiver is not None
        await self.receiver.kill()
        self.clinic = None
        if power or self.chance.random() < 0.5:
            self._tear(self.out)
            self._lose_pages()
        await asyncio.sleep(self.chance.expovariate(1 / 2.0))
        self.start_receiver()

    async def _both(self) -> None:
        await self._kill_sender(power=True)
        await self._kill_receiver(power=True)

    def _live(self) -> list[SimulatedTransport]:
        return self.sender.lines if self.sender is not None else []

    def _tear(self, base: Path) -> None:
        """A log keeps what was synced, and of the rest a part, which may be torn."""
        for path in base.glob("*/*.log"):
            size = path.stat().st_size
            kept = self.synced.get(str(path), 0)
            if size > kept:
                end = self.chance.randrange(kept, size + 1)
                with path.open("r+b") as file:
                    file.truncate(end)
                    if end > kept and self.chance.random() < 0.5:
                        file.seek(end - 1)
                        file.write(b"\xff")

    def _lose_pages(self) -> None:
        """What was painted and never synced may be what it was before, or anything."""
        self.boots += 1
        for path in self.out.glob("*/*.partial*"):
            size = path.stat().st_size
            for _ in range(self.chance.randrange(4) if size else 0):
                start = self.chance.randrange(size)
                with path.open("r+b") as file:
                    file.seek(start)
                    file.write(bytes(min(4096, size - start)))


def survive(folder: Path, seed: int, *, thinking: bool = False) -> World:
    """Run a transfer under a seed to its end, and look at what has come of it.

    Args:
        thinking: plans grow meanwhile, for the segmenter takes its time.

    Raises:
        AssertionError: it is not exact, or something was sent again that need not have been.
    """
    made: list[World] = []
    real = os.fdatasync

    def noted(handle: int) -> None:
        real(handle)
        path = os.readlink(f"/proc/self/fd/{handle}").removesuffix(".part")
        made[0].synced[path] = os.fstat(handle).st_size

    async def main() -> World:
        made.append(World(folder, study, SETTINGS, seed))
        await made[0].run()
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clinic_module, "SystemClock", LoopClock)
        patch.setattr(os, "fdatasync", noted)
        patch.setattr(previews, "boot_name", lambda: f"boot {made[0].boots}")
        cut_small(patch, 2 * SHAPE[1] * SHAPE[2])
        study = study_in(folder / "in", {"head.nii": brain(SHAPE)}, SETTINGS)
        if thinking:
            study = Study(tuple(not_thought_over(each, TwoLooks()) for each in study.series), ())
        world = run_virtual(main(), limit_s=40_000)
    (stored,) = world.out.glob("*/series-1.nii")
    assert stored.read_bytes() == (folder / "in" / "head.nii").read_bytes(), "it is not exact"
    most = max(world.told.repeats, default=0)
    assert most <= world.repeat_limit_bytes, f"a reconnect repeated {most} bytes"
    assert not list(world.spool.glob("*")), "the sender keeps what nobody needs"
    return world


def main() -> int:
    """``python -m tests.endtoend.virtual_chaos FIRST COUNT``: a line for each seed that fails."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    runs = failed = 0
    for seed in range(first, first + count):
        for thinking in (False, True) if seed % _THINKING_EVERY == 0 else (False,):
            runs += 1
            with TemporaryDirectory() as folder:
                try:
                    survive(Path(folder), seed, thinking=thinking)
                except Exception as error:  # whatever it is, the other seeds are to be seen too
                    failed += 1
                    also = ", thinking" if thinking else ""
                    print(f"seed {seed}{also}: {type(error).__name__}: {error}", flush=True)
    print(
        f"{runs - failed} of {runs} transfers of {count} seeds from {first} ended exact", flush=True
    )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
