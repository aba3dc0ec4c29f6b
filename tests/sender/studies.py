"""Series and studies to send, made here: in memory for one part, as files for a whole transfer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol.messages import SeriesManifest
from sender.growing import open_series
from sender.layering import cut_layers, make_plan
from sender.prepare import Series, Study, with_plan
from sender.segment.base import Segmentation
from shared.geometry import Box
from shared.intensity import fit_sample_map, fit_window, value_range
from shared.layer import RegionKind
from shared.ownership import holes, owned_count
from shared.roi import Roi
from shared.volume import volume_digest
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from protocol.messages import Plan
    from sender.layering import LayerJob
    from sender.segment.base import Segmenter
    from shared.geometry import Triple
    from shared.header import SeriesHeader
    from shared.layer import Quality
    from shared.volume import Volume


def rois_of(*boxes: Box) -> tuple[Roi, ...]:
    """ROIs of these boxes, the first foremost."""
    return tuple(Roi(box, f"lesion {rank}", rank) for rank, box in enumerate(boxes))


def plan_of(
    shape: Triple, rois: Sequence[Box] = (), tissue: Box | None = None, *, discard: bool = False
) -> Plan:
    """The plan of a volume of this shape; the tissue is all of it unless said."""
    header = replace(volume_of(np.zeros((1, 1, 1), np.int16)).header, shape=shape)
    whole = Box.whole(shape)
    return make_plan(0, header, rois_of(*rois), tissue or whole, discard_background=discard)


def series_of(
    voxels: ArrayLike,
    rois: Sequence[Box] = (),
    tissue: Box | None = None,
    *,
    number: int = 0,
    discard: bool = False,
) -> Series:
    """A series, ready to be encoded, without a segmenter having looked at it."""
    return prepared(volume_of(voxels), rois, tissue, number=number, discard=discard)


def prepared(
    volume: Volume,
    rois: Sequence[Box] = (),
    tissue: Box | None = None,
    *,
    number: int = 0,
    discard: bool = False,
) -> Series:
    """A volume with its plan, map and digest."""
    array = volume.voxels
    whole = Box.whole(volume.header.shape)
    plan = make_plan(
        number, volume.header, rois_of(*rois), tissue or whole, discard_background=discard
    )
    entry = SeriesManifest(
        header=volume.header,
        samples=fit_sample_map(array),
        window=fit_window(array),
        value_range=value_range(array),
        digest=volume_digest(volume.header, array),
    )
    segmentation = Segmentation(rois_of(*rois), "The ROI is as the test asked.", "box", tissue)
    return Series(
        volume,
        entry,
        plan,
        segmentation,
        tuple(cut_layers(plan)),
        roi_voxels=owned_by(plan, {RegionKind.ROI}),
        kept_voxels=owned_by(plan, {RegionKind.ROI, RegionKind.TISSUE, RegionKind.BACKGROUND}),
        tissue=tissue or whole,
    )


class TwoLooks:
    """A segmenter that thinks: it sees a part at first, and more when it looks again."""

    name = "twolooks"
    slow = True

    def __init__(self, *looks: tuple[Box, ...]) -> None:
        self.looks = looks or (
            (Box((2, 10, 10), (4, 20, 20)),),
            (Box((2, 10, 10), (5, 24, 20)), Box((8, 40, 40), (9, 44, 44))),
        )

    def misfit(self, header: SeriesHeader) -> None:
        return

    def native(self, header: SeriesHeader) -> bool:
        return True

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        for boxes in self.looks:
            yield Segmentation(rois_of(*boxes), f"Found in {len(boxes)} places.", self.name)


def not_thought_over(series: Series, segmenter: Segmenter, *, discard: bool = False) -> Series:
    """A prepared series as it is while a slow segmenter has not answered yet."""
    first = open_series(
        series.plan.series, series.volume.header, series.tissue, discard_background=discard
    )
    segmentation = Segmentation((), "Not known yet.", segmenter.name)
    series = replace(series, segmentation=segmentation, thinking=segmenter)
    return with_plan(series, first.plan)


def study_of(*series: Series) -> Study:
    """A study of these series."""
    return Study(series, ())


def owned_by(plan: Plan, kinds: set[RegionKind]) -> int:
    """How many voxels the regions of these kinds own, discarded ones aside."""
    regions = {region.name: region for region in plan.regions}
    return sum(
        owned_count(region.box, holes(region, region.box, regions))
        for region in plan.regions
        if region.kind in kinds and not region.discarded
    )


def jobs_of(
    plan_or_series: Plan | Series, stage: str | None = None, quality: Quality | None = None
) -> list[LayerJob]:
    """The layers of a stage or of a quality, foremost first."""
    found: Iterable[LayerJob]
    found = (
        plan_or_series.jobs if isinstance(plan_or_series, Series) else cut_layers(plan_or_series)
    )
    chosen = [
        job
        for job in found
        if stage in (None, job.stage.name) and quality in (None, job.key.quality)
    ]
    return sorted(chosen, key=lambda job: job.priority)


def brain(shape: Triple = (8, 24, 32), dtype: str = "<i2", seed: int = 0) -> NDArray[Any]:
    """Something like a head: dark around, bright and a little noisy within; whole numbers."""
    z, y, x = np.indices(shape)
    half = [max(length, 2) / 2 for length in shape]
    away = sum(
        ((axis + 0.5 - middle) / middle) ** 2 for axis, middle in zip((z, y, x), half, strict=True)
    )
    noise = np.random.default_rng(seed).integers(0, 12, shape)
    bright = np.where(away < 0.7, 400 - 300 * away, 0).astype(np.int64)
    head: NDArray[Any] = (bright + noise).astype(dtype)
    return head
