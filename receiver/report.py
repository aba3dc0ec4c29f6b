"""The receiver's report and the side-car of each volume, from what its session knows."""

from __future__ import annotations

import json
import os
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from receiver.files import fill_value
from shared.layer import Quality, RegionKind
from shared.report import (
    Report,
    RoiReport,
    SeriesReport,
    box_rows,
    dtype_name,
    times_of,
    total_bytes,
)

if TYPE_CHECKING:
    from receiver.compose import GrowingVolume
    from receiver.session import ReceivingSession
    from shared.errors import ExitCode
    from shared.timeline import Timeline


def receiver_report(
    session: ReceivingSession,
    timeline: Timeline,
    *,
    outcome: str,
    exit_code: ExitCode,
) -> Report:
    """What is known of a study when its session has ended, however it ended."""
    stats = session.visits.stats
    volumes = session.volumes
    name = session.manifest.study.hex() if session.manifest else None
    proven = bool(volumes) and all(volume.proven for volume in volumes)
    one = volumes[0].entry.digest.hex() if len(volumes) == 1 else name
    return Report(
        end="receiver",
        outcome=outcome,
        exit_code=int(exit_code),
        study=name,
        exact=session.exact is True,
        sha256=one if proven else None,
        bytes=total_bytes(session.painter.bytes, session.visits.received_bytes),
        times_s=times_of(timeline.marks()),
        link={
            "transport": stats.name if stats else None,
            "congestion": stats.congestion if stats else None,
        },
        codecs=dict(session.painter.codecs),
        series=[_series(volume) for volume in volumes],
        quarantined=session.quarantine.count if session.quarantine else 0,
    )


def _series(volume: GrowingVolume) -> SeriesReport:
    header = volume.entry.header
    rois = [region for region in volume.regions.values() if region.kind is RegionKind.ROI]
    return SeriesReport(
        label=header.label,
        shape=list(header.shape),
        dtype=dtype_name(header.dtype),
        exact=volume.proven and volume.path is not None,
        sha256=volume.entry.digest.hex() if volume.proven else None,
        roi=RoiReport(
            boxes=[box_rows(region.box) for region in rois],
            voxels=volume.roi.total,
            labels=[region.label for region in rois],
        ),
        remarks=list(header.remarks),
        discarded_voxels=volume.discarded_voxels,
        output=str(volume.path or volume.files.path),
    )


def write_sidecar(volume: GrowingVolume) -> None:
    """Beside a volume, as JSON: what a NIfTI header cannot say, and how good the voxels are.

    Geometry and scaling of every slice, remarks, whose study it is, the legend of the quality map,
    the fill value of missing voxels, the largest error of each preview, MedROI's record with the
    full affine that it lacks.
    """
    header = volume.entry.header
    frames = header.frames
    fill = fill_value(np.dtype(header.dtype))
    content = {
        "label": header.label,
        "modality": header.modality,
        "identity": dict(header.identity),
        "shape_zyx": header.shape,
        "dtype": dtype_name(header.dtype),
        "affine_ras": np.reshape(header.affine, (4, 4)).tolist(),
        "affine_known": header.affine_known,
        "slope": header.slope,
        "intercept": header.intercept,
        "remarks": header.remarks,
        "sha256": volume.entry.digest.hex(),
        "proven": volume.proven,
        "quality": {level.word.upper(): int(level) for level in Quality},
        "state": "EXACT" if volume.proven else "PARTIAL: see the quality map",
        "quality_map": None if volume.path else volume.files.quality_path.name,
        "voxels": {
            "total": int(np.prod(header.shape)),
            "missing": volume.whole.total - volume.whole.at[Quality.PREVIEW],
            "verified": volume.whole.at[Quality.VERIFIED],
            "at_least_bounded": volume.whole.at[Quality.BOUNDED],
            "at_least_preview": volume.whole.at[Quality.PREVIEW],
            "discarded": volume.discarded_voxels,
        },
        "fill_value_of_missing": "NaN" if fill != fill else fill,
        "previews": [
            {"box": str(box), "max_error": error if isfinite(error) else None}
            for box, error in volume.previews
        ],
        "regions": [
            {"name": region.name, "kind": region.kind.value, "box": str(region.box)}
            for region in volume.regions.values()
        ],
        "medroi_record": volume.record.hex(),
        "frames": None
        if frames is None
        else {
            "row_cosines_lps": frames.row_cosines,
            "column_cosines_lps": frames.column_cosines,
            "pixel_spacing_mm": frames.pixel_spacing_mm,
            "positions_lps_mm": frames.positions_mm,
            "rescale_slope_intercept": frames.rescale,
        },
    }
    path = volume.files.folder / f"{volume.files.stem}.json"
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1))
    os.replace(part, path)
