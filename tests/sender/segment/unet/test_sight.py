from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from sender.segment.unet.sight import HIGHEST, LOWEST, see, see_labels
from shared.geometry import Box
from tests.sender.segment.volumes import ORIENTATIONS, read_scan, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ISO = np.diag([1.0, 1.0, 1.0, 1.0])


def head() -> NDArray[np.int16]:
    """A head of 40 x 50 x 44 mm, brighter to the right, the front and the top."""
    z, y, x = np.indices((48, 60, 52))
    away = ((z - 24) / 20) ** 2 + ((y - 30) / 25) ** 2 + ((x - 26) / 22) ** 2
    return np.where(away < 1, 100 + z + 2 * y + 3 * x, 0).astype(np.int16)


def test_it_is_2_mm_cropped_and_of_one_scale() -> None:
    sight = see(volume_of(head(), affine=ISO))
    assert sight is not None
    assert all(
        abs(n - mm / 2) <= 5 for n, mm in zip(sight.brightness.shape, (40, 50, 44), strict=True)
    )
    assert sight.brightness.min() == LOWEST
    assert sight.brightness.max() <= HIGHEST
    body = sight.brightness[sight.brightness > LOWEST]
    assert abs(float(np.median(body))) < 0.3


@pytest.mark.parametrize("factor", [1, 7])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_units_do_not_matter(factor: int, dtype: type) -> None:
    plain = see(volume_of(head(), affine=ISO))
    other = see(volume_of(head().astype(dtype) * factor, affine=ISO))
    assert plain is not None
    assert other is not None
    np.testing.assert_allclose(other.brightness, plain.brightness, atol=1e-3)


def test_a_scan_in_any_of_48_orders_looks_the_same(tmp_path: Path) -> None:
    plain = see(volume_of(head(), affine=ISO))
    assert plain is not None
    make: Any = nibabel.nifti1.Nifti1Image
    image = make(head().T, ISO)
    for number, orientation in enumerate(ORIENTATIONS):
        path = tmp_path / f"{number}.nii"
        image.as_reoriented(np.array(orientation, float)).to_filename(path)
        sight = see(read_scan(path))
        assert sight is not None
        np.testing.assert_allclose(sight.brightness, plain.brightness, atol=1e-4)


@pytest.mark.parametrize("flip", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.9, 0.9, 5.0), (2.3, 1.7, 3.0)])
def test_what_it_says_comes_back_to_where_it_was(
    flip: tuple[int, ...], sizes: tuple[float, float, float]
) -> None:
    signs = [-1.0 if axis in flip else 1.0 for axis in range(3)]
    affine = np.diag([*(sign * size for sign, size in zip(signs, sizes, strict=True)), 1.0])
    volume = volume_of(head(), affine=affine)
    marked = np.zeros(head().shape, np.bool_)
    marked[20:34, 22:40, 16:32] = True
    sight = see(volume)
    assert sight is not None
    seen = see_labels(marked, sight.placement)
    whole = Box.whole(volume.header.shape)
    back = sight.placement.up(seen, whole) > 0.5
    both, either = (back & marked).sum(), back.sum() + marked.sum()
    assert 2 * both / either > 0.9
    part = Box((18, 20, 14), (30, 41, 35))
    np.testing.assert_allclose(
        sight.placement.up(seen, part), sight.placement.up(seen, whole)[part.slices], atol=1e-5
    )
    z, y, x = np.nonzero(seen > 0.01)
    found = Box(
        (int(z.min()), int(y.min()), int(x.min())),
        (int(z.max()) + 1, int(y.max()) + 1, int(x.max()) + 1),
    )
    around = sight.placement.box_of(found)
    outside = np.ones(marked.shape, np.bool_)
    outside[around.slices] = False
    assert not (marked & outside).any()


def test_nothing_is_seen_where_nothing_stands_out() -> None:
    assert see(volume_of(np.zeros((20, 20, 20), np.int16), affine=ISO)) is None


def test_one_hot_voxel_changes_nothing() -> None:
    hot = head()
    hot[24, 30, 26] = 32767
    plain, other = see(volume_of(head(), affine=ISO)), see(volume_of(hot, affine=ISO))
    assert plain is not None
    assert other is not None
    assert np.count_nonzero(np.abs(other.brightness - plain.brightness) > 0.1) < 30


def test_a_large_field_of_view_is_seen_more_coarsely() -> None:
    volume = volume_of(np.ones((40, 40, 40), np.int16) * 9, affine=np.diag([20.0, 20.0, 20.0, 1]))
    sight = see(volume)
    assert sight is None or sight.brightness.size < 4 << 20
