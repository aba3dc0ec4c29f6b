"""Timed marks and the course of one transfer, in seconds from the start of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.clock import process_age_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.display import Progress

_MAX_POINTS = 512


class Timeline:
    """Marks by name; the first time a name is marked counts."""

    def __init__(self, age_s: Callable[[], float] = process_age_s) -> None:
        self._age_s = age_s
        self._marks: dict[str, float] = {}

    def mark(self, name: str) -> bool:
        """Note that this happened now; True if it had not happened before."""
        if name in self._marks:
            return False
        self._marks[name] = self._age_s()
        return True

    def now_s(self) -> float:
        """Seconds since the process was started."""
        return self._age_s()

    def __getitem__(self, name: str) -> float | None:
        return self._marks.get(name)

    def marks(self) -> dict[str, float]:
        """All marks, in the order in which they came."""
        return dict(self._marks)


class Course:
    """How a transfer went on between its marks: a few hundred points, however long it takes."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float, float, int]] = []
        """(seconds since the process was started, ROI share, whole share, bytes sent)."""
        self._every = 1
        self._skipped = 0

    def note(self, now_s: float, progress: Progress, sent_bytes: int) -> None:
        """Take a point; once there are too many, keep every second and take half as many."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        shares = round(progress.roi_fraction, 4), round(progress.whole_fraction, 4)
        self.points.append((round(now_s, 3), *shares, sent_bytes))
        if len(self.points) > _MAX_POINTS:
            self.points = self.points[::2]
            self._every *= 2
