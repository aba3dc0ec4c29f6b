"""Everything the first message needs: volumes read, ROIs found, values mapped, regions planned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protocol import limits
from protocol.messages import Manifest, SeriesManifest
from sender.growing import open_series
from sender.layering import cut_layers, make_plan
from sender.read.source import read_study
from sender.segment.base import Segmentation
from sender.segment.registry import segmenter_for
from sender.segment.tissue import tissue_box
from sender.settings import Background
from sender.write.rois import write_rois
from shared.errors import InputError
from shared.intensity import fit_sample_map, fit_window, value_range
from shared.layer import RegionKind
from shared.ownership import holes, owned_count
from shared.volume import volume_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from protocol.messages import Plan
    from sender.layering import LayerJob
    from sender.segment.base import Segmenter
    from sender.settings import SendSettings
    from shared.geometry import Box
    from shared.volume import Volume


@dataclass(frozen=True, slots=True)
class Series:
    """One volume, ready to be cut and coded."""

    volume: Volume
    entry: SeriesManifest
    plan: Plan
    segmentation: Segmentation
    jobs: tuple[LayerJob, ...]
    """Every layer that the plan asks for."""
    roi_voxels: int
    """Voxels that the ROIs own."""
    kept_voxels: int
    """Voxels that are to become exact: all but discarded background."""
    tissue: Box
    thinking: Segmenter | None = None
    """Has not given its last answer: the plan will grow, see `sender.growth`."""


@dataclass(frozen=True, slots=True)
class Study:
    """All series of a session, the one that the ROI belongs to first."""

    series: tuple[Series, ...]
    left_out: tuple[str, ...]
    """One sentence each of what was found and not sent, and why."""

    @property
    def manifest(self) -> Manifest:
        """What the receiver is told first."""
        entries = tuple(series.entry for series in self.series)
        study = hashlib.sha256(b"".join(entry.digest for entry in entries)).digest()
        return Manifest(study, entries)


def prepare_study(
    paths: Sequence[Path],
    settings: SendSettings,
    *,
    series: int | None,
    volume: int | None,
    wait: bool = True,
) -> Study:
    """Read, segment, map and plan. Blocking; run it in a worker.

    Args:
        wait: for a segmenter that is slow; else series are prepared of which it is `thinking`.

    Raises:
        InputError: nothing here is ours to send, or it is damaged, or a mask fits nothing.
        SettingsError: an ROI, series or volume that there is not.
    """
    segmenter = segmenter_for(settings.roi, settings.roi_options)
    found = read_study(paths, series=series, volume=volume)
    if len(found.volumes) > limits.MAX_SERIES:
        raise InputError(paths[0], f"{len(found.volumes)} series, more than {limits.MAX_SERIES}")
    ordered = _roi_first(found.volumes, segmenter)
    prepared = tuple(
        _prepare_series(number, candidate, segmenter if fits else None, settings, wait=wait)
        for number, (candidate, fits) in enumerate(ordered)
    )
    if not any(each.thinking for each in prepared):
        leave_rois(prepared, settings)
    return Study(prepared, found.left_out)


def leave_rois(prepared: Sequence[Series], settings: SendSettings) -> None:
    """Write the ROIs used, where that is asked for. Blocking.

    Raises:
        MedroiError: they cannot be written there, or not in that form.
    """
    if settings.roi_out is not None:
        write_rois(settings.roi_out, [(each.volume, each.segmentation) for each in prepared])


def _roi_first(volumes: Sequence[Volume], segmenter: Segmenter) -> list[tuple[Volume, bool]]:
    """The series that the segmenter's answer belongs to before the others.

    Raises:
        MedroiError: it has an answer for none.
    """
    misfits = [segmenter.misfit(volume.header) for volume in volumes]
    for misfit in misfits:
        if misfit is None:
            break
    else:
        raise misfits[0] or AssertionError("a study has a series")
    pairs = [(volume, misfit is None) for volume, misfit in zip(volumes, misfits, strict=True)]

    def place(pair: tuple[Volume, bool]) -> int:
        volume, fits = pair
        if not fits:
            return 2
        return 0 if segmenter.native(volume.header) else 1

    return sorted(pairs, key=place)


def _prepare_series(
    number: int,
    volume: Volume,
    segmenter: Segmenter | None,
    settings: SendSettings,
    *,
    wait: bool,
) -> Series:
    voxels = volume.voxels
    discard = settings.background is Background.DISCARD
    thinking = segmenter if segmenter is not None and segmenter.slow and not wait else None
    if thinking is not None:
        segmentation = Segmentation((), "Not known yet.", thinking.name)
        tissue = tissue_box(volume)
        plan = open_series(number, volume.header, tissue, discard_background=discard).plan
    else:
        segmentation = segment_series(number, volume, segmenter)
        tissue = segmentation.tissue or tissue_box(volume)
        plan = make_plan(
            number, volume.header, segmentation.rois, tissue, discard_background=discard
        )
    entry = SeriesManifest(
        header=volume.header,
        samples=fit_sample_map(voxels),
        window=fit_window(voxels),
        value_range=value_range(voxels),
        digest=volume_digest(volume.header, voxels),
    )
    series = Series(volume, entry, plan, segmentation, (), 0, 0, tissue, thinking)
    return with_plan(series, plan)


def with_plan(series: Series, plan: Plan) -> Series:
    """A series whose plan is another, with what follows from that."""
    exact: tuple[RegionKind, ...] = (RegionKind.ROI, RegionKind.TISSUE, RegionKind.BACKGROUND)
    if series.thinking is not None:  # all that is shown will be exact, as far as is known
        exact = (RegionKind.SURROUNDINGS,)
    return replace(
        series,
        plan=plan,
        jobs=tuple(cut_layers(plan)),
        roi_voxels=_owned(plan, RegionKind.ROI),
        kept_voxels=_owned(plan, *exact),
    )


def segment_series(number: int, volume: Volume, segmenter: Segmenter | None) -> Segmentation:
    """The last answer. A mask of the first series that cannot be brought onto a later one (marks
    outside it, contours across it) is no ROI of that one, and no reason to send nothing."""
    if segmenter is None:
        return Segmentation((), "The ROI belongs to another series.", "none")
    try:
        *_, segmentation = segmenter.segment(volume)
    except InputError as error:
        return for_another(number, segmenter, error)
    return segmentation


def for_another(number: int, segmenter: Segmenter, error: InputError) -> Segmentation:
    """The answer for a series that a segmenter refuses.

    Raises:
        InputError: it is the first one.
    """
    if number == 0:
        raise error
    reason = f"The ROI belongs to another series: {error.why}."
    return Segmentation((), reason, segmenter.name)


def _owned(plan: Plan, *kinds: RegionKind) -> int:
    """How many voxels the regions of these kinds own, discarded ones aside."""
    regions = {region.name: region for region in plan.regions}
    return sum(
        owned_count(region.box, holes(region, region.box, regions))
        for region in plan.regions
        if region.kind in kinds and not region.discarded
    )
