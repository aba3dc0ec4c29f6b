"""What people see while a study crosses: two bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_PLAIN_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of a transfer."""

    stage: str
    """What is on the wire now."""
    roi_fraction: float
    """Of the ROI's voxels, verified; 1 where there is no ROI."""
    whole_fraction: float
    rate_bps: float
    roi_eta_s: float | None
    """Until the ROI is exact; None while unknown, 0 when it is."""
    whole_eta_s: float | None


class Display(Protocol):
    """Shows a transfer. Use as a context manager."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def say(self, sentence: str) -> None:
        """Something that happened."""
        ...

    def show(self, progress: Progress, now_s: float) -> None:
        """Where things stand; may be called often."""
        ...


def open_display(*, quiet: bool = False, stream: TextIO | None = None) -> Display:
    """The display that fits where output goes; standard error unless told otherwise."""
    chosen = stream or sys.stderr
    if quiet or not chosen.isatty():
        return PlainDisplay(chosen, quiet=quiet)
    return BarDisplay(chosen)


class PlainDisplay:
    """A line for each thing that happens, and one every few seconds."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._last_s: float | None = None

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, sentence: str) -> None:
        """See `Display`."""
        if not self._quiet:
            print(sentence, file=self._stream, flush=True)

    def show(self, progress: Progress, now_s: float) -> None:
        """See `Display`."""
        if self._last_s is None:
            self._last_s = now_s
        elif now_s - self._last_s >= _PLAIN_EVERY_S:
            self._last_s = now_s
            parts = (
                f"ROI {_so_far(progress.roi_fraction, progress.roi_eta_s)}",
                f"whole {_so_far(progress.whole_fraction, progress.whole_eta_s)}",
                f"{progress.rate_bps / 1e6:.2f} Mbit/s",
            )
            self.say(f"{progress.stage}: {', '.join(parts)}")


class BarDisplay:
    """Two bars, ROI and whole, with rate and the time until each is exact."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> BarDisplay:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description:>5}"),
            BarColumn(),
            TextColumn("{task.percentage:>4.0f} %"),
            TextColumn("exact {task.fields[eta]}"),
            TextColumn("{task.fields[rate]}"),
            console=Console(file=self._stream),
        )
        for name in ("ROI", "whole"):
            self._tasks[name] = self._bars.add_task(name, total=100, eta="", rate="")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, sentence: str) -> None:
        """See `Display`."""
        if self._bars is not None:
            self._bars.console.print(sentence, highlight=False, markup=False)

    def show(self, progress: Progress, now_s: float) -> None:
        """See `Display`."""
        if self._bars is None:
            return
        rate = f"{progress.rate_bps / 1e6:.2f} Mbit/s  {progress.stage}"
        for name, done, eta_s, note in (
            ("ROI", progress.roi_fraction, progress.roi_eta_s, ""),
            ("whole", progress.whole_fraction, progress.whole_eta_s, rate),
        ):
            task, percent = self._tasks[name], _percent(done)
            self._bars.update(task, completed=percent, eta=_eta(eta_s), rate=note)


def _percent(share: float) -> int:
    """Rounded down: 100 is said of nothing that still lacks a voxel."""
    return floor(share * 100 + 1e-9)  # 0.29 * 100 is 28.999999999999996


def _so_far(share: float, eta_s: float | None) -> str:
    """A share, and when the rest is exact, if anybody knows: a receiver does not."""
    if eta_s is None:
        return f"{_percent(share)}%"
    return f"{_percent(share)}% (exact {_eta(eta_s)})" if eta_s else f"{_percent(share)}% (exact)"


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return "--:--"
    if seconds == 0:
        return "now"
    minutes, rest = divmod(round(seconds), 60)
    return f"in {minutes}:{rest:02d}"
