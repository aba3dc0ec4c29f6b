from __future__ import annotations

import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests.bench.peers.scans import small_scan
from tests.bench.peers.web import (
    Fetch,
    Htj2kDownload,
    _inflated,
    _requests,
    decode_resolutions,
    resolution_ends,
)


@pytest.fixture
def stream(tmp_path: Path) -> bytes:
    plane = small_scan(tmp_path).samples()[5]
    parts = imagecodecs.HTJ2K.TILEPART.RESOLUTIONS
    return bytes(
        imagecodecs.htj2k_encode(plane, reversible=True, resolutions=5, tilepart=parts, tlm=True)
    )


def test_a_codestream_has_one_part_for_each_resolution(stream: bytes) -> None:
    ends = resolution_ends(stream)
    assert len(ends) == 6
    assert ends == sorted(set(ends))
    assert ends[-1] == len(stream)


def test_more_resolutions_are_better_and_all_are_exact(tmp_path: Path, stream: bytes) -> None:
    scan = small_scan(tmp_path)
    ends, errors = resolution_ends(stream), []
    for resolutions in range(3, 7):
        plane = decode_resolutions(stream[: ends[resolutions - 1]], resolutions, (64, 48))
        assert plane.shape == (64, 48)
        errors.append(float(np.square(plane - scan.voxels[5]).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0
    assert errors[0] < np.square(scan.voxels[5]).mean() / 4


def test_planes_of_a_volume_are_there_as_its_stream_grows(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    packer = zlib.compressobj(6, wbits=31)
    content = packer.compress(scan.path.read_bytes()) + packer.flush()
    sizes = [0, 100, len(content) // 2, len(content) - 1, len(content)]
    seen = [(float(place), size) for place, size in enumerate(sizes)]
    pieces = list(_inflated(scan, content, seen))
    assert sum(piece.size_bytes for piece in pieces) == len(content)
    planes = {z: plane for piece in pieces for z, plane in piece.planes.items()}
    assert sorted(planes) == list(range(12))
    assert all((plane == scan.voxels[z]).all() for z, plane in planes.items())
    assert 0 < len(pieces[1].planes) < 12


def test_a_request_is_asked_for_with_its_range() -> None:
    fetches = [Fetch("0000", Path("a")), Fetch("0001", Path("b"), (100, 300))]
    text = _requests("https://10.77.0.1:8443", fetches)
    assert 'url = "https://10.77.0.1:8443/0001"' in text
    assert 'range = "100-299"' in text
    assert text.count("next") == 1


def test_a_progressive_viewer_asks_for_every_plane_coarsely_first(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    peer = Htj2kDownload()
    peer.prepare(scan, tmp_path)
    assert len(list((tmp_path / "in").iterdir())) == 12
