from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage  # type: ignore[import-untyped]

from sender.segment import heights as heights_module
from sender.segment.tissue import TissueRule, TissueSegmenter, find_tissue, tissue_box
from shared.errors import SettingsError
from shared.geometry import Box
from tests.contracts.segmenter import SegmenterContract
from tests.sender.segment.volumes import read_scan, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from shared.volume import Volume

BOTH = pytest.mark.parametrize("rule", list(TissueRule))


def head(dtype: DTypeLike = np.int16) -> NDArray[Any]:
    """A head of 200 to 900 in a background of 0, skull brighter than brain."""
    voxels = np.zeros((12, 20, 18), dtype)
    voxels[3:10, 4:17, 5:15] = 700
    voxels[4:9, 5:16, 6:14] = 300
    voxels[4:9, 5:16, 6:10] = 400
    return voxels


def tight(mask: NDArray[np.bool_]) -> Box:
    z, y, x = np.nonzero(mask)
    return Box(
        (int(z.min()), int(y.min()), int(x.min())),
        (int(z.max()) + 1, int(y.max()) + 1, int(x.max()) + 1),
    )


def plain_paper_box(values: NDArray[Any]) -> Box:
    """The paper's rule on values above 0, as plainly as it can be said."""
    above = values[values > 0]
    if above.size == 0 or not (values > above.mean()).any():
        return Box.whole(values.shape)
    return tight(values > above.mean())


def plain_code_box(values: NDArray[Any]) -> Box:
    """The code's rule on values above 0, with the opening that ours never makes."""
    whole = Box.whole(values.shape)
    above = values[values > 0]
    if above.size == 0:
        return whole
    low, high = np.percentile(above, (1, 99))
    if high == low:
        return whole
    gray = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    if not gray.any():
        return whole
    if values.shape[0] == 1:
        return plain_flat_box(gray)
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, length in enumerate(values.shape):
        if length < 3:
            cross = np.swapaxes(cross, 0, axis)
            cross[0] = cross[2] = False
            cross = np.swapaxes(cross, 0, axis)
    opened = ndimage.binary_opening(gray >= gray[gray > 0].mean(), cross)
    if not opened.any():
        return whole
    box = tight(opened)
    start, stop = np.maximum(np.array(box.start) - 3, 0), np.array(box.stop) + 3
    stop = np.minimum(stop, values.shape)
    return Box(tuple(start.tolist()), tuple(stop.tolist()))


def plain_flat_box(gray: NDArray[np.uint8]) -> Box:
    """The code's rule for a single image."""
    above = gray > np.percentile(gray[gray > 0], 10)
    if not above.any():
        return Box.whole((1, gray.shape[1], gray.shape[2]))
    box = tight(above)
    for by in (3, 9):
        wider = np.array((0, by, by))
        start = np.maximum(np.array(box.start) - wider, 0)
        stop = np.minimum(np.array(box.stop) + wider, gray.shape)
        box = Box(tuple(start.tolist()), tuple(stop.tolist()))
        if np.count_nonzero(gray[box.slices]) >= 0.998 * np.count_nonzero(gray):
            break
    return box


PLAIN = {TissueRule.PAPER: plain_paper_box, TissueRule.CODE: plain_code_box}


class TestTissueSegmenter(SegmenterContract):
    @pytest.fixture(params=[None, "code"])
    def segmenter(self, request: pytest.FixtureRequest) -> TissueSegmenter:
        return TissueSegmenter.parse(request.param)

    @pytest.fixture(params=["head", "nothing"])
    def volume(self, request: pytest.FixtureRequest) -> Volume:
        return volume_of(head() if request.param == "head" else np.zeros((4, 5, 6), np.int16))


def test_the_reason_says_rule_share_and_threshold() -> None:
    voxels = np.zeros((1, 1, 8), np.int16)
    voxels[0, 0] = [0, 1, 2, 9, 4, 0, 0, 0]
    (answer,) = TissueSegmenter().segment(volume_of(voxels))
    assert answer.reason == (
        "MedROI's tissue box (paper's rule): 12.5% of the volume, around what lies above 4."
    )


def test_the_reason_of_monochrome1_says_below() -> None:
    (answer,) = TissueSegmenter().segment(volume_of([[[9, 8, 1]]], np.int16, inverted=True))
    assert answer.reason.endswith("33.3% of the volume, around what lies below 4.5.")


@pytest.mark.parametrize("argument", ["", "mine", "Code", "code:3"])
def test_another_rule_is_refused(argument: str) -> None:
    with pytest.raises(SettingsError, match="tissue:code expected"):
        TissueSegmenter.parse(argument)


# The paper's rule, worked by hand.


def test_the_paper_takes_what_is_above_the_mean_of_what_is_not_0() -> None:
    voxels = np.zeros((3, 3, 6), np.int16)
    voxels[1, 1] = [0, 1, 2, 9, 4, 0]  # mean of 1, 2, 9, 4 is 4, and 4 is not above 4
    tissue = find_tissue(volume_of(voxels))
    assert tissue.threshold == 4.0
    assert tissue.box == Box((1, 1, 3), (2, 2, 4))


def test_the_paper_lets_one_bright_voxel_widen_the_box() -> None:
    voxels = np.zeros((5, 6, 7), np.int16)
    voxels[2, 2:4, 2:4] = [[10, 20], [20, 10]]  # with the 60 below: mean 24
    voxels[4, 5, 6] = 60
    tissue = find_tissue(volume_of(voxels))
    assert tissue.threshold == 24.0
    assert tissue.box == Box((4, 5, 6), (5, 6, 7))


def test_the_paper_never_pads_a_tight_box() -> None:
    assert tissue_box(volume_of(head())) == Box((3, 4, 5), (10, 17, 15))


# The code's rule, worked by hand.


def test_the_code_opens_and_pads() -> None:
    voxels = np.zeros((11, 12, 13), np.int16)
    voxels[4:7, 4:7, 4:8] = 100  # 36 voxels
    voxels[10, 11, 12] = 100  # opened away
    voxels[0, 0, :10] = 10
    # 47 voxels above 0: the 1 % percentile is 10, the 99 % one 100; gray is 0 and 255, tau 255.
    tissue = find_tissue(volume_of(voxels), TissueRule.CODE)
    assert tissue.threshold == 100.0
    assert tissue.box == Box((1, 1, 1), (10, 10, 11))


def mammogram(rim: int) -> NDArray[np.int16]:
    """A breast of 500 at the left edge of an image of 0, and a faint rim far from it."""
    image = np.zeros((1, 60, 50), np.int16)
    image[0, 20:40, 0:20] = np.arange(400).reshape(20, 20) + 500
    image[0, 58, 30 : 30 + rim] = 600
    return image


def test_the_code_boxes_a_single_image_by_its_own_rule() -> None:
    # 400 pixels of 500..899: the 1 % and 99 % percentiles are 503.99 and 895.01, a gray is 1.533
    # wide, so 506 is the lowest that is not 0. Of the 394 grays above 0 the 10 % percentile is that
    # of 545.3, in row 22: the box of what is above it begins there and ends with the breast. Then 3
    # pixels of padding; rows 20 and 21 lie inside it, so nothing is missed.
    tissue = find_tissue(volume_of(mammogram(0)), TissueRule.CODE)
    assert tissue.box == Box((0, 19, 0), (1, 43, 23))
    assert 535 < tissue.threshold < 546


def test_the_code_pads_a_single_image_again_where_it_missed_too_much() -> None:
    image = mammogram(0)
    image[0, 41:48, 5] = 520  # below the threshold; 5 of them outside the padded box, 1.2 %
    tissue = find_tissue(volume_of(image), TissueRule.CODE)
    assert tissue.box == Box((0, 10, 0), (1, 52, 32))


def test_the_code_takes_the_mean_gray_between_the_percentiles() -> None:
    voxels = np.zeros((9, 10, 111), np.int16)
    voxels[3:6, 4:7, 5:106] = np.arange(1, 102)
    # 909 voxels, each of 1..101 nine times. Ranks of the percentiles are 908 * .01 = 9.08 and
    # 908 * .99 = 898.92; sorted, ranks 9..17 hold 2 and ranks 891..899 hold 100: low 2, high 100.
    gray = [int((v - 2) / 98 * 255) for v in range(2, 101)] + [255]
    mean = sum(gray) / sum(g > 0 for g in gray)
    first = next(v for v in range(1, 102) if v >= 2 and gray[v - 2] >= mean)
    tissue = find_tissue(volume_of(voxels), TissueRule.CODE)
    assert tissue.threshold == pytest.approx(2 + mean / 255 * 98)
    assert tissue.box == Box((0, 1, 5 + first - 1 - 3), (9, 10, 109))


def test_an_axis_of_one_or_two_voxels_is_not_opened() -> None:
    slices = np.zeros((2, 20, 20), np.int16)
    slices[:, 5:12, 6:13] = 100
    slices[:, 0, :8] = 10
    slices[0, 18, 18] = 100
    assert tissue_box(volume_of(slices), TissueRule.CODE) == Box((0, 2, 3), (2, 15, 16))


# Both rules.


@BOTH
@given(
    values=arrays(
        np.int16, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 12)
    )
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_box_is_that_of_the_plain_rule(rule: TissueRule, values: NDArray[np.int16]) -> None:
    assert tissue_box(volume_of(values), rule) == PLAIN[rule](values)


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_blob_has_the_box_of_the_plain_rule(
    rule: TissueRule, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(14, 30, 27)), 2.0)
    values = np.maximum(smooth * 8000 + rng.normal(size=smooth.shape) * 40, 0).astype(np.int16)
    monkeypatch.setattr(heights_module, "_BLOCK_VOXELS", 200)
    assert tissue_box(volume_of(values), rule) == PLAIN[rule](values)


@BOTH
@pytest.mark.parametrize("value", [0, 7, -7])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_where_nothing_stands_out_the_whole_volume_is_taken(
    rule: TissueRule, value: int, dtype: DTypeLike
) -> None:
    tissue = find_tissue(volume_of(np.full((4, 5, 6), value), dtype), rule)
    assert tissue.box == Box.whole((4, 5, 6))
    assert not tissue.found


@BOTH
def test_a_volume_without_a_number_is_taken_whole(rule: TissueRule) -> None:
    assert tissue_box(volume_of(np.full((3, 4, 5), np.nan, np.float32)), rule) == Box.whole(
        (3, 4, 5)
    )


@BOTH
def test_one_image_has_a_tissue_box(rule: TissueRule) -> None:
    image = np.zeros((1, 30, 40), np.uint16)
    image[0, 6:20, 8:25] = 100
    image[0, 8:18, 10:23] = np.arange(130).reshape(10, 13) + 400
    assert tissue_box(volume_of(image), rule).inside(Box((0, 3, 5), (1, 23, 28)))
    assert Box((0, 8, 10), (1, 18, 23)).inside(tissue_box(volume_of(image), rule))


@BOTH
def test_a_ct_is_boxed_alike_however_it_is_stored(rule: TissueRule) -> None:
    hounsfield = np.where(head() > 0, head() - 300, -1000)
    hounsfield[:, 0] += np.arange(-9, 9)  # noise of the air
    padded = hounsfield.copy()
    padded[:, :, -1] = -2000
    expected = tissue_box(volume_of(head()), rule)
    for volume in (
        volume_of(hounsfield, np.int16, modality="CT"),
        volume_of(hounsfield, np.int16),
        volume_of(hounsfield + 1024, np.uint16, modality="CT", intercept=-1024.0),
        volume_of(padded, np.int16, modality="CT"),
        volume_of(padded, np.int16, modality="CT", padding=(-2000.0, -2000.0)),
        volume_of(hounsfield, np.float32),
    ):
        assert tissue_box(volume, rule) == expected


@BOTH
def test_a_scan_is_boxed_alike_however_its_background_is_written(rule: TissueRule) -> None:
    plain = head(np.float32)
    expected = tissue_box(volume_of(head()), rule)
    absent = np.where(plain > 0, plain, np.nan)
    padded = np.where(plain > 0, plain, 30000)
    z_scored = (plain - 123.0) / 45.0
    for volume in (
        volume_of(plain),
        volume_of(absent),
        volume_of(padded, np.int16, padding=(30000.0, 30000.0)),
        volume_of(z_scored, np.float32),
        volume_of(1000 - plain, np.uint16, inverted=True),
        volume_of(plain, ">i2"),
        volume_of(plain, np.uint16, slope=0.25, intercept=0.0),
        volume_of(
            [plane * (2 if z % 2 else 1) for z, plane in enumerate(head())],
            np.int16,
            rescale=tuple((0.5 if z % 2 else 1.0, 0.0) for z in range(len(plain))),
        ),
    ):
        assert tissue_box(volume, rule) == expected


@BOTH
def test_no_second_volume_is_ever_held(rule: TissueRule) -> None:
    voxels = np.zeros((128, 512, 512), np.int16)  # 64 MiB
    voxels[20:100, 100:400, 150:420] = 300
    voxels[30:90, 120:380, 170:400] = 500
    volume = volume_of(voxels)
    tracemalloc.start()
    try:
        tissue_box(volume, rule)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < voxels.nbytes / 2  # a sample of a million voxels and a few slices


# Real scans.

REAL = [
    "tumour/brats_unknown/flair.nii.gz",
    "tumour/tcga_DU-7294/fla_bet.nii.gz",
    "mr/misc/abdomen_mr_small.nii.gz",
    "mr/open_ms/patient04_study1_T1W.nii.gz",
]


@BOTH
@pytest.mark.parametrize("name", REAL)
def test_a_real_mr_has_the_box_of_the_plain_rule(scans: Path, rule: TissueRule, name: str) -> None:
    volume = read_scan(scans / name)
    assert tissue_box(volume, rule) == PLAIN[rule](np.maximum(volume.voxels, 0))


@BOTH
def test_a_real_brain_is_boxed_alike_when_it_is_z_scored(scans: Path, rule: TissueRule) -> None:
    volume = read_scan(scans / REAL[0])
    brain = volume.voxels[volume.voxels > 0]
    scored = (volume.voxels - brain.mean()) / brain.std()
    assert tissue_box(volume_of(scored, np.float32), rule) == tissue_box(volume, rule)


@BOTH
def test_z_scored_brains_leave_their_background_out(scans: Path, rule: TissueRule) -> None:
    name = "tumour/brats2013_pat0005/Flair_subtrMeanDivStd.nii.gz"
    volume = read_scan(scans / name)
    labels = read_scan(scans / "tumour/brats2013_pat0005/OTMultiClass.nii.gz")
    box = tissue_box(volume, rule)
    assert tight(labels.voxels > 0).inside(box)
    assert box.voxels < volume.voxels.size / 2


@BOTH
def test_a_real_body_ct_is_found_in_its_air(scans: Path, rule: TissueRule) -> None:
    volume = read_scan(scans / "ct/dicom/ge_abdomen_3slice")
    box = tissue_box(volume, rule)
    soft = volume.voxels * volume.header.slope + volume.header.intercept > -200
    assert soft.mean() > 0.3
    soft[box.slices] = False
    assert soft.mean() < 0.001
    assert box.voxels < volume.voxels.size * 0.7
