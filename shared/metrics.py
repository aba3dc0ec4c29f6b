"""Figures for a monitor, in the text format of Prometheus (version 0.0.4), written by hand.

A label's value comes from a closed set of ours (a quality, an error's family, an outcome), never
from a peer or a file, so nothing of a patient gets in; anything but a short plain word is refused.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Of the event loop's lag; 50 ms is what is asked of it."""
_NAME = re.compile(r"medroi_[a-z_]+")
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,40}")

Reading = float | Mapping[str, float]
"""One figure, or one for each value of the label."""


@dataclass(slots=True)
class Counter:
    """Only ever grows. Made by `Metrics.counter`."""

    label: str
    values: dict[str, float] = field(default_factory=dict)

    def add(self, amount: float = 1, word: str = "") -> None:
        """Count; ``word`` is the label's value, where there is a label."""
        if bool(self.label) != bool(word):
            raise ValueError("a label has a value, and nothing else has")
        self.values[word] = self.values.get(word, 0) + amount


@dataclass(slots=True)
class Histogram:
    """How often something was how large. Made by `Metrics.histogram`."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    kind: str
    help: str
    label: str
    read: Callable[[], Reading] | Histogram


class Metrics:
    """All figures of one process."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def counter(self, name: str, about: str, label: str = "") -> Counter:
        """A new one; without a label it starts to be shown at 0."""
        made = Counter(label)
        if not label:
            made.add(0)
        self._add(_Family(name, "counter", about, label, lambda: dict(made.values)))
        return made

    def gauge(self, name: str, about: str, read: Callable[[], Reading], label: str = "") -> None:
        """A figure that is read when it is asked for."""
        self._add(_Family(name, "gauge", about, label, read))

    def total(self, name: str, about: str, read: Callable[[], Reading], label: str = "") -> None:
        """The same of one that somebody else counts."""
        self._add(_Family(name, "counter", about, label, read))

    def histogram(self, name: str, about: str, bounds: tuple[float, ...]) -> Histogram:
        """A new one with these upper bounds, and one that has none."""
        made = Histogram(bounds, [0] * (len(bounds) + 1))
        self._add(_Family(name, "histogram", about, "", made))
        return made

    def text(self) -> str:
        """Everything, as a monitor reads it."""
        return "".join(_text(family) for family in self._families.values())

    def _add(self, family: _Family) -> None:
        if not _NAME.fullmatch(family.name) or family.name in self._families:
            raise ValueError(f"{family.name}: not a new name of a metric of ours")
        self._families[family.name] = family


def _text(family: _Family) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
    if isinstance(family.read, Histogram):
        lines += _histogram_lines(family.name, family.read)
    else:
        reading = family.read()
        values = reading if isinstance(reading, Mapping) else {"": reading}
        lines += [
            f"{family.name}{_label(family, word)} {value:.17g}" for word, value in values.items()
        ]
    return "\n".join(lines) + "\n"


def _label(family: _Family, word: str) -> str:
    if not word:
        return ""
    if not family.label or not _WORD.fullmatch(word):
        raise ValueError(f"{family.name}: {word[:40]!r} is no value of a label")
    return f'{{{family.label}="{word}"}}'


def _histogram_lines(name: str, histogram: Histogram) -> list[str]:
    lines, so_far = [], 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        so_far += count
        upto = "+Inf" if bound is None else f"{bound:g}"
        lines.append(f'{name}_bucket{{le="{upto}"}} {so_far}')
    return [*lines, f"{name}_sum {histogram.total:.17g}", f"{name}_count {so_far}"]
