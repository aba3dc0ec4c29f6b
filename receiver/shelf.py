"""Studies on the clinic's disk: what is there and how good, what has had its time, what has room.

    <out>/<16 hex digits>/    a study: series-N.nii once proven, series-N.partial.* until then

Nothing is believed but files: a series is exact when it has its final name, which it gets once all
of it is proven, and otherwise as good as its quality map says. A study is finished when its report
says that it was stored. All here blocks; run it in a worker.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from receiver.files import QUALITY_OFFSET, series_bytes
from receiver.log import NAME as LOG_NAME
from receiver.store import REPORT_NAME
from shared.errors import SettingsError
from shared.layer import Quality

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from protocol.messages import Manifest

_STUDY = re.compile(r"[0-9a-f]{16}")
_FINAL = re.compile(r"series-(\d+)\.nii")
_GROWING = re.compile(r"series-(\d+)\.partial\.quality\.nii")
_AMOUNT = re.compile(r"(\d{1,9})([a-zA-Z])")
_AGES_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"M": 10**6, "G": 10**9, "T": 10**12}
_GONE = ".gone"
_REPORT_BYTES = 16 << 20
_COUNTED_BYTES = 1 << 20
"""Of a quality map at once: counting takes eight times as much beside it."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """One study."""

    name: str
    """Of its folder: the first digits of its digest."""
    state: str
    """``exact``; ``finished``, where the background was discarded as asked; or ``unfinished``."""
    resumable: bool
    """Its session's log is there: the sender goes on where it was."""
    series: int
    voxels: dict[str, float]
    """The share of its voxels that have just this quality, by the quality's name."""
    bytes: int
    age_s: float
    """Since anything of it has changed."""


@dataclass(slots=True)
class Rules:
    """What the site says of its disk."""

    keep_s: float | None = None
    """Finished studies older than this go; None: never."""
    keep_unfinished_s: float | None = None
    """The same of those that are not finished; None: never, whatever `keep_s` says."""
    quota_bytes: int | None = None
    """All studies together; None for as much as the disk has."""


@dataclass(slots=True)
class Shelf:
    """A folder of studies and its rules."""

    out: Path
    rules: Rules = field(default_factory=Rules)
    _promised: dict[str, int] = field(default_factory=dict)
    """Bytes that studies under way were promised, by folder."""
    _held: dict[bytes, str] = field(default_factory=dict)
    """The folder that a session has open, or is about to open."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def studies(self) -> list[Shelved]:
        """All of them, the one that changed last first."""
        now_s = time.time()
        found = [_shelved(path, now_s) for path in _folders(self.out)]
        return sorted((each for each in found if each is not None), key=lambda each: each.age_s)

    def hold(self, session: bytes, folder: Path) -> bool:
        """Before a session opens a study: it stays until `release`. Whether there is one."""
        with self._lock:
            self._held[session] = folder.name
            return folder.is_dir()

    def tidy(self, on_deleted: Callable[[str, str], None]) -> list[tuple[str, str]]:
        """Delete what has had its time; which folders that were, and why.

        ``on_deleted`` is told the folder's name and why, before it goes.
        """
        deleted: list[tuple[str, str]] = []
        if self.rules.keep_s is None and self.rules.keep_unfinished_s is None:
            return deleted
        for left in self.out.glob(f".*{_GONE}"):  # by a crash
            shutil.rmtree(left)
        for study in self.studies():
            unfinished = study.state == "unfinished"
            keep_s = self.rules.keep_unfinished_s if unfinished else self.rules.keep_s
            if keep_s is None or study.age_s < keep_s:
                continue
            why = f"{study.state}, unchanged for {study.age_s / 86400:.1f} days"
            gone = self.out / f".{study.name}{_GONE}"
            with self._lock:
                # Looking at all studies takes seconds, in which a sender may have come back.
                if not self._is_left(study.name, keep_s):
                    continue
                on_deleted(study.name, why)
                # At once, as far as anybody can see: half a study would look like one under way.
                os.rename(self.out / study.name, gone)
            shutil.rmtree(gone)
            deleted.append((study.name, why))
        return deleted

    def require(self, folder: Path, manifest: Manifest) -> None:
        """May this study be taken? What it needs is promised to it then; see `release`.

        Raises:
            OSError: the quota is used up; its ``strerror`` is a sentence for the sender.
        """
        if self.rules.quota_bytes is None:
            return
        needed = sum(series_bytes(entry.header) for entry in manifest.series)
        with self._lock:
            used = 0
            for path in _folders(self.out):
                if path.name != folder.name:
                    used += max(_bytes_in(path), self._promised.get(path.name, 0))
            used += sum(
                size
                for name, size in self._promised.items()
                if name != folder.name and not (self.out / name).is_dir()
            )
            if used + needed > self.rules.quota_bytes:
                raise OSError(
                    errno.EDQUOT,
                    f"its quota of {_human(self.rules.quota_bytes)} is used up: {_human(used)} are "
                    f"taken, this study needs {_human(needed)}",
                )
            self._promised[folder.name] = needed

    def release(self, session: bytes) -> None:
        """A session is over: from now on what it has taken counts, and has its time."""
        with self._lock:
            name = self._held.pop(session, None)
            if name is not None and name not in self._held.values():
                self._promised.pop(name, None)

    def _is_left(self, name: str, keep_s: float) -> bool:
        """Nobody has it open, and nothing of it has changed since."""
        try:
            changed_s = _changed_s(self.out / name)
        except FileNotFoundError:
            return False
        return name not in self._held.values() and time.time() - changed_s >= keep_s


def parse_age(text: str, flag: str) -> float:
    """Seconds of such as ``30d``.

    Raises:
        SettingsError: it is something else.
    """
    return _amount(text, flag, _AGES_S, "30d, 12h or 8w")


def parse_size(text: str, flag: str) -> int:
    """Bytes of such as ``50G``.

    Raises:
        SettingsError: it is something else.
    """
    return _amount(text, flag, _SIZES, "500M, 50G or 2T")


def _amount(text: str, flag: str, units: dict[str, int], examples: str) -> int:
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2] not in units or not int(found[1]):
        raise SettingsError(f"{flag} {text[:80]}: expected such as {examples}")
    return int(found[1]) * units[found[2]]


def _human(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10**8 else f"{size / 1e6:.2f} MB"


def _folders(out: Path) -> list[Path]:
    """Folders of ours: whatever else lies beside them is nobody's business."""
    if not out.is_dir():
        return []
    return [
        out / entry.name
        for entry in os.scandir(out)
        if _STUDY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
    ]


def _changed_s(folder: Path) -> float:
    """When anything in it last was written, Unix time."""
    return max(
        (entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(folder)),
        default=folder.stat().st_mtime,
    )


def _bytes_in(folder: Path) -> int:
    total = 0
    try:
        for entry in os.scandir(folder):
            total += entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # a file, or all of it, has gone meanwhile
        return total
    return total


def _shelved(folder: Path, now_s: float) -> Shelved | None:
    """None where it goes while it is looked at."""
    try:
        changed_s = _changed_s(folder)
        names = os.listdir(folder)
        final = [name for name in names if _FINAL.fullmatch(name)]
        growing = [name for name in names if _GROWING.fullmatch(name)]
        counts = dict.fromkeys((level.word for level in Quality), 0)
        for name in final:
            counts["verified"] += _voxels_of(folder, name)
        for name in growing:
            _count(folder / name, counts)
    except FileNotFoundError:
        return None
    total = sum(counts.values())
    exact = bool(final) and not growing
    finished = exact or (bool(growing) and _was_stored(folder))
    return Shelved(
        folder.name,
        "exact" if exact else "finished" if finished else "unfinished",
        LOG_NAME in names and not finished,
        len(final) + len(growing),
        {name: count / total for name, count in counts.items() if count},
        _bytes_in(folder),
        max(0.0, now_s - changed_s),
    )


def _voxels_of(folder: Path, name: str) -> int:
    """Of a series that is exact, from its side-car; 1 where that is gone."""
    about = _json(folder / f"{name.removesuffix('.nii')}.json")
    voxels = about.get("voxels")
    total = voxels.get("total") if isinstance(voxels, dict) else None
    return total if isinstance(total, int) and total > 0 else 1


def _count(path: Path, counts: dict[str, int]) -> None:
    size = path.stat().st_size
    if size <= QUALITY_OFFSET:
        return
    levels = np.memmap(path, np.uint8, "r", QUALITY_OFFSET)
    found = np.zeros(256, np.int64)
    for at in range(0, levels.size, _COUNTED_BYTES):
        found += np.bincount(levels[at : at + _COUNTED_BYTES], minlength=256)
    for level in Quality:
        counts[level.word] += int(found[level])
    counts["missing"] += int(found[len(Quality) :].sum())  # no quality of ours: it proves nothing


def _was_stored(folder: Path) -> bool:
    return _json(folder / REPORT_NAME).get("exit_code") == 0


def _json(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_REPORT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
