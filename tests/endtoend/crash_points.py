"""One whole transfer, stopped at every single thing that either end does to its disk.

A point is a write, a sync, a rename or a removal. There the end that does it dies: in the middle of
a write, and with what it has not synced torn or lost, if it is a power cut. Or the disk is full, or
a byte of a log goes bad while nobody looks. Then the end is started again, and the study has to end
exact.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sys
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import pytest

from receiver import clinic as clinic_module
from receiver import previews
from receiver.clinic import Clinic
from receiver.decode import InlineDecoder
from receiver.reception import Reception
from shared.clock import LoopClock
from shared.errors import MedroiError
from tests.endtoend.virtual_chaos import SETTINGS, SHAPE, Mortal, Process, Silent, World
from tests.endtoend.virtual_transfer import cut_small, study_in
from tests.sender.studies import brain
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sender.prepare import Study


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Fault(StrEnum):
    """What happens at a point."""

    KILL = "kill -9"
    POWER = "power cut"
    FULL = "disk full"
    SPOILT = "spoilt record"


class Died(BaseException):
    """The process is gone in the middle of what it did: nothing may catch this."""


class Doomed(Mortal):
    """Workers that know at which point their process has to die."""

    def __init__(self, disk: CrashDisk, inner: Mortal) -> None:
        super().__init__()
        self._disk = disk
        self._inner = inner

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        def watched() -> T:
            self._disk.at_work = self._inner
            try:
                return work(*arguments)
            except Died:
                raise asyncio.CancelledError from None
            finally:
                self._disk.at_work = None

        return await self._inner.run(watched)


class CrashDisk:
    """Counts what is done to the disk, and lets it go wrong at one point."""

    def __init__(self, point: int, fault: Fault, chance: random.Random) -> None:
        self.point, self.fault, self.chance = point, fault, chance
        self.count = 0
        self.at_work: Mortal | None = None
        self.victim: Mortal | None = None
        self.on_death: Callable[[Mortal], None] = lambda mortal: None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand before every call that changes the disk."""
        for name in ("pwrite", "fdatasync", "fsync", "replace", "rename", "unlink"):
            patch.setattr(os, name, self._guarded(getattr(os, name), name == "pwrite"))

    def _guarded(self, real: Callable[..., Any], writes: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.at_work is None:
                return real(*arguments, **options)
            if self.at_work is self.victim and self.fault is not Fault.FULL:
                raise Died  # what is left of it does nothing any more
            self.count += 1
            if self.count != self.point:
                return real(*arguments, **options)
            self.victim = self.at_work
            if writes:
                handle, content, *where = arguments
                real(handle, content[: self.chance.randrange(len(content) + 1)], *where)
            if self.fault is Fault.FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.at_work.dead = True
            self.on_death(self.at_work)
            raise Died

        return call


class CrashWorld(World):
    """A site and a clinic of which one meets its point."""

    def __init__(self, folder: Path, study: Study, disk: CrashDisk) -> None:
        super().__init__(folder, study, SETTINGS, 1)
        self.disk = disk
        self._visits: set[asyncio.Task[None]] = set()
        disk.on_death = self._silence_lines

    def _silence_lines(self, mortal: Mortal) -> None:
        """Who is dead says nothing more."""
        for end in (self.sender, self.receiver):
            if end is not None and end.workers is mortal:
                for line in end.lines:
                    line.abort()

    async def _receive(self, workers: Mortal) -> None:
        reception = Reception("127.0.0.1", 0, self.out, False, None, False, True)
        doomed = Doomed(self.disk, workers)
        async with Clinic(reception, doomed, InlineDecoder(), Silent()) as clinic:
            self.clinic = clinic
            try:
                await clinic.until_done()
            finally:
                self.clinic = None

    async def _send(self, workers: Mortal) -> None:
        await super()._send(Doomed(self.disk, workers))

    async def run(self) -> None:
        """Until the sender has its receipt."""
        self.start_receiver()
        self.start_sender()
        while True:
            assert self.sender is not None
            assert self.receiver is not None
            await asyncio.wait({self.sender.task}, timeout=0.05)
            if self.sender.task.done() and not self.sender.workers.dead:
                try:
                    await self.sender.task
                except (MedroiError, OSError, ExceptionGroup):
                    if self.disk.fault is not Fault.FULL:
                        raise
                    self.start_sender()  # there is room again, and the user tries once more
                    continue
                break
            for end, start in ((self.sender, self.start_sender), (self.receiver, self._restart)):
                if end.workers.dead:
                    await self._bury(end)
                    start()
        await asyncio.sleep(1.0)
        await self.receiver.kill()

    def _restart(self) -> None:
        self.clinic = None
        self.start_receiver()

    async def _bury(self, end: Process) -> None:
        with suppress(Died):
            await end.kill()
        base = self.out if end is self.receiver else self.spool
        if self.disk.fault is Fault.POWER:
            self._tear(base)
            if base is self.out:
                self._lose_pages()
        elif self.disk.fault is Fault.SPOILT:
            for path in base.glob("*/*.log"):
                content = bytearray(path.read_bytes())
                if len(content) > 200:
                    content[self.chance.randrange(60, len(content) - 60)] ^= 1
                    path.write_bytes(content)


def crash(folder: Path, point: int, fault: Fault) -> CrashWorld:
    """Run one transfer with a fault at a point, 0 for none, and look at what has come of it.

    Raises:
        AssertionError: it is not exact.
    """
    disk = CrashDisk(point, fault, random.Random(point))
    made: list[CrashWorld] = []

    async def main() -> CrashWorld:
        made.append(CrashWorld(folder, study, disk))
        await made[0].run()
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clinic_module, "SystemClock", LoopClock)
        cut_small(patch, 2 * SHAPE[1] * SHAPE[2])
        study = study_in(folder / "in", {"head.nii": brain(SHAPE)}, SETTINGS)
        disk.install(patch)
        guarded = os.fdatasync

        renamed = os.replace

        def noted(handle: int) -> None:
            guarded(handle)
            path = os.readlink(f"/proc/self/fd/{handle}")
            made[0].synced[path] = os.fstat(handle).st_size

        def moved(source: Any, target: Any) -> None:
            renamed(source, target)
            if str(source) in made[0].synced:
                made[0].synced[str(target)] = made[0].synced.pop(str(source))

        patch.setattr(os, "fdatasync", noted)
        patch.setattr(os, "replace", moved)
        patch.setattr(previews, "boot_name", lambda: f"boot {made[0].boots}")
        world = run_virtual(main(), limit_s=40_000)
    (stored,) = world.out.glob("*/series-1.nii")
    assert stored.read_bytes() == (folder / "in" / "head.nii").read_bytes(), "it is not exact"
    assert not point or disk.victim is not None or disk.count < point
    return world


def points() -> int:
    """How many points a transfer has to which nothing happens."""
    with TemporaryDirectory() as folder:
        return crash(Path(folder), 0, Fault.KILL).disk.count


def run_points(chosen: Iterable[tuple[int, Fault]]) -> tuple[Counter[Fault], list[str]]:
    """How many crashes of each kind ended exact, and what became of the others."""
    good: Counter[Fault] = Counter()
    bad: list[str] = []
    for point, fault in chosen:
        with TemporaryDirectory() as folder:
            try:
                crash(Path(folder), point, fault)
            except Exception as error:  # whatever it is, the other points are to be seen too
                bad.append(f"{fault.value} at point {point}: {type(error).__name__}: {error}")
            else:
                good[fault] += 1
    return good, bad


def main() -> int:
    """``python -m tests.endtoend.crash_points FIRST EVERY``: a line for each that failed."""
    first, every = int(sys.argv[1]), int(sys.argv[2])
    count = points()
    chosen = [(point, fault) for point in range(first, count + 1, every) for fault in Fault]
    good, bad = run_points(chosen)
    for sentence in bad:
        print(sentence, flush=True)
    print(
        f"{sum(good.values())} of {len(chosen)} crashes ended exact, of {count} points: "
        f"{ {fault.value: number for fault, number in good.items()} }",
        flush=True,
    )
    return min(len(bad), 1)


if __name__ == "__main__":
    sys.exit(main())
