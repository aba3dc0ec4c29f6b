"""How a picture grows: what had come when, how good ROI and whole were by then.

Everybody is judged alike: at the clinic, a plane is shown as soon as its bytes are there, decoding
takes no time, and what is missing is as the smallest value of the scan. So a peer without a viewer
that shows what has come is given one here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tests.bench.peers.scan import Scan

USABLE_DB = 30.0
"""The lowest quality of a whole picture that counts as one: PSNR over the scan's range."""
UNPROVEN_DB = 99.0
"""Shown for a picture in which no error is seen as long as part of it has not come."""


@dataclass(frozen=True)
class Piece:
    """Something arrives, and with it planes can be shown, or shown better."""

    at_s: float
    """Since the transfer was started."""
    size_bytes: int
    planes: Mapping[int, NDArray[Any]]
    """(y, x) stored values, by z."""


@dataclass(frozen=True)
class Point:
    """How things stood at one moment."""

    at_s: float
    size_bytes: int
    roi_db: float
    whole_db: float


@dataclass
class Outcome:
    """One transfer, by one way."""

    name: str
    note: str = ""
    """Such as what was left out, and why."""
    first_whole_s: float | None = None
    """Every plane is there, at `USABLE_DB` or better."""
    roi_exact_s: float | None = None
    whole_exact_s: float | None = None
    size_bytes: int = 0
    """Of what was to be had from it."""
    line_bytes: int | None = None
    """Towards the clinic, with all headers; None where nobody counted."""
    line_late_ms: float | None = None
    """By how much the emulator itself was late with a packet, mean: what a busy machine adds."""
    prepared_s: float = 0.0
    """For encoding beforehand; not in any time above."""
    points: list[Point] = field(default_factory=list)


class Watched:
    """The picture at the clinic; give it pieces in the order of their arrival."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._axes = (1, 2)
        depth = scan.voxels.shape[0]
        least = int(scan.voxels.min())
        missing = np.square((scan.voxels - least).astype(np.int64))
        self._whole_error = missing.sum(axis=self._axes)
        self._roi_error = (missing * scan.roi).sum(axis=self._axes)
        self._shown = np.zeros(depth, bool)
        self._in_roi = scan.roi.any(axis=self._axes)
        self._roi_voxels = int(scan.roi.sum())

    def show(self, planes: Mapping[int, NDArray[Any]]) -> None:
        """These planes are there, or better than before."""
        for z, plane in planes.items():
            error = np.square(plane.astype(np.int64) - self._scan.voxels[z])
            self._whole_error[z] = error.sum()
            self._roi_error[z] = error[self._scan.roi[z]].sum()
            self._shown[z] = True

    def point(self, at_s: float, size_bytes: int) -> Point:
        """How good it is now. An infinite PSNR is given only for planes that have come."""
        whole_db = self._scan.psnr_db(float(self._whole_error.sum()), self._scan.voxels.size)
        roi_db = self._scan.psnr_db(float(self._roi_error.sum()), max(1, self._roi_voxels))
        if not self._shown[self._in_roi].all():
            roi_db = min(roi_db, UNPROVEN_DB)
        if not self._shown.all():
            whole_db = min(whole_db, UNPROVEN_DB)
        return Point(at_s, size_bytes, roi_db, whole_db)

    @property
    def has_all(self) -> bool:
        """Whether every plane has been shown."""
        return bool(self._shown.all())


def judge(name: str, scan: Scan, pieces: Iterable[Piece]) -> Outcome:
    """The outcome of a transfer, from what arrived."""
    watched, outcome = Watched(scan), Outcome(name)
    for piece in sorted(pieces, key=lambda piece: piece.at_s):
        outcome.size_bytes += piece.size_bytes
        watched.show(piece.planes)
        point = watched.point(piece.at_s, outcome.size_bytes)
        outcome.points.append(point)
        if watched.has_all and point.whole_db >= USABLE_DB:
            outcome.first_whole_s = _first(outcome.first_whole_s, piece.at_s)
        if point.roi_db == inf:
            outcome.roi_exact_s = _first(outcome.roi_exact_s, piece.at_s)
        if point.whole_db == inf:
            outcome.whole_exact_s = _first(outcome.whole_exact_s, piece.at_s)
    return outcome


def _first(before_s: float | None, now_s: float) -> float:
    return now_s if before_s is None else before_s
