from __future__ import annotations

from dataclasses import replace

import numpy as np

from receiver.counts import Count, count, is_planned, rois_of
from shared.geometry import Box
from shared.layer import Quality, Region, RegionKind
from tests.receiver.studies import PLAN, REGIONS, ROI, SHAPE, WHOLE

BY_NAME = {region.name: region for region in REGIONS}


def test_of_no_voxels_all_have_every_quality() -> None:
    assert Count().share(Quality.VERIFIED) == 1


def test_voxels_count_for_each_quality_they_have_at_least_and_only_where_they_are_owned() -> None:
    quality = np.full(SHAPE, Quality.PREVIEW, np.uint8)
    quality[ROI.slices] = Quality.VERIFIED
    roi, tissue = BY_NAME["roi0"], BY_NAME["tissue"]
    counted = count([roi, tissue], BY_NAME, quality)
    assert counted.total == tissue.box.voxels  # less the ROI's, which count with the ROI
    assert counted.at == {
        Quality.PREVIEW: tissue.box.voxels,
        Quality.BOUNDED: ROI.voxels,
        Quality.VERIFIED: ROI.voxels,
    }
    assert counted.share(Quality.VERIFIED) == ROI.voxels / tissue.box.voxels


def test_where_nothing_is_painted_nothing_is_looked_at() -> None:
    counted = count([BY_NAME["roi0"]], BY_NAME, None)
    assert (counted.total, set(counted.at.values())) == (ROI.voxels, {0})


def test_what_is_taken_out_of_a_count_is_in_neither_its_total_nor_its_qualities() -> None:
    quality = np.full(SHAPE, Quality.PREVIEW, np.uint8)
    all_of_it = count([Region("", RegionKind.BACKGROUND, WHOLE)], BY_NAME, quality)
    left = all_of_it.without(count([BY_NAME["roi0"]], BY_NAME, quality))
    assert left.total == left.at[Quality.PREVIEW] == WHOLE.voxels - ROI.voxels
    assert all_of_it.total == WHOLE.voxels


def test_rois_are_what_they_mark_whoever_sends_it_and_less_what_earlier_ones_mark() -> None:
    late = Region("roi1", RegionKind.ROI, Box((2, 3, 2), (5, 7, 6)), ("tissue", "roi0"))
    rois = rois_of({**BY_NAME, "roi1": late})
    assert [roi.name for roi in rois] == ["roi0", "roi1"]
    assert rois[1].excludes == ("roi0",)


def test_a_plan_is_whole_when_every_voxel_will_be_exact() -> None:
    assert is_planned(BY_NAME, SHAPE)
    short = replace(PLAN, regions=REGIONS[:-1])
    assert not is_planned({region.name: region for region in short.regions}, SHAPE)
