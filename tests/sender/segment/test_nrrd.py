from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.nrrd import open_nrrd
from sender.segment.supplied import open_supplied
from shared.errors import InputError
from tests.sender.segment.volumes import OBLIQUE, read_scan, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LABELS = np.zeros((3, 4, 5), np.uint8)
LABELS[1, 2, 3], LABELS[2, 0, 0] = 4, 1


def header(space: str = "left-posterior-superior", **changes: str) -> str:
    lps = OBLIQUE.copy()
    if space == "left-posterior-superior":
        lps[:2] *= -1
    vectors = [f"({','.join(map(repr, map(float, lps[:3, axis])))})" for axis in range(4)]
    fields = {
        "type": "uint8",
        "dimension": "3",
        "space": space,
        "sizes": "5 4 3",
        "space directions": " ".join(vectors[:3]),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": vectors[3],
    }
    fields.update({name.replace("_", " "): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return "\n".join(["NRRD0004", "# a comment", *lines, "Segment0_Name:=core",
                      "Segment0_LabelValue:=4", "", ""])  # fmt: skip


def written(path: Path, labels: NDArray[np.generic] = LABELS, **changes: str) -> Path:
    content = labels.tobytes()
    if changes.get("encoding") == "gzip":
        content = gzip.compress(content)
    path.write_bytes(header(**changes).encode() + content)
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
def test_it_lies_on_its_scan_whatever_its_space_and_encoding(
    tmp_path: Path, encoding: str, space: str
) -> None:
    source = open_supplied(written(tmp_path / "a.nrrd", encoding=encoding, space=space))
    series = volume_of(np.zeros(LABELS.shape, np.int16)).header
    assert source.native(series)
    np.testing.assert_array_equal(source.drawn_on(series, None).marked, LABELS > 0)
    np.testing.assert_array_equal(source.drawn_on(series, frozenset({4})).marked, LABELS == 4)
    assert source.names == {4: "core"}


def test_big_endian_labels_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nrrd", LABELS.astype(">i2"), type="short", endian="big")
    np.testing.assert_array_equal(open_nrrd(path).load(frozenset({1})), LABELS == 1)


def test_layers_of_segments_that_overlap_are_all_read(tmp_path: Path) -> None:
    layers = np.stack([LABELS == 4, LABELS > 0], axis=-1).astype(np.uint8)
    directions = "none " + header().split("space directions: ")[1].split("\n")[0]
    path = written(
        tmp_path / "a.seg.nrrd", layers, dimension="4", sizes="2 5 4 3", space_directions=directions
    )
    np.testing.assert_array_equal(open_nrrd(path).load(None), LABELS > 0)


def test_without_a_place_it_lies_nowhere(tmp_path: Path) -> None:
    assert open_nrrd(written(tmp_path / "a.nrrd", space="")).grid.affine is None
    assert open_nrrd(written(tmp_path / "b.nrrd", space_origin="")).grid.affine is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": "float"}, "whole numbers expected"),
        ({"sizes": "5 4"}, "three axes"),
        ({"sizes": "5 4 99999999999"}, "axis of"),
        ({"sizes": "16000 16000 16000"}, "too many"),
        ({"sizes": "5 4 -3"}, "three axes"),
        ({"encoding": "bzip2"}, "encoding"),
        ({"endian": "middle"}, "endian"),
        ({"data_file": "other.raw"}, "data file"),
        ({"space_directions": "(1,0,0) (0,1,0)"}, "space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) (nan,0,1)"}, "no vector"),
        ({"space_directions": "(1,0,0) (0,1,0) (1,1,0)"}, "in a plane"),
    ],
)
def test_what_is_not_read_is_refused_with_its_reason(
    tmp_path: Path, changes: dict[str, str], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        open_nrrd(written(tmp_path / "a.nrrd", LABELS, **changes))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_voxels_that_end_early_and_bombs_are_refused(tmp_path: Path, encoding: str) -> None:
    short = written(tmp_path / "a.nrrd", LABELS[:2], encoding=encoding)
    with pytest.raises(InputError, match="40 bytes of voxels, not 60"):
        open_nrrd(short).load(None)
    long = written(tmp_path / "b.nrrd", np.ones((99, 400, 500), np.uint8), encoding=encoding)
    assert open_nrrd(long).load(None).shape == (3, 4, 5)  # no more than its header says


def test_a_header_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"NRRD0004\ntype: uint8\n")
    with pytest.raises(InputError, match="without its end"):
        open_nrrd(path)


def test_a_real_label_map_lies_on_its_scan(scans: Path) -> None:
    volume = read_scan(scans / "ct/dicom/ge_abdomen_3slice")
    source = open_supplied(scans / "ct/dicom/ge_abdomen_3slice_liver_seg.nrrd")
    assert source.native(volume.header)
    assert source.drawn_on(volume.header, None).marked.sum() > 10_000
