"""The report that either end leaves of one study: JSON, version 1.

    study      hex digest, the same at both ends       exact      every voxel proven
    shape      [z, y, x] of the first series           sha256     of the volume (`volume_digest`)
    roi        boxes [[z0, z1], [y0, y1], [x0, x1]]    times_s    since the process was started
    bytes      encoded, by stage, and in all           psnr_db    of each preview (sender)

A field that one end cannot know is null there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from shared.software import SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shared.geometry import Box

VERSION = 1
TIMES = ("connected", "roi_preview", "roi_exact", "whole_preview", "whole_exact")
NO_ERROR_DB = 999.0


@dataclass(frozen=True, slots=True)
class RoiReport:
    """What was to be exact first."""

    boxes: list[list[list[int]]]
    voxels: int
    labels: list[str]
    reason: str | None = None
    """How it was found; the sender knows."""


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """One series of the study."""

    label: str
    shape: list[int]
    dtype: str
    exact: bool
    sha256: str | None
    """`shared.volume.volume_digest`; at the receiver only once it is proven."""
    roi: RoiReport
    remarks: list[str]
    discarded_voxels: int
    psnr_db: dict[str, float | None] = field(default_factory=dict)
    max_error: dict[str, float | None] = field(default_factory=dict)
    """Largest absolute error of each preview; null where a voxel is not a finite number."""
    output: str | None = None
    """The written file; the receiver knows."""


@dataclass(frozen=True, slots=True)
class Report:
    """One study at one end. The fields of the first series stand at the top as well."""

    end: str
    outcome: str
    """One sentence: how it ended."""
    exit_code: int
    study: str | None
    exact: bool
    sha256: str | None
    """Of the only series, or of the digests of all of them (then it is ``study``)."""
    bytes: dict[str, int]
    times_s: dict[str, float | None]
    link: dict[str, float | str | None]
    codecs: dict[str, str]
    series: list[SeriesReport]
    quarantined: int = 0
    """Pieces that proved wrong, were kept aside and came again; the receiver knows."""
    left_out: list[str] = field(default_factory=list)
    course: list[tuple[float, float, float, int]] = field(default_factory=list)
    """`shared.timeline.Course.points`; the sender knows."""

    def as_json(self) -> str:
        """The report's text."""
        first = asdict(self.series[0]) if self.series else {}
        top = {name: first.get(name) for name in ("shape", "dtype", "roi", "psnr_db")}
        content = {"version": VERSION, "software": SOFTWARE, **asdict(self), **top}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_report(report: Report, path: Path) -> None:
    """Write it whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(report.as_json())
    os.replace(part, path)


def box_rows(box: Box) -> list[list[int]]:
    """A box as a report has it: [[z0, z1], [y0, y1], [x0, x1]]."""
    return [[low, high] for low, high in zip(box.start, box.stop, strict=True)]


def times_of(marks: Mapping[str, float]) -> dict[str, float | None]:
    """Every mark a report names, null where it was not reached."""
    return {name: round(marks[name], 4) if name in marks else None for name in TIMES}


def dtype_name(dtype: str) -> str:
    """A stored type without its byte order, such as ``int16``."""
    return np.dtype(dtype).name


def total_bytes(by_stage: Mapping[str, int], wire_bytes: int) -> dict[str, int]:
    """Encoded bytes by stage, their sum as ``total``, and all frame bytes as ``wire``."""
    return {**by_stage, "total": sum(by_stage.values()), "wire": wire_bytes}


def decibels(psnr_db: float) -> float | None:
    """For JSON, which has no infinity: `NO_ERROR_DB` for a preview without any error, null for one
    whose error is beyond numbers."""
    if isfinite(psnr_db):
        return round(psnr_db, 2)
    return NO_ERROR_DB if psnr_db > 0 else None
