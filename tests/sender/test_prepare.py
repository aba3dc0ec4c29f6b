from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from protocol import limits
from protocol.checks import check_manifest, check_plan
from sender import prepare
from sender.prepare import prepare_study
from sender.read.source import Study as Found
from sender.segment.base import Segmentation
from sender.segment.tissue import tissue_box
from sender.settings import Background, SendSettings
from shared.errors import InputError, MedroiError, SettingsError
from shared.geometry import Box
from shared.intensity import fit_sample_map, fit_window, value_range
from shared.layer import Quality, RegionKind
from shared.roi import Roi
from shared.volume import volume_digest
from tests.sender.read.files import nifti
from tests.sender.segment.volumes import volume_of
from tests.sender.studies import brain, jobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.header import SeriesHeader
    from shared.volume import Volume

BOX = Box((1, 2, 3), (2, 6, 7))
ANYWHERE = Path("somewhere")


@dataclass
class OnlyFor:
    """A segmenter that has an answer for the series of one label, and of others."""

    label: str
    tissue: Box | None = None
    asked: list[str] = field(default_factory=list)
    resampled: tuple[str, ...] = ()
    """Series that it has an answer for, but that it was not drawn on."""
    failing: tuple[str, ...] = ()
    name = "only"
    slow: bool = False

    def misfit(self, header: SeriesHeader) -> MedroiError | None:
        if header.label in (self.label, *self.resampled, *self.failing):
            return None
        return InputError("mask", f"does not fit {header.label}")

    def native(self, header: SeriesHeader) -> bool:
        return header.label not in self.resampled

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        if volume.header.label in self.failing:
            raise InputError("mask", "its marks lie outside")
        self.asked.append(volume.header.label)
        yield Segmentation((), "A coarse answer.", self.name)
        yield Segmentation((Roi(BOX, "lesion", 0),), "The last answer.", self.name, self.tissue)


def labelled(label: str, seed: int = 0) -> Volume:
    return volume_of(brain((4, 16, 16), seed=seed), label=label)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Callable[..., prepare.Study]:
    """Prepare volumes that no file holds, with a segmenter that no flag names."""

    def run(
        segmenter: OnlyFor, *volumes: Volume, background: Background = Background.KEEP
    ) -> prepare.Study:
        found = Found(volumes, ("notes.txt: neither DICOM nor NIfTI",))
        monkeypatch.setattr(prepare, "segmenter_for", lambda *_: segmenter)
        monkeypatch.setattr(prepare, "read_study", lambda *_, **__: found)
        settings = SendSettings(background=background)
        return prepare_study([ANYWHERE], settings, series=None, volume=None)

    return run


def test_the_series_that_the_roi_belongs_to_goes_first(
    prepared: Callable[..., prepare.Study],
) -> None:
    segmenter = OnlyFor("T2")
    study = prepared(segmenter, labelled("T1"), labelled("T2"), labelled("FLAIR"))
    assert [series.entry.header.label for series in study.series] == ["T2", "T1", "FLAIR"]
    assert segmenter.asked == ["T2"]
    assert [series.plan.series for series in study.series] == [0, 1, 2]
    assert {job.key.series for job in study.series[2].jobs} == {2}


def test_a_series_that_a_mask_was_drawn_on_goes_before_those_it_is_brought_onto(
    prepared: Callable[..., prepare.Study],
) -> None:
    segmenter = OnlyFor("FLAIR", resampled=("T1",))
    study = prepared(segmenter, labelled("CT"), labelled("T1"), labelled("FLAIR"))
    assert [series.entry.header.label for series in study.series] == ["FLAIR", "T1", "CT"]
    assert [series.roi_voxels > 0 for series in study.series] == [True, True, False]


def test_a_mask_that_cannot_be_brought_onto_a_later_series_is_no_roi_of_it(
    prepared: Callable[..., prepare.Study],
) -> None:
    segmenter = OnlyFor("T1", failing=("T2",))
    first, second = prepared(segmenter, labelled("T1"), labelled("T2")).series
    assert first.roi_voxels == BOX.voxels
    assert second.segmentation.reason == (
        "The ROI belongs to another series: its marks lie outside."
    )
    with pytest.raises(InputError):
        prepared(OnlyFor("T2", failing=("T2",)), labelled("T2"))


def test_series_without_an_answer_have_no_roi_and_say_so(
    prepared: Callable[..., prepare.Study],
) -> None:
    first, second = prepared(OnlyFor("T2"), labelled("T1"), labelled("T2")).series
    assert first.roi_voxels == BOX.voxels
    assert second.roi_voxels == 0
    assert second.segmentation.reason == "The ROI belongs to another series."
    assert RegionKind.ROI not in {region.kind for region in second.plan.regions}


def test_an_roi_that_fits_no_series_is_refused_with_the_first_reason(
    prepared: Callable[..., prepare.Study],
) -> None:
    with pytest.raises(InputError, match="mask: does not fit T1"):
        prepared(OnlyFor("CT"), labelled("T1"), labelled("T2"))


def test_the_last_answer_of_a_segmenter_stands(prepared: Callable[..., prepare.Study]) -> None:
    (series,) = prepared(OnlyFor("T1"), labelled("T1")).series
    assert series.segmentation.reason == "The last answer."
    assert series.plan.regions[0].box == BOX


def test_the_tissue_is_the_segmenters_or_found(prepared: Callable[..., prepare.Study]) -> None:
    given = Box((0, 1, 1), (4, 15, 15))
    (series,) = prepared(OnlyFor("T1", given), labelled("T1")).series
    assert {region.kind: region.box for region in series.plan.regions}[RegionKind.TISSUE] == given
    (series,) = prepared(OnlyFor("T1"), labelled("T1")).series
    found = {region.kind: region.box for region in series.plan.regions}[RegionKind.TISSUE]
    assert found == tissue_box(labelled("T1"))
    assert found != Box.whole((4, 16, 16))


def test_a_manifest_says_what_the_receiver_must_know(
    prepared: Callable[..., prepare.Study],
) -> None:
    volumes = [
        replace(volume, header=replace(volume.header, file_header=bytes(348)))
        for volume in (labelled("T1"), labelled("T2", seed=5))
    ]
    study = prepared(OnlyFor("T1"), *volumes)
    check_manifest(study.manifest)
    for series, volume in zip(study.series, volumes, strict=True):
        check_plan(series.plan, volume.header, None)
        entry = series.entry
        assert entry.header is volume.header
        assert entry.digest == volume_digest(volume.header, volume.voxels)
        assert entry.samples == fit_sample_map(volume.voxels)
        assert entry.window == fit_window(volume.voxels)
        assert entry.value_range == value_range(volume.voxels)
    digests = b"".join(series.entry.digest for series in study.series)
    assert study.manifest.study == hashlib.sha256(digests).digest()
    assert study.left_out == ("notes.txt: neither DICOM nor NIfTI",)


def test_kept_voxels_are_all_but_a_discarded_background(
    prepared: Callable[..., prepare.Study],
) -> None:
    tissue = Box((0, 4, 4), (4, 12, 12))
    (kept,) = prepared(OnlyFor("T1", tissue), labelled("T1")).series
    assert kept.kept_voxels == 4 * 16 * 16
    (less,) = prepared(OnlyFor("T1", tissue), labelled("T1"), background=Background.DISCARD).series
    outside = 1 * 2 * 4 + 1 * 2 * 1  # of the ROI's 4 x 4: rows 2-3, and column 3 of rows 4-5
    assert less.kept_voxels == tissue.voxels + outside
    assert jobs_of(less, "background_exact") == []


def test_every_layer_that_the_plan_asks_for_is_there(
    prepared: Callable[..., prepare.Study],
) -> None:
    (series,) = prepared(OnlyFor("T1"), labelled("T1")).series
    stages = {job.stage.name for job in series.jobs}
    assert stages == {
        "roi_preview",
        "roi_exact",
        "whole_preview",
        "tissue_bounded",
        "tissue_exact",
        "background_exact",
    }
    assert len(jobs_of(series, quality=Quality.PREVIEW)) == 2


def test_more_series_than_a_session_takes_are_refused(
    prepared: Callable[..., prepare.Study],
) -> None:
    with pytest.raises(InputError, match=f"{limits.MAX_SERIES + 1} series, more than"):
        prepared(OnlyFor("T1"), *[labelled("T1")] * (limits.MAX_SERIES + 1))


def test_files_become_a_study(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).write_bytes(nifti(brain((3, 9, 8), seed=len(name))))
    settings = SendSettings(roi="box:0:2,1:4,2:5")
    study = prepare_study([tmp_path], settings, series=None, volume=None)
    check_manifest(study.manifest)
    assert [series.roi_voxels for series in study.series] == [18, 18]
    one = prepare_study([tmp_path], settings, series=2, volume=None)
    assert [series.entry.header.label for series in one.series] == ["b"]


def test_an_roi_of_no_known_kind_is_refused_before_a_file_is_opened() -> None:
    with pytest.raises(SettingsError, match="--roi 'brain'"):
        prepare_study([ANYWHERE], SendSettings(roi="brain"), series=None, volume=None)


def test_a_mask_in_another_series_brings_that_series_to_the_front(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(brain((3, 9, 8))))
    (tmp_path / "b.nii").write_bytes(nifti(brain((4, 9, 8))))
    mask = np.zeros((4, 9, 8), np.uint8)
    mask[1:3, 2:5, 3:6] = 1
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "mask.nii"
    path.write_bytes(nifti(mask))
    settings = SendSettings(roi=f"mask:{path}")
    scans = [tmp_path / "a.nii", tmp_path / "b.nii"]
    study = prepare_study(scans, settings, series=None, volume=None)
    assert [series.entry.header.label for series in study.series] == ["b", "a"]
    assert study.series[0].roi_voxels >= 18
    assert study.series[1].roi_voxels > 0  # the two share their millimetres
