"""Is the schedule's own choice of exact codec as quick as the best fixed one, at every rate?

    python -m tests.bench adaptation [--times 9] [--rates 1M,100M]

The real commands on this machine, the sender's traffic shaped by the relay; the same plan, from
connected until the whole study is proven at the clinic, median. Thin rates send fewer slices, so
that each takes seconds, but no fewer than sixteen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from shared.link import parse_link
from tests.bench.table import Row, publish, scans
from tests.commands import Receiver, send

if TYPE_CHECKING:
    from collections.abc import Sequence

RATES = "64k,256k,1M,5M,20M,100M,1G"
FIXED = ("causal3d", "jpegxl", "jpegls", "htj2k", "zstd")
_BITS_PER_VOXEL = 2.5
_SECONDS = 8.0
_PLANE_VOXELS = 240 * 240
_LEAST_SLICES = 16
_NEAR_BPS = 20e6
_NEAR, _FAR = 0.05, 0.15
_TURNS_FOR_ALL = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a rate misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rates", default=RATES)
    options = parser.parse_args(arguments)
    folder = scans()
    if folder is None:
        print("adaptation: left out, the development scans are not on this machine")
        return 0
    scan = sorted(folder.glob("tumour/**/*flair.nii*"))[0]
    rows = [_row(scan, rate, options.times) for rate in options.rates.split(",")]
    return 0 if publish("adaptation", "Choice of the exact codec by the rate", rows) else 1


def _row(scan: Path, rate: str, times: int) -> Row:
    rate_bps = parse_link(f"rate={rate}").rate_bps
    slices = int(_SECONDS * rate_bps / _BITS_PER_VOXEL / _PLANE_VOXELS)
    with tempfile.TemporaryDirectory() as name:
        study = _slab(scan, max(_LEAST_SLICES, min(155, slices)), Path(name))
        # In turns, so that whatever else the machine does befalls all of them.
        took: dict[str, list[float]] = {codec: [] for codec in ("auto", *FIXED)}
        for _ in range(times):
            for codec, found in took.items():
                found.append(_seconds(study, rate, codec, Path(name)))
            took = _still_in_the_race(took)
    medians = {codec: statistics.median(found) for codec, found in took.items()}
    best = min(medians.keys() - {"auto"}, key=lambda codec: medians[codec])
    worse = medians["auto"] / medians[best] - 1
    allowed = _NEAR if rate_bps <= _NEAR_BPS else _FAR
    got = f"{worse:+.1%} ({medians['auto']:.2f} s; {best} {medians[best]:.2f} s)"
    return Row(
        f"{rate}bit/s, whole exact against the best fixed codec",
        f"within {allowed:.0%}",
        got,
        worse <= allowed,
    )


def _still_in_the_race(took: dict[str, list[float]]) -> dict[str, list[float]]:
    """Without the fixed codecs that were never within a tenth of the best one's worst turn."""
    fixed = [found for codec, found in took.items() if codec != "auto"]
    best = min(fixed, key=statistics.median)
    if len(best) < _TURNS_FOR_ALL:
        return took
    limit = max(best) * 1.1
    return {codec: found for codec, found in took.items() if codec == "auto" or min(found) <= limit}


def _slab(scan: Path, slices: int, folder: Path) -> Path:
    image: Any = nibabel.load(scan)
    middle = image.shape[2] // 2
    start = max(0, middle - slices // 2)
    voxels = np.asarray(image.dataobj.get_unscaled())[:, :, start : start + slices]
    path = folder / "slab.nii"
    kind: Any = nibabel.Nifti1Image
    nibabel.save(kind(voxels, image.affine, dtype=voxels.dtype), path)
    return path


def _seconds(study: Path, rate: str, codec: str, folder: Path) -> float:
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Receiver(Path(place) / "clinic") as clinic,
    ):
        flags = ("--roi", "tissue", "--exact-codec", codec, "--quiet", "--spool", place)
        sent = send(
            clinic.url, study, *flags, "--link", f"rate={rate},rtt=20ms", folder=Path(place)
        )
        if sent.code != 0:
            raise RuntimeError(sent.stderr)
    times = sent.report["times_s"]
    return float(times["whole_exact"] - times["connected"])


if __name__ == "__main__":
    sys.exit(main())
