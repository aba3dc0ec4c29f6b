from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.errors import InputError
from tests.bench.peers.scan import nifti_layout, read_scan
from tests.bench.peers.scans import BOXES, SHAPE, small_scan
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def test_a_scan_has_its_voxels_its_roi_and_its_range(tmp_path: Path) -> None:
    scan = small_scan(tmp_path, least=-7)
    assert scan.voxels.shape == SHAPE
    assert scan.roi.sum() == 3 * 20 * 20
    assert scan.roi[4:7, 20:40, 10:30].all()
    assert scan.samples().min() == 0
    assert (scan.samples() - 7 == scan.voxels.astype(np.uint16)).all()
    assert scan.raw_bytes == 2 * 12 * 64 * 48


def test_psnr_is_over_the_range(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    assert scan.psnr_db(scan.value_range**2 * 5, 5) == 0.0
    assert scan.psnr_db(scan.value_range**2, 1000) == pytest.approx(30.0)
    assert scan.psnr_db(0.0, 1) == inf


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((3, 4, 5), "<f4"),
        np.zeros((3, 4, 5), "<i2"),
        np.array([-32768, 32767] * 4, "<i2").reshape(2, 2, 2),
        np.zeros((2, 3, 4, 5), "<i2"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, voxels: NDArray[np.generic]) -> None:
    path = tmp_path / "odd.nii"
    path.write_bytes(nifti(voxels))
    with pytest.raises(InputError, match="the comparison wants"):
        read_scan(path, BOXES)


@pytest.mark.parametrize("kind", ["<i2", ">i2", "<u2", "u1"])
def test_the_layout_of_a_file_is_read_from_its_header(kind: str) -> None:
    content = nifti(np.ones((2, 3, 4), kind))
    offset, found = nifti_layout(content[:352])
    assert (offset, found.newbyteorder("=")) == (352, np.dtype(kind).newbyteorder("="))
    assert (np.frombuffer(content[offset:], found) == 1).all()
