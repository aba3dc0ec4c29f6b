"""The latency benchmark: how soon ROI and whole are there, by medroi and by what a site has now.

    python -m tests.bench.latency                  some links of every kind, and the main job
    python -m tests.bench.latency --all            every preset and every recorded link: hours
    python -m tests.bench.latency --link 3g --only medroi --only rsync

Left in out/bench: ``latency.json`` (all figures and the course of every transfer), a picture for
each link. Times count from the start of the sending command; what peers encode beforehand is told
but not counted against them, medroi encodes while it sends. Bytes are what was to be had, and what
crossed the line with every header. PSNR is over the scan's range; 999 stands for exact.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from shared.link import PRESETS
from shared.report import NO_ERROR_DB
from tests.bench.compare import Asked, Compared, Prepared, compare
from tests.bench.main_job import main_job_rows
from tests.bench.peers import medroi
from tests.bench.peers.registry import PEERS, RAW
from tests.bench.peers.scan import read_scan
from tests.bench.plot import plot
from tests.bench.table import Row, bench_folder, publish, scans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.peers.course import Outcome
    from tests.bench.peers.scan import Scan

THIN = "rate=1M,rtt=100ms"
"""The link that figures are asked for."""
SOME_TRACE = "ATT-LTE-driving-2016.up"
TRACED_RTT = "rtt=100ms"
_MAX_POINTS = 300
_DEMO_ROI = "box:9:15,34:56,70:96"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, help="one NIfTI volume of whole numbers")
    parser.add_argument("--roi", help="as medroi-send takes it")
    parser.add_argument(
        "--link", action="append", help="instead of the usual ones; may be repeated"
    )
    parser.add_argument("--all", action="store_true", help="every preset, every recorded link")
    parser.add_argument("--only", action="append", help="peers whose name has this in it")
    parser.add_argument("--runs", type=int, default=3, help="of medroi, over each link")
    parser.add_argument(
        "--main-job-runs", type=int, default=5, help="of issue 2's figures; 0: none"
    )
    parser.add_argument("--congestion", default="", help="of TCP, peers' as well; needs root")
    options = parser.parse_args(arguments)
    data = scans()
    study, roi = _study(options.study, options.roi, data)
    scan = read_scan(study, medroi.roi_boxes(study, roi))
    only = options.only or [""]
    peers = [peer for peer in PEERS if any(word in peer.name for word in only)]
    rows: list[Row] = []
    found: list[Compared] = []
    with Prepared(scan, peers) as prepared:
        for link in options.link or list(_links(data, every=options.all)):
            asked = Asked(scan, roi, link, options.runs, congestion=options.congestion)
            compared = compare(asked, prepared)
            found.append(compared)
            print_table(compared, study)
            plot(compared, bench_folder() / f"latency-{_file_name(link)}.png")
            rows += list(_rows(compared))
    if data is not None and options.main_job_runs:
        rows += main_job_rows(data, options.main_job_runs)
    title = f"Latency of {study.name}"
    more = {"scan": _scan_content(scan), "links": [_content(each) for each in found]}
    return 0 if publish("latency", title, rows, more) else 1


def _study(study: Path | None, roi: str | None, data: Path | None) -> tuple[Path, str]:
    """What is sent: what is asked for, or a brain with its tumour, or what ships with nibabel."""
    if study is not None:
        return study, roi or "tissue"
    if data is not None:
        folder = data / "tumour" / "brats_unknown"
        return folder / "flair.nii.gz", roi or f"mask:{folder / 'truth.nii.gz'}"
    import nibabel

    tests = Path(nibabel.__file__).parent / "tests" / "data"
    return tests / "anatomical.nii", roi or "tissue"


def _links(data: Path | None, *, every: bool) -> Iterator[str]:
    """The links of the issue: thin, mobile, recorded; or all there are."""
    yield THIN
    if not every:
        yield "lte"
        if data is not None:
            yield f"trace:{data / 'traces' / 'mahimahi' / SOME_TRACE},{TRACED_RTT}"
        return
    yield from PRESETS
    if data is not None:
        recorded = sorted((data / "traces").glob("*/*.up")) + sorted(
            (data / "traces").glob("*/*.csv")
        )
        for path in recorded:
            yield f"trace:{path},{TRACED_RTT}"


def _rows(compared: Compared) -> Iterator[Row]:
    """What is asked of medroi over the thin link, and how much sooner it is than each other way."""
    own = compared.outcomes[0]
    asked = compared.link == THIN
    name = _short(compared.link)
    for outcome in compared.outcomes[1:]:
        if outcome.roi_exact_s is None or own.roi_exact_s is None:
            yield Row(f"{name}: ROI exact, against {outcome.name}", "", outcome.note)
            continue
        ratio = outcome.roi_exact_s / own.roi_exact_s
        yield Row(f"{name}: ROI exact sooner than by {outcome.name}", "", f"{ratio:.1f} x")
        if asked and outcome.name == RAW and outcome.whole_exact_s is not None:
            ratio = outcome.whole_exact_s / own.roi_exact_s
            what = f"{name}: ROI exact sooner than {RAW} is done"
            yield Row(what, "at least 50 x", f"{ratio:.1f} x", ratio >= 50)
    if asked:
        yield _roi_row(compared, rate_bps=1e6, rtt_s=0.1)


def _roi_row(compared: Compared, *, rate_bps: float, rtt_s: float) -> Row:
    """Time to ROI exact from connect, against what the link alone would take for it."""
    shares = []
    for report in compared.reports:
        taken_s = report["times_s"]["roi_exact"] - report["times_s"]["connected"]
        least_s = report["bytes"]["roi_exact"] * 8 / rate_bps + 4 * rtt_s
        shares.append(taken_s / least_s)
    median = sorted(shares)[len(shares) // 2]
    what = f"{_short(compared.link)}: ROI exact from connect, over ROI bytes / rate + 4 RTT"
    spread = f"{median:.2f} ({min(shares):.2f}..{max(shares):.2f})"
    return Row(what, "at most 1.25", spread, median <= 1.25)


# -- what is left ---------------------------------------------------------------------------------


def print_table(compared: Compared, study: Path) -> None:
    """Everybody over one link."""
    print(f"\n{study.name} over {_short(compared.link)} ({compared.carried_by})")
    head = ("first whole", "ROI exact", "whole exact", "bytes", "on the line", "prepared in")
    print(f"  {'':<44}" + "".join(f"{title:>13}" for title in head))
    for outcome in compared.outcomes:
        seconds = (outcome.first_whole_s, outcome.roi_exact_s, outcome.whole_exact_s)
        cells = [_seconds(each) for each in seconds]
        cells += [f"{outcome.size_bytes:,}" if outcome.size_bytes else "-"]
        cells += [f"{outcome.line_bytes:,}" if outcome.line_bytes else "-"]
        cells += [_seconds(outcome.prepared_s) if outcome.prepared_s else ""]
        line = f"  {outcome.name:<44}" + "".join(f"{cell:>13}" for cell in cells)
        print(f"{line}  {outcome.note}".rstrip(), flush=True)


def _scan_content(scan: Scan) -> dict[str, object]:
    roi = {"roi_voxels": int(scan.roi.sum())}
    return {"name": scan.path.name, "shape_zyx": list(scan.voxels.shape), **roi}


def _content(compared: Compared) -> dict[str, object]:
    return {
        "link": _short(compared.link),
        "carried_by": compared.carried_by,
        "outcomes": [_outcome_content(outcome) for outcome in compared.outcomes],
    }


def _outcome_content(outcome: Outcome) -> dict[str, object]:
    step = -(-len(outcome.points) // _MAX_POINTS) if outcome.points else 1
    kept = outcome.points[::-1][::step][::-1]  # the last one always
    points = [
        [round(at.at_s, 3), at.size_bytes, _decibels(at.roi_db), _decibels(at.whole_db)]
        for at in kept
    ]
    columns = ["seconds", "bytes", "roi_psnr_db", "whole_psnr_db"]
    return {**asdict(outcome), "columns": columns, "points": points}


def _decibels(decibels: float) -> float:
    return round(decibels, 2) if isfinite(decibels) else NO_ERROR_DB


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _short(link: str) -> str:
    """Without the folder of a trace: reports name no path of a machine."""
    return re.sub(r"trace:[^,]*/", "trace:", link)


def _file_name(link: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", _short(link)).strip("-")


if __name__ == "__main__":
    sys.exit(main())
