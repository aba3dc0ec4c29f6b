from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from receiver.pictures import draw_picture
from receiver.planes import Plane
from shared.intensity import PreviewWindow
from shared.layer import Quality

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WINDOW = PreviewWindow(0.0, 1000.0)
LEFT, TOP = 16, 60
"""Where the first plane stands on the sheet."""
HATCH, ROI_GREEN = (235, 235, 235), (70, 230, 90)
SIDES = ("H", "F", "R", "L")


def plane(
    values: NDArray[np.generic],
    quality: NDArray[np.uint8] | Quality,
    *,
    aspect: float = 1.0,
    rois: tuple[tuple[int, int, int, int], ...] = (),
    sides: tuple[str, str, str, str] = SIDES,
) -> Plane:
    if isinstance(quality, Quality):
        quality = np.full(values.shape, quality, np.uint8)
    return Plane("z = 1", values, quality, aspect, rois, sides)


def drawn(folder: Path, *planes: Plane, window: PreviewWindow = WINDOW) -> NDArray[np.uint8]:
    """(rows, columns, 3)."""
    path = folder / "p.png"
    draw_picture(planes, window, "ROI exact, 1.20 s after connecting", "ROI EXACT", path)
    assert [each.name for each in folder.iterdir()] == ["p.png"]
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def middle(picture: NDArray[np.uint8], rows: int = 360, columns: int = 360) -> NDArray[np.uint8]:
    """The first plane without its letters."""
    panel = picture[TOP : TOP + rows, LEFT : LEFT + columns]
    return panel[40 : rows - 40, 40 : columns - 40]


def flat(value: float = 500) -> NDArray[np.generic]:
    return np.full((36, 36), value)


@pytest.mark.parametrize("level", [Quality.MISSING, Quality.DISCARDED])
@pytest.mark.parametrize("value", [-32768.0, 0.0, 500.0, float("nan")])
def test_what_is_missing_is_hatched_and_coloured_whatever_its_value(
    tmp_path: Path, level: Quality, value: float
) -> None:
    panel = middle(drawn(tmp_path, plane(flat(value), level)))
    hatched = (panel == HATCH).all(axis=2)
    assert 0.2 < hatched.mean() < 0.3
    for row in panel:  # no line of the picture is without it
        assert (row == HATCH).all(axis=1).any()
    rest = panel[~hatched].astype(int)
    assert (np.ptp(rest, axis=1) > 60).all()  # far from any gray


def test_a_preview_is_tinted_and_what_is_proven_is_plain_gray(tmp_path: Path) -> None:
    for level in (Quality.PREVIEW, Quality.BOUNDED, Quality.EXACT):
        panel = middle(drawn(tmp_path, plane(flat(), level)))
        assert (np.ptp(panel.astype(int), axis=2) > 20).all()
    panel = middle(drawn(tmp_path, plane(flat(), Quality.VERIFIED)))
    assert (panel == panel[..., :1]).all()
    assert not (panel == HATCH).all(axis=2).any()


def test_each_voxel_shows_its_own_quality(tmp_path: Path) -> None:
    quality = np.full((36, 36), Quality.VERIFIED, np.uint8)
    quality[:, 18:] = Quality.MISSING
    panel = middle(drawn(tmp_path, plane(flat(), quality)))
    hatched = (panel == HATCH).all(axis=2)
    assert not hatched[:, :140].any()
    assert hatched[:, 140:].mean() == pytest.approx(0.25, abs=0.02)


def test_gray_runs_from_the_windows_low_to_the_brightest_that_is_known(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4000, 360), (360, 1))
    quality = np.full(ramp.shape, Quality.VERIFIED, np.uint8)
    panel = drawn(tmp_path, plane(ramp, quality))[TOP + 200, LEFT : LEFT + 360, 0]
    assert panel[10] < 10
    assert (np.diff(panel.astype(int)) >= 0).all()
    assert panel[350] > 245
    quality[:, 180:] = Quality.MISSING  # fill values there do not count
    ramp[:, 180:] = 1e6
    half = drawn(tmp_path, plane(ramp, quality))[TOP + 200, LEFT : LEFT + 180, 0]
    assert half[170] > 235


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf, 1.7e308, -1.7e308])
def test_values_that_are_no_numbers_are_drawn_all_the_same(tmp_path: Path, worst: float) -> None:
    values = flat().astype(np.float64)
    values[::2] = worst
    for shown in (values, np.full((5, 5), worst)):
        for level in (Quality.VERIFIED, Quality.PREVIEW):
            drawn(tmp_path, plane(shown, level))


def test_nothing_known_yet_is_drawn_too(tmp_path: Path) -> None:
    picture = drawn(tmp_path, *[plane(flat(-32768), Quality.MISSING)] * 3)
    assert picture.shape[1] == 3 * 360 + 4 * 16


def test_rois_are_outlined_where_they_lie(tmp_path: Path) -> None:
    rois = ((9, 12, 18, 30), (0, 0, 36, 36))
    picture = drawn(tmp_path, plane(flat(), Quality.VERIFIED, rois=rois, sides=("",) * 4))
    green = (picture[TOP : TOP + 360, LEFT : LEFT + 360] == ROI_GREEN).all(axis=2)
    assert green[90, 120:301].all()
    assert green[180, 120:301].all()
    assert green[90:181, 120].all()
    assert green[90:181, 300].all()
    assert green[-1].all()
    assert not green[100:170, 130:290].any()


@pytest.mark.parametrize(
    ("shape", "aspect", "size"),
    [
        ((36, 36), 1.0, (360, 360)),
        ((20, 40), 3.0, (360, 240)),
        ((20, 40), 0.5, (90, 360)),
        ((1, 400), 1.0, (1, 360)),
        ((400, 1), 1.0, (360, 1)),
        ((1, 1), 1.0, (360, 360)),
        ((1024, 1024), 1.0, (360, 360)),
        ((3, 4), 999.0, (360, 1)),
    ],
    ids=str,
)
def test_a_plane_has_the_shape_that_it_has_in_the_patient(
    tmp_path: Path, shape: tuple[int, int], aspect: float, size: tuple[int, int]
) -> None:
    values = np.full(shape, 500)
    picture = drawn(tmp_path, plane(values, Quality.MISSING, aspect=aspect, sides=("",) * 4))
    background = (picture == (18, 18, 22)).all(axis=2)
    panel = ~background[TOP : TOP + 380, :400]
    assert picture.shape[0] == size[0] + 44 + 32 + 28
    assert panel[size[0] // 2, LEFT : LEFT + size[1]].all()
    assert background[TOP + size[0] - 1, LEFT + size[1]]


def test_letters_or_the_lack_of_them_are_on_the_picture(tmp_path: Path) -> None:
    black = plane(np.zeros((36, 36)), Quality.VERIFIED)
    panel = drawn(tmp_path, black)[TOP : TOP + 360, LEFT : LEFT + 360].astype(int)
    letters = panel.sum(axis=2) > 100
    for part in (
        letters[:20, 150:210],
        letters[-20:, 150:210],
        letters[150:210, :20],
        letters[150:210, -20:],
    ):
        assert part.any()
    unknown = plane(np.zeros((36, 36)), Quality.VERIFIED, sides=("", "", "", ""))
    panel = drawn(tmp_path, unknown)[TOP : TOP + 360, LEFT : LEFT + 360].astype(int)
    red = (panel[..., 0] > 150) & (panel[..., 1] < 120)
    assert red[:20, :150].any()
    assert not (panel.sum(axis=2) > 100)[150:210, :20].any()


def test_a_picture_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"older")
    drawn(tmp_path, plane(flat(), Quality.VERIFIED))
