from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from receiver.compose import GrowingVolume
from receiver.planes import Plane, take_planes
from shared.geometry import Box
from shared.layer import Quality, Region, RegionKind
from tests.receiver.studies import AFFINE, PLAN, entry_of, series_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.geometry import Affine, Triple

SHAPE = (5, 7, 9)
ROI = Box((1, 2, 5), (3, 6, 8))
ORDERS = [
    (order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
"""Which RAS axis each of the voxel axes (x, y, z) runs along, and which way."""
AWAY = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "H": (0, 0, 1),
    "F": (0, 0, -1),
}


def affine_of(order: tuple[int, ...], signs: tuple[int, ...]) -> Affine:
    matrix = np.zeros((4, 4))
    for axis, (to, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[to, axis] = sign * (axis + 1.0)
    matrix[:3, 3], matrix[3, 3] = (10, 20, 30), 1
    return tuple(matrix.reshape(-1).tolist())


def volume_of(
    folder: Path,
    shape: Triple = SHAPE,
    affine: Affine = AFFINE,
    *,
    roi: Box | None = ROI,
    known: bool = True,
    dtype: str = "<i2",
) -> GrowingVolume:
    """Every voxel's value is its index."""
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    header = replace(series_header(shape, dtype, affine), affine_known=known)
    volume = GrowingVolume(folder, "series-1", entry_of(header, voxels))
    regions = [Region("background", RegionKind.BACKGROUND, Box.whole(shape))]
    if roi is not None:
        regions.insert(0, Region("roi0", RegionKind.ROI, roi))
    volume.set_plan(replace(PLAN, regions=tuple(regions)))
    volume.files.voxels[...] = voxels
    volume.files.quality[...] = voxels % 6
    return volume


def places(plane: Plane, affine: Affine, shape: Triple = SHAPE) -> NDArray[np.float64]:
    """(rows, columns, 3): where each pixel lies in the patient, from its value."""
    z, y, x = np.unravel_index(np.asarray(plane.values, int), shape)
    matrix = np.reshape(affine, (4, 4))
    voxels = np.stack([x, y, z, np.ones_like(x)], axis=-1)
    return np.asarray((voxels @ matrix.T)[..., :3], float)


@pytest.mark.parametrize(("order", "signs"), ORDERS, ids=str)
def test_planes_hang_as_they_are_read_whatever_the_order_of_the_axes(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """Head or front up, patient's right or front on the left; letters say where pixels lie."""
    affine = affine_of(order, signs)
    planes = take_planes(volume_of(tmp_path, affine=affine))
    assert {plane.sides for plane in planes} == {
        ("A", "P", "R", "L"),
        ("H", "F", "R", "L"),
        ("H", "F", "A", "P"),
    }
    for plane in planes:
        where = places(plane, affine)
        top, _, left, _ = plane.sides
        up, over = where[0, 0] - where[-1, 0], where[0, 0] - where[0, -1]
        assert np.array_equal(up / np.linalg.norm(up), AWAY[top])
        assert np.array_equal(over / np.linalg.norm(over), AWAY[left])
        steps_mm = (
            np.linalg.norm(where[1, 0] - where[0, 0]),
            np.linalg.norm(where[0, 1] - where[0, 0]),
        )
        assert plane.aspect == pytest.approx(steps_mm[0] / steps_mm[1])
        assert np.array_equal(plane.quality, plane.values % 6)


@pytest.mark.parametrize(("order", "signs"), ORDERS[::5], ids=str)
def test_rois_are_turned_with_their_plane(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    for plane in take_planes(volume_of(tmp_path, affine=affine_of(order, signs))):
        (r0, c0, r1, c1) = plane.rois[0]
        inside = np.zeros(plane.values.shape, bool)
        inside[r0:r1, c0:c1] = True
        z, y, x = np.unravel_index(np.asarray(plane.values, int), SHAPE)
        expected = np.ones_like(inside)
        for axis, index in enumerate((z, y, x)):
            expected &= (index >= ROI.start[axis]) & (index < ROI.stop[axis])
        assert np.array_equal(inside, expected)


def test_planes_go_through_the_middle_of_the_foremost_roi_or_of_the_volume(tmp_path: Path) -> None:
    planes = take_planes(volume_of(tmp_path))
    assert [plane.name for plane in planes] == ["z = 2", "y = 4", "x = 6"]
    planes = take_planes(volume_of(tmp_path, roi=None))
    assert [plane.name for plane in planes] == ["z = 2", "y = 3", "x = 4"]
    assert [plane.rois for plane in planes] == [()] * 3


def test_an_unknown_orientation_is_left_as_it_is_and_says_nothing(tmp_path: Path) -> None:
    affine = affine_of((2, 0, 1), (-1, 1, -1))
    planes = take_planes(volume_of(tmp_path, affine=affine, known=False))
    assert [plane.sides for plane in planes] == [("", "", "", "")] * 3
    whole = np.arange(5 * 7 * 9).reshape(SHAPE)
    for plane, expected in zip(planes, (whole[2], whole[:, 4], whole[:, :, 6]), strict=True):
        assert np.array_equal(plane.values, expected)


def test_planes_are_copies(tmp_path: Path) -> None:
    volume = volume_of(tmp_path)
    planes = take_planes(volume)
    before = [plane.values.copy() for plane in planes]
    volume.files.voxels[...], volume.files.quality[...] = 0, Quality.VERIFIED
    assert all(np.array_equal(p.values, b) for p, b in zip(planes, before, strict=True))
    assert any((plane.quality != Quality.VERIFIED).any() for plane in planes)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((1, 7, 9), ["z = 0"]),
        ((5, 1, 9), ["y = 0"]),
        ((5, 7, 1), ["x = 0"]),
        ((1, 1, 9), ["z = 0"]),
        ((1, 7, 1), ["z = 0"]),
        ((5, 1, 1), ["y = 0"]),
        ((1, 1, 1), ["z = 0"]),
    ],
    ids=str,
)
def test_a_volume_of_one_slice_or_one_line_has_one_plane(
    tmp_path: Path, shape: Triple, names: list[str]
) -> None:
    planes = take_planes(volume_of(tmp_path, shape, roi=None))
    assert [plane.name.split()[0] for plane in planes] == [name.split()[0] for name in names]
    assert sum(plane.values.size for plane in planes) == np.prod(shape)


@pytest.mark.parametrize("degrees", [10, 44, 45, 46, 80])
def test_oblique_planes_have_four_letters_of_two_directions(tmp_path: Path, degrees: int) -> None:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turns = {
        "x": ((1, 0, 0), (0, cos, -sin), (0, sin, cos)),
        "y": ((cos, 0, -sin), (0, 1, 0), (sin, 0, cos)),
        "z": ((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)),
    }
    both = np.array(turns["x"]) @ np.array(turns["z"])
    for turn in (*map(np.array, turns.values()), both):
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        affine = tuple(matrix.reshape(-1).tolist())
        for plane in take_planes(volume_of(tmp_path, affine=affine)):
            top, bottom, left, right = plane.sides
            pairs = {frozenset((top, bottom)), frozenset((left, right))}
            assert len(pairs) == 2
            assert pairs < {frozenset("AP"), frozenset("LR"), frozenset("FH")}
            where = places(plane, affine)
            assert np.dot(where[0, 0] - where[-1, 0], AWAY[top]) > 0
            assert np.dot(where[0, 0] - where[0, -1], AWAY[left]) > 0


@pytest.mark.parametrize(
    "linear",
    [
        (0.0,) * 9,
        (1e200, 0.0, 0.0, 0.0, 1e-200, 0.0, 0.0, 0.0, 1.0),
        (1e308, 1e308, 0.0, 1e308, 1e308, 1e308, 1e308, 0.0, 1e308),
        (5e-324, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_an_affine_of_nothing_real_gives_no_picture_of_no_width(
    tmp_path: Path, linear: tuple[float, ...]
) -> None:
    affine = (*linear[:3], 0.0, *linear[3:6], 0.0, *linear[6:], 0.0, 0.0, 0.0, 0.0, 1.0)
    volume = volume_of(tmp_path)
    header = replace(volume.entry.header, affine=affine)
    volume.entry = replace(volume.entry, header=header)
    assert all(0.001 < plane.aspect < 1000 for plane in take_planes(volume))


def test_planes_of_huge_images_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.planes._MOST_VOXELS", 10)
    roi = Box((0, 13, 22), (1, 18, 23))
    volume = volume_of(tmp_path, (1, 40, 42), roi=roi)
    (plane,) = take_planes(volume)
    assert plane.values.shape == plane.quality.shape == (10, 11)
    assert plane.aspect == pytest.approx(1.5)
    whole = np.arange(40 * 42).reshape(40, 42)
    assert set(plane.values.flat) == set(whole[::4, ::4].flat)
    assert plane.rois == ((5, 5, 7, 6),)  # hung front up and right to the left
