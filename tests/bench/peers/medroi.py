"""medroi itself, by its own commands; what the clinic sees is read from the growing volume."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from sender.prepare import prepare_study
from sender.settings import SendSettings
from shared.layer import RegionKind
from shared.report import box_rows
from tests.bench.peers.course import UNPROVEN_DB, USABLE_DB, Outcome, Point, Watched
from tests.bench.peers.scan import nifti_layout
from tests.commands import Receiver, command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.peers.scan import Scan
    from tests.emulator.relayed import AnyLink

NAME = "medroi"
_SETTLE_S = 1.0
"""A clinic's receiver has been waiting for a while: its decoders are warm."""
_LOOK_S = 0.2
_LOOK_SHARE = 10
"""Looking at the volume takes at most a tenth of one core."""


@dataclass(frozen=True)
class Look:
    """The growing volume at one moment."""

    at_s: float
    roi_db: float
    whole_db: float
    shows_all: bool
    """No voxel is missing."""


def roi_boxes(study: Path, roi: str) -> list[list[list[int]]]:
    """What medroi will make exact first, as its reports have it."""
    prepared = prepare_study([study], SendSettings(roi=roi), series=None, volume=None)
    regions = prepared.series[0].plan.regions
    return [box_rows(region.box) for region in regions if region.kind is RegionKind.ROI]


def transfer(
    link: AnyLink, scan: Scan, roi: str, folder: Path, limit_s: float
) -> tuple[Outcome, dict[str, Any]]:
    """Send the scan once; the outcome and the sender's report.

    Raises:
        RuntimeError: it did not arrive exact within the limit.
    """
    place = link.clinic
    with Receiver(folder, host=place.plain_address, place=place.command) as receiver:
        time.sleep(_SETTLE_S)
        parts = urlsplit(receiver.url)
        host, port = link.reach(parts.port or 0, plain=True)
        url = receiver.url.replace(parts.netloc, f"{host}:{port}")
        report_path = folder / "send.json"
        began_s = time.monotonic()
        sending = link.site.popen(
            command(
                "sender.cli",
                scan.path,
                *("--roi", roi, "--to", url, "--report", report_path, "--quiet"),
            )
        )
        looks = _look_on(sending, scan, receiver.out, began_s, limit_s)
        if sending.wait() != 0 or receiver.wait() != 0:
            raise RuntimeError(f"medroi did not deliver within {limit_s:.0f} s")
    report: dict[str, Any] = json.loads(report_path.read_text())
    return _outcome(report, looks, Watched(scan).point(0.0, 0)), report


def _look_on(
    sending: subprocess.Popen[str], scan: Scan, out: Path, began_s: float, limit_s: float
) -> list[Look]:
    """How good the volume is, now and then, until the sender has ended."""
    looks: list[Look] = []
    while sending.poll() is None:
        looked_s, worked_s = time.monotonic(), time.thread_time()
        if looked_s - began_s > limit_s:
            sending.kill()
        if (found := _look(scan, out)) is not None:
            looks.append(Look(looked_s - began_s, *found))
        time.sleep(max(_LOOK_S, _LOOK_SHARE * (time.thread_time() - worked_s)))
    return looks


def _look(scan: Scan, out: Path) -> tuple[float, float, bool] | None:
    """What there is to see of the volume that grows there; None while there is none."""
    partial = next(out.glob("*/series-1.partial.nii"), None)
    if partial is None:
        return None
    quality = partial.with_name("series-1.partial.quality.nii")
    try:
        with partial.open("rb") as file:
            offset, kind = nifti_layout(file.read(352))
            file.seek(offset)
            voxels = np.fromfile(file, kind, scan.voxels.size).astype(np.float32)
        levels = np.fromfile(quality, np.uint8, scan.voxels.size, offset=352)
    except FileNotFoundError:  # it has been finished this moment
        return None
    if voxels.size < scan.voxels.size or levels.size < scan.voxels.size:
        return None
    voxels[levels == 0] = scan.voxels.min()  # missing, as it is judged for everybody
    error = voxels - scan.voxels.ravel()
    of_roi = error[scan.roi.ravel()]
    roi_db = scan.psnr_db(float(np.dot(of_roi, of_roi)), max(1, of_roi.size))
    whole_db = scan.psnr_db(float(np.dot(error, error)), error.size)
    return roi_db, whole_db, bool(levels.all())


def _outcome(report: dict[str, Any], looks: list[Look], start: Point) -> Outcome:
    """From the sender's report, what was seen meanwhile, and how good nothing at all is."""
    times: dict[str, float] = report["times_s"]
    usable = (look.at_s for look in looks if look.shows_all and look.whole_db >= USABLE_DB)
    preview_s, preview_db = times.get("whole_preview"), report["psnr_db"].get("whole_preview")
    if preview_s is None or preview_db is None or preview_db < USABLE_DB:
        preview_s = next(usable, times["whole_exact"])
    link = report["link"]
    return Outcome(
        NAME,
        note=f"{link['transport']}, {link['congestion']}, connected at {times['connected']:.2f} s",
        first_whole_s=preview_s,
        roi_exact_s=times["roi_exact"],
        whole_exact_s=times["whole_exact"],
        size_bytes=report["bytes"]["wire"],
        points=list(_points(report, looks, start)),
    )


def _points(report: dict[str, Any], looks: list[Look], start: Point) -> Iterator[Point]:
    """The course: bytes as the sender saw them go, quality as it was looked at, and as proven.

    Quality never falls, so what was seen or said last still holds.
    """
    times: dict[str, float | None] = report["times_s"]
    psnr: dict[str, float | None] = report["psnr_db"]
    wire: int = report["bytes"]["wire"]
    # (when, PSNR of the ROI, of the whole, bytes): 0 where a moment says nothing of it.
    moments = [
        (look.at_s, min(look.roi_db, UNPROVEN_DB), min(look.whole_db, UNPROVEN_DB), 0.0)
        for look in looks
    ]
    for name, of_roi in (("roi_preview", True), ("whole_preview", False)):
        at_s, decibels = times.get(name), psnr.get(name)
        if at_s is not None and decibels is not None:
            moments.append((at_s, decibels if of_roi else 0.0, 0.0 if of_roi else decibels, 0.0))
    moments += [(at_s, 0.0, 0.0, sent) for at_s, _, _, sent in report["course"]]
    ends_s = times["whole_exact"]
    assert ends_s is not None
    moments += [(times["roi_exact"] or ends_s, inf, 0.0, 0.0), (ends_s, inf, inf, wire)]
    roi_db, whole_db, size_bytes = start.roi_db, start.whole_db, 0.0
    for at_s, roi, whole, size in sorted(moments):
        roi_db, whole_db, size_bytes = max(roi_db, roi), max(whole_db, whole), max(size_bytes, size)
        if at_s <= ends_s:
            yield Point(at_s, int(size_bytes), roi_db, whole_db)
