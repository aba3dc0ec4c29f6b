from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from sender.read.source import read_study
from tests.bench.peers.instances import write_jpeg2000, write_jpegls, write_raw
from tests.bench.peers.scans import small_scan
from tests.bench.peers.tools import PeerMissing, tool

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("least", [0, -1000])
def test_medroi_reads_the_instances_as_the_scan_that_they_were_made_of(
    tmp_path: Path, least: int
) -> None:
    scan = small_scan(tmp_path, least=least)
    write_raw(scan, tmp_path / "raw")
    (volume,) = read_study([tmp_path / "raw"], series=None, volume=None).volumes
    # DICOM's planes run from the feet to the head, and so do these.
    assert (np.asarray(volume.voxels) == scan.voxels).all()
    affine = np.reshape(volume.header.affine, (4, 4))
    assert np.allclose(affine, scan.affine, atol=1e-3)


@pytest.mark.parametrize("least", [0, -1000])
def test_compressed_instances_hold_the_same_voxels(tmp_path: Path, least: int) -> None:
    scan = small_scan(tmp_path, least=least)
    raw = write_raw(scan, tmp_path / "raw")
    written = [write_jpeg2000(scan, tmp_path / "j2k")]
    try:
        tool("dcmcjpls")
        written.append(write_jpegls(raw, tmp_path / "jls"))
    except PeerMissing as missing:
        print(f"left out: {missing}")
    for paths in written:
        for z, path in enumerate(paths):
            instance = dcmread(path)
            assert instance.file_meta.TransferSyntaxUID.is_compressed
            assert path.stat().st_size < raw[z].stat().st_size
            assert (instance.pixel_array == scan.voxels[z]).all()


def test_instances_are_told_apart_and_belong_together(tmp_path: Path) -> None:
    paths = write_raw(small_scan(tmp_path), tmp_path / "raw")
    instances = [dcmread(path, stop_before_pixels=True) for path in paths]
    assert len({instance.SOPInstanceUID for instance in instances}) == len(paths)
    assert len({instance.SeriesInstanceUID for instance in instances}) == 1
    assert [instance.InstanceNumber for instance in instances] == list(range(1, len(paths) + 1))
