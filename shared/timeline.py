"""Timed marks of one transfer, in seconds from the start of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.clock import process_age_s

if TYPE_CHECKING:
    from collections.abc import Callable


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
