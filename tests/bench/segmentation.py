"""ROIs found by the shipped network: what is missed, how large they are, how soon they come.

    python -m tests.bench.segmentation [--scans NAME ...]

Scans that no weights have learnt from; the cross-validation, one network a fold, was run where the
weights were trained and is read from scores.json beside them. Times are those of fresh processes,
from their start to the answer, on whatever this machine does besides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from statistics import mean, median
from typing import TYPE_CHECKING

from sender.segment.train.scans import SCANS, Kind
from sender.segment.train.score import Score, score, table
from sender.segment.unet.network import Network
from sender.segment.unet.weights import FOLDER
from tests.bench.table import Row, publish, scans

if TYPE_CHECKING:
    from pathlib import Path

_RECALL_MEAN, _RECALL_WORST, _SHARE, _DICE = 0.98, 0.95, 0.04, 0.85
_COARSE_S, _FINE_S = 3.0, 6.0
_RUNS = 5
_CLOCK = """
import json, sys, time
began_s = float(sys.argv[1])
from pathlib import Path
from sender.read.source import read_study
from sender.segment.unet.segmenter import UnetSegmenter
(volume,) = read_study([Path(sys.argv[2])], series=None, volume=None).volumes
print(json.dumps([time.time() - began_s for _ in UnetSegmenter().segment(volume)]))
"""


def main() -> int:
    """Score; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", nargs="+", help="only these, by name")
    wanted = parser.parse_args().scans
    data = scans()
    if data is None:
        return 0
    network = Network.shipped()
    unseen = [
        score(scan, data, network)
        for scan in SCANS
        if not scan.learnt and (wanted is None or scan.name in wanted)
    ]
    print(f"shipped weights, scans that nobody learnt from\n\n{table(unseen)}\n")
    tumours = [each for each in unseen if each.kind == Kind.FOREIGN.value]
    rows = _figures("shipped, unseen tumours", tumours) if tumours else []
    known = json.loads((FOLDER / "scores.json").read_text())
    crossed = [Score(**each) for each in known["cross_validated"]]
    print(f"cross-validated by subject, as trained\n\n{table(crossed)}\n")
    rows += _figures("cross-validated FLAIR", [s for s in crossed if s.kind == Kind.FLAIR.value])
    rows += _found("cross-validated, other tumours", [s for s in crossed if s.kind == Kind.OTHER])
    rows += _times(data / "tumour/brats_unknown/flair.nii.gz")
    rows += [_told(each) for each in (*unseen, *crossed)]
    good = publish("segmentation", "Segmentation: what is missed, how large, how soon", rows)
    return 0 if good else 1


def _figures(name: str, scores: list[Score]) -> list[Row]:
    dice = _least(f"{name}: Dice, mean", _DICE, mean(each.dice for each in scores))
    return [*_found(name, scores), dice]


def _found(name: str, scores: list[Score]) -> list[Row]:
    """What is asked of every tumour, whatever the contrast."""
    recalls = [each.recall for each in scores]
    missed = sum(each.missed for each in scores)
    components = sum(each.components for each in scores)
    share = mean(each.roi_share for each in scores)
    times = max(each.roi_to_lesion for each in scores)
    return [
        Row(f"{name}: components over 0.1 ml missed", "0", f"{missed} of {components}", not missed),
        _least(f"{name}: lesion voxels in the ROIs, mean", _RECALL_MEAN, mean(recalls)),
        _least(f"{name}: lesion voxels in the ROIs, worst", _RECALL_WORST, min(recalls)),
        Row(
            f"{name}: ROI of the volume, mean",
            f"{_SHARE:.0%} or 4 x the lesion",
            f"{share:.1%}, at most {times:.1f} x",
            all(each.roi_share <= _SHARE or each.roi_to_lesion <= 4 for each in scores)
            or share <= _SHARE,
        ),
    ]


def _least(name: str, asked: float, found: float) -> Row:
    return Row(name, f">= {asked:.2f}", f"{found:.3f}", found >= asked)


def _told(each: Score) -> Row:
    """A subject, for the file."""
    got = (
        f"missed {each.missed} of {each.components}, in ROI {each.recall:.1%}, ROI "
        f"{each.roi_share:.1%} = {each.roi_to_lesion:.1f} x, Dice {each.dice:.3f}"
    )
    return Row(f"{each.name} ({each.kind}, {each.lesion_ml:.0f} ml)", "", got)


def _times(scan: Path) -> list[Row]:
    """Seconds from the start of a process to the coarse and to the fine answer."""
    runs = []
    for _ in range(_RUNS):
        command = [sys.executable, "-c", _CLOCK, repr(time.time()), str(scan)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        runs.append(json.loads(done.stdout))
    coarse, fine = (median(run[n] for run in runs) for n in (0, -1))
    return [
        Row("first coarse boxes, 240x240x155 FLAIR", f"<= {_COARSE_S} s", f"{coarse:.2f} s",
            coarse <= _COARSE_S),
        Row("boxes, 240x240x155 FLAIR", f"<= {_FINE_S} s", f"{fine:.2f} s", fine <= _FINE_S),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
