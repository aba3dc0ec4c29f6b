"""Who sends now, of those that send from here to one clinic: the most urgent, then the first.

Every ``medroi-send`` has a place: a file, named so that names sort as the places do, locked for as
long as its process lives. One that is ready to send and has no better place before it has the turn;
the others hold their fragments back, between two of them, and go on behind it. No process is in
charge, and one that dies gives its place up with its lock.

    0-00001795543210123456789-4242-0          STAT, ready
    2-00001795543200123456789-4241-0.waiting  routine, has no line yet: holds nobody up
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.folders import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from protocol.pace import Pace
    from shared.clock import Clock

_WAITING = ".waiting"
_MAKING = ".making"
_LOOK_S = 0.05
_ALIVE_S = 5.0
"""A process that has not looked for so long is stopped, and holds nobody up until it goes on."""
_DIGITS = 16
_COUNT = itertools.count()


class Urgency(Enum):
    """DICOM's words for it (PS3.3, Requested Procedure Priority) where it has them; most urgent
    first."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return list(Urgency).index(self)


@dataclass(frozen=True, slots=True)
class Queued:
    """A place, as others see it."""

    study: str
    """As its user named it."""
    urgency: str
    since_s: float
    """Unix time."""
    ready: bool


class Turn:
    """One place. `enter` it, `leave` it; all calls block, for less than a millisecond."""

    def __init__(self, folder: Path, urgency: Urgency, study: str) -> None:
        """``folder``: of a clinic, see `clinic_folder`."""
        self._folder = folder
        self._base = f"{urgency.rank}-{time.time_ns():023d}-{os.getpid()}-{next(_COUNT)}"
        self._about = json.dumps({"study": study, "urgency": urgency.value, "since_s": time.time()})
        self._name = ""
        self._handle = -1

    def enter(self) -> None:
        """Take the place, not ready to send yet.

        Raises:
            OSError: the folder cannot be had.
        """
        own_folder(self._folder)
        making = self._folder / (self._base + _MAKING)
        self._handle = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        os.write(self._handle, self._about.encode())
        self._name = self._base + _WAITING
        making.rename(self._folder / self._name)  # nobody sees it before it is locked

    def is_ours(self, *, ready: bool) -> bool:
        """Whether it is this one's turn, if it is ready to send.

        Raises:
            OSError: the folder is gone.
        """
        name = self._base if ready else self._base + _WAITING
        if name != self._name:
            os.rename(self._folder / self._name, self._folder / name)
            self._name = name
        os.utime(self._handle)
        return ready and not any(name < self._name for name, _ in _places(self._folder, ready=True))

    def leave(self) -> None:
        """Give the place up; safe to call twice."""
        if self._handle >= 0:
            with suppress(FileNotFoundError):
                (self._folder / self._name).unlink()
            os.close(self._handle)
            self._handle = -1


async def keep(
    turn: Turn,
    pace: Pace,
    is_ready: Callable[[], bool],
    wake: Callable[[], None],
    clock: Clock,
) -> None:
    """Hold the pace while others have the turn, for as long as it runs."""
    while True:
        ready = is_ready()
        try:
            held = not turn.is_ours(ready=ready) and ready
        except OSError:  # somebody removed the folder: then there is nobody to wait for
            held = False
        if held != pace.held:
            pace.held = held
            wake()
        await clock.sleep_s(_LOOK_S)


def clinic_folder(base: Path, url: str) -> Path:
    """Where those that send to one address find each other."""
    return base / hashlib.sha256(urlsplit(url).netloc.encode()).hexdigest()[:_DIGITS]


def queued(base: Path) -> list[Queued]:
    """Everyone that sends from here, to whichever clinic, in order."""
    found = []
    if not base.is_dir():
        return []
    for folder in sorted(path for path in base.iterdir() if path.is_dir()):
        for name, about in _places(folder, ready=False):
            found.append(
                Queued(
                    str(about.get("study", "")),
                    str(about.get("urgency", "")),
                    float(str(about.get("since_s", 0))),
                    not name.endswith(_WAITING),
                )
            )
    return found


def _places(folder: Path, *, ready: bool) -> Iterator[tuple[str, dict[str, object]]]:
    """Places of processes that live, in order; those of dead ones are cleared away.

    Args:
        ready: only of those that are, and have looked lately.
    """
    for name in sorted(os.listdir(folder)):
        if name.endswith(_MAKING) or (ready and name.endswith(_WAITING)):
            continue
        try:
            handle = os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # it has left, or is ready, meanwhile
        try:
            if _is_left(handle):
                with suppress(FileNotFoundError):
                    (folder / name).unlink()
            elif not ready or time.time() - os.fstat(handle).st_mtime < _ALIVE_S:
                yield name, _about(handle)
        finally:
            os.close(handle)


def _is_left(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _about(handle: int) -> dict[str, object]:
    try:
        about = json.loads(os.pread(handle, 1 << 16, 0))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
