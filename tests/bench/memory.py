"""Peak memory of both ends, summed over their processes, for a brain and for a large CT.

    python -m tests.bench.memory [--slices 1000]

The large CT is made from a small real one (pydicom's CT_small), tiled and given noise, so that it
compresses like one and no two slices are the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.bench.table import Row, publish, scans
from tests.commands import Receiver, command, environment

_ASKED_MB, _PER_VOLUME = 400, 2
_EVERY_S = 0.02


def main() -> int:
    """Measure; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=1000)
    slices = parser.parse_args().slices
    rows: list[Row] = []
    data = scans()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if data is not None:
            brain = data / "tumour" / "brats_unknown"
            rows += _rows(
                folder,
                "brats_unknown FLAIR",
                brain / "flair.nii.gz",
                f"mask:{brain / 'truth.nii.gz'}",
                240 * 240 * 155 * 2,
            )
        large = make_ct(folder / "ct.nii", slices)
        half = slices // 2
        rows += _rows(
            folder,
            f"CT 512 x 512 x {slices}",
            large,
            f"box:{half}:{half + 40},200:280,200:280",
            512 * 512 * slices * 2,
        )
    title = (
        f"Peak RSS of each end, all its processes ({_ASKED_MB} MB + {_PER_VOLUME} x volume asked)"
    )
    return 0 if publish("memory", title, rows) else 1


def make_ct(path: Path, slices: int) -> Path:
    """A large CT as an uncompressed NIfTI file, written a slice at a time."""
    small = dcmread(str(get_testdata_file("CT_small.dcm"))).pixel_array.astype(np.int16)
    tile = np.tile(small, (4, 4))
    header: Any = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, slices))
    header.set_sform(np.diag([0.7, 0.7, 0.6, 1.0]), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for z in range(slices):
            noise = random.integers(-4, 5, tile.shape, dtype=np.int16)
            file.write((np.roll(tile, (z // 3, z), (0, 1)) + noise).astype("<i2").tobytes())
    return path


def _rows(folder: Path, name: str, study: Path, roi: str, volume_bytes: int) -> list[Row]:
    """Send it without a link, as fast as both ends can, and watch."""
    limit = _ASKED_MB * 10**6 + _PER_VOLUME * volume_bytes
    with Receiver(folder / name.replace(" ", "_")) as receiver:
        assert receiver.process is not None
        time.sleep(1.0)
        start_s = time.monotonic()
        sending = subprocess.Popen(
            command("sender.cli", study, "--roi", roi, "--to", receiver.url, "-q"),
            env=environment(),
        )
        peaks = {"sender": 0, "receiver": 0}
        while sending.poll() is None:
            for end, process in (("sender", sending.pid), ("receiver", receiver.process.pid)):
                peaks[end] = max(peaks[end], resident_bytes(process))
            time.sleep(_EVERY_S)
        taken_s = time.monotonic() - start_s
        if sending.returncode != 0 or receiver.wait() != 0 or not receiver.report()["exact"]:
            raise RuntimeError(f"{name} did not arrive")
    asked = f"under {limit / 1e6:.0f} MB"
    return [
        *(
            Row(f"{name}: {end}", asked, f"{peak / 1e6:.0f} MB", peak < limit)
            for end, peak in peaks.items()
        ),
        Row(f"{name}: whole transfer, no link", "", f"{taken_s:.1f} s"),
    ]


def resident_bytes(process: int) -> int:
    """RSS of a process and of all below it, shared pages counted in each; 0 once it is gone."""
    total = 0
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total = int(line.split()[1]) * 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += resident_bytes(int(child))
    except OSError:
        return total
    return total


if __name__ == "__main__":
    sys.exit(main())
