from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from sender.segment.grid import Grid, Turn, turn_between
from tests.sender.segment.volumes import OBLIQUE, ORIENTATIONS, volume_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (4, 5, 6)


def grid(shape: tuple[int, int, int] = SHAPE, affine: NDArray[Any] | None = OBLIQUE) -> Grid:
    return Grid(shape, None if affine is None else tuple(np.ravel(affine).tolist()))


def moved(*, mm: float = 0.0, stretch: float = 1.0, turn: float = 0.0) -> NDArray[Any]:
    change = np.diag([stretch, 1.0, 1.0, 1.0])
    change[:2, :2] @= [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = OBLIQUE @ change
    affine[2, 3] += mm
    return affine


def in_another_order(
    voxels: NDArray[Any], orientation: list[tuple[int, int]]
) -> tuple[NDArray[Any], Grid]:
    """nibabel's own idea of voxels in another order: (z, y, x), and where they lie."""
    make: Any = nibabel.nifti1.Nifti1Image
    image = make(voxels.T, OBLIQUE).as_reoriented(np.array(orientation, float))
    other = np.asanyarray(image.dataobj).T
    return other, grid(other.shape, image.affine)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 4, 4), (1, 5, 5), (1, 1, 3)])
def test_all_48_turns_are_found_again(shape: tuple[int, int, int]) -> None:
    voxels = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    for orientation in ORIENTATIONS:
        other, place = in_another_order(voxels, orientation)
        turn = turn_between(place, grid(shape))
        assert isinstance(turn, Turn)
        np.testing.assert_array_equal(turn.voxels(other), voxels)


def test_turned_voxels_are_a_view() -> None:
    voxels = np.zeros((4, 5, 6), np.bool_)
    assert np.shares_memory(Turn((2, 0, 1), (True, False, True)).voxels(voxels), voxels)


def test_the_same_grid_is_not_turned() -> None:
    assert turn_between(grid(), grid()) == Turn((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("affine", [moved(mm=9e-4), moved(stretch=1.0001), moved(turn=1e-4)])
def test_what_float32_loses_is_accepted(affine: NDArray[Any]) -> None:
    assert isinstance(turn_between(grid(affine=affine), grid()), Turn)


@pytest.mark.parametrize(
    ("affine", "off_mm"),
    [
        (moved(mm=0.01), "0.01"),
        (moved(mm=-5.9), "5.9"),
        (moved(stretch=1.003), "0.01201"),
        (moved(turn=0.01), "0.05176"),
    ],
)
def test_a_grid_that_lies_elsewhere_is_refused_in_mm(affine: NDArray[Any], off_mm: str) -> None:
    refusal = turn_between(grid(affine=affine), grid())
    assert isinstance(refusal, str)
    assert refusal.startswith(f"its corners lie up to {off_mm} mm away from those of the series")


def test_a_shift_by_whole_voxels_is_refused() -> None:
    affine = OBLIQUE.copy()
    affine[:3, 3] += OBLIQUE[:3, 0]
    assert isinstance(turn_between(grid(affine=affine), grid()), str)


def test_a_mirrored_patient_is_refused() -> None:
    assert isinstance(turn_between(grid(affine=np.diag([-1.0, 1, 1, 1]) @ OBLIQUE), grid()), str)


def test_another_spacing_is_named() -> None:
    other, own = np.diag([1.0, 1.0, 3.0, 1.0]), np.diag([2.0, 1.0, 3.0, 1.0])
    assert turn_between(grid(affine=own), grid(affine=other)) == (
        "its corners lie up to 5 mm away from those of the series"
        ", its spacing is 3x1x2 mm, that of the series 3x1x1 mm"
    )


def test_another_shape_is_named_with_its_spacing() -> None:
    other, own = np.diag([1.0, 1.0, 3.0, 1.0]), np.diag([1.0, 1.0, 1.5, 1.0])
    assert turn_between(grid((8, 5, 6), own), grid(affine=other)) == (
        "its shape (z, y, x) is 8x5x6, that of the series 4x5x6"
        ", its spacing is 1.5x1x1 mm, that of the series 3x1x1 mm"
    )


def test_where_neither_says_where_it_lies_shapes_decide() -> None:
    assert turn_between(grid(affine=None), grid(affine=None)) == Turn((0, 1, 2), (False,) * 3)
    assert turn_between(grid((6, 5, 4), None), grid(affine=None)) == (
        "its shape (z, y, x) is 6x5x4, that of the series 4x5x6, and neither says where it lies"
    )


def test_where_only_one_says_where_it_lies_nothing_can_be_compared() -> None:
    assert turn_between(grid(affine=None), grid()) == (
        "it does not say where it lies, and the series does"
    )
    assert turn_between(grid(), grid(affine=None)) == (
        "it says where it lies, and the series does not"
    )


def test_a_series_lies_where_its_header_says() -> None:
    voxels = np.zeros(SHAPE, np.int16)
    assert Grid.of(volume_of(voxels).header) == grid()
    assert Grid.of(volume_of(voxels, affine=None).header) == grid(affine=None)
