"""A small scan for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.bench.peers.scan import Scan, read_scan
from tests.sender.read.files import nifti
from tests.sender.studies import brain

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (12, 64, 48)
BOXES = [[[4, 7], [20, 40], [10, 30]]]


def small_scan(folder: Path, *, least: int = 0) -> Scan:
    """A head of a dozen planes, in a file; its smallest value as asked."""
    voxels = brain(SHAPE, seed=1).astype("<i2")
    path = folder / "head.nii"
    path.write_bytes(nifti((voxels - voxels.min() + least).astype("<i2")))
    scan = read_scan(path, BOXES)
    assert scan.voxels.min() == least
    assert np.ptp(scan.voxels) > 200
    return scan
