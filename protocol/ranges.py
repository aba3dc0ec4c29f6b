"""A set of byte ranges: what has arrived of an encoding, in whatever order."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class RangeSet:
    """Disjoint half-open ranges of whole numbers, ascending, touching ones merged."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int) -> int:
        """Add ``start <= i < stop`` and say how many of these numbers are new."""
        first = bisect_left(self._stops, start)
        last = first
        held = 0
        low, high = start, stop
        while last < len(self._starts) and self._starts[last] <= stop:
            held += max(0, min(stop, self._stops[last]) - max(start, self._starts[last]))
            low, high = min(low, self._starts[last]), max(high, self._stops[last])
            last += 1
        self._starts[first:last] = [low]
        self._stops[first:last] = [high]
        return stop - start - held

    def remove(self, start: int, stop: int) -> None:
        """Take ``start <= i < stop`` out."""
        kept = []
        for low, high in self:
            if low < start:
                kept.append((low, min(high, start)))
            if high > stop:
                kept.append((max(low, stop), high))
        self._starts = [low for low, _ in kept]
        self._stops = [high for _, high in kept]

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> RangeSet:
        """The union of these ranges."""
        made = cls()
        for start, stop in ranges:
            made.add(start, stop)
        return made

    def first(self) -> tuple[int, int] | None:
        """The lowest range, or None."""
        return (self._starts[0], self._stops[0]) if self._starts else None

    def size(self) -> int:
        """How many numbers there are."""
        return sum(self._stops) - sum(self._starts)

    def __contains__(self, number: int) -> bool:
        return self.covers(number, number + 1)

    def covers(self, start: int, stop: int) -> bool:
        """Whether every number of ``start <= i < stop`` is in the set."""
        index = bisect_left(self._stops, stop)
        return index < len(self._starts) and self._starts[index] <= start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._starts)

    def __bool__(self) -> NoReturn:
        """Not defined: "is there a range" and "is all of it there" are too easily mistaken."""
        raise TypeError("ask covers() or len()")
