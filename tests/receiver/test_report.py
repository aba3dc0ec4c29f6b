from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from protocol import messages as m
from receiver.compose import GrowingVolume
from receiver.report import receiver_report, write_sidecar
from shared.errors import ExitCode, RemoteProtocolError
from shared.header import Frames
from shared.layer import Quality
from shared.report import Report, write_report
from shared.timeline import Timeline
from tests.receiver.studies import (
    AFFINE,
    PLAN,
    ROI,
    SHAPE,
    Ended,
    Peer,
    attended,
    entry_of,
    headers_layer,
    honest,
    send_all,
    series_header,
    study,
)

if TYPE_CHECKING:
    from pathlib import Path


def report_of(ended: Ended, *, code: ExitCode = ExitCode.OK) -> Report:
    timeline = Timeline(lambda: 1.23456)
    timeline.mark("connected")
    return receiver_report(ended.session, timeline, outcome="as it went", exit_code=code)


def test_the_report_of_an_exact_study(tmp_path: Path) -> None:
    sent = study()
    layers = [*sent.layers(), headers_layer(5, b"extension")]
    ended = attended(tmp_path, lambda peer: send_all(peer, sent, layers))
    report = report_of(ended)
    assert ended.session.folder is not None
    assert (report.end, report.outcome, report.exit_code) == ("receiver", "as it went", 0)
    assert report.exact
    assert report.study == sent.manifest.study.hex()
    assert report.sha256 == sent.entry.digest.hex()
    sizes = [len(payload) for _, payload in layers]
    assert report.bytes == {
        "roi_preview": sizes[0],
        "roi_exact": sizes[1],
        "whole_preview": sizes[2],
        "tissue_bounded": 0,
        "tissue_exact": sizes[3],
        "background_exact": sizes[4],
        "headers": sizes[5],
        "total": sum(sizes),
        "wire": ended.session.visits.received_bytes,
    }
    assert report.codecs == {
        stage: "zstd" for stage in list(report.bytes)[:7] if report.bytes[stage]
    }
    assert report.times_s["connected"] == 1.2346
    assert report.times_s["whole_exact"] is None
    assert report.link == {"transport": "simulated", "congestion": ""}
    (series,) = report.series
    assert series.exact
    assert series.shape == list(SHAPE)
    assert series.dtype == "int16"
    assert series.sha256 == sent.entry.digest.hex()
    assert series.roi.boxes == [[[2, 4], [3, 7], [2, 6]]]
    assert (series.roi.voxels, series.roi.labels) == (32, ["lesion"])
    assert series.output == str(ended.session.folder / "series-1.nii")
    path = tmp_path / "report.json"
    write_report(report, path)
    content = json.loads(path.read_text())
    assert content["version"] == 1
    assert content["shape"] == list(SHAPE)


def test_the_report_of_a_study_that_broke_off_claims_nothing(tmp_path: Path) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.hear(m.LayerVerdict)
        await peer.transport.close()

    report = report_of(attended(tmp_path, script), code=ExitCode.INTERRUPTED)
    assert not report.exact
    assert report.sha256 is None
    assert report.exit_code == 5
    assert not report.series[0].exact
    assert report.series[0].sha256 is None
    assert report.series[0].output is not None
    assert report.series[0].output.endswith("series-1.partial.nii")


def test_the_report_of_no_study_or_of_one_that_was_not_taken_proves_nothing(tmp_path: Path) -> None:
    sent = study()

    async def silent(peer: Peer) -> None:
        await peer.transport.close()

    async def refused(peer: Peer) -> None:
        await peer.begin(sent.manifest)

    async def claimed(_study: bytes) -> None:
        raise RemoteProtocolError("not now")

    report = report_of(attended(tmp_path, silent))
    assert (report.study, report.sha256, report.exact, report.series) == (None, None, False, [])
    (tmp_path / sent.manifest.study.hex()[:16]).write_text("in the way")
    report = report_of(attended(tmp_path, refused))
    assert (report.study, report.sha256) == (sent.manifest.study.hex(), None)
    assert not report.exact
    report.as_json()


def sidecar(folder: Path, volume: GrowingVolume) -> dict[str, object]:
    write_sidecar(volume)
    assert not list(folder.glob("*.part"))
    content: dict[str, object] = json.loads((folder / "series-1.json").read_text())
    return content


def test_the_side_car_says_what_a_nifti_header_cannot(tmp_path: Path) -> None:
    sent = study()
    frames = Frames(
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (2.0, 3.0),
        tuple((0.0, 0.0, 4.0 * z) for z in range(6)),
        tuple((1.0 + z, -1024.0) for z in range(6)),
    )
    header = replace(
        series_header(),
        label="PET",
        modality="PT",
        frames=frames,
        remarks=("uneven spacing",),
        identity=(("PatientName", "Doe^Jane"), ("PatientID", "4711")),
        affine_known=False,
        slope=2.0,
        intercept=-5.0,
    )
    volume = GrowingVolume(tmp_path, "series-1", entry_of(header, sent.voxels))
    volume.set_plan(replace(PLAN, record=bytes(range(54))))
    offer, _ = sent.layer(0, "roi0", Quality.PREVIEW)
    volume.paint_lossy(replace(offer, max_error=12.5), np.zeros(ROI.shape, np.uint16))
    volume.paint_lossy(replace(offer, max_error=math.inf), np.zeros(ROI.shape, np.uint16))
    content = sidecar(tmp_path, volume)
    assert content["label"] == "PET"
    assert content["modality"] == "PT"
    assert content["identity"] == {"PatientName": "Doe^Jane", "PatientID": "4711"}
    assert content["shape_zyx"] == list(SHAPE)
    assert content["dtype"] == "int16"
    assert content["affine_ras"] == np.reshape(AFFINE, (4, 4)).tolist()
    assert content["affine_known"] is False
    assert (content["slope"], content["intercept"]) == (2.0, -5.0)
    assert content["remarks"] == ["uneven spacing"]
    assert content["sha256"] == volume.entry.digest.hex()
    assert content["proven"] is False
    assert content["quality"] == {
        "MISSING": 0,
        "DISCARDED": 1,
        "PREVIEW": 2,
        "BOUNDED": 3,
        "UNPROVEN": 4,
        "VERIFIED": 5,
    }
    assert content["voxels"] == {
        "total": 480,
        "missing": 448,
        "verified": 0,
        "at_least_bounded": 0,
        "at_least_preview": 32,
        "discarded": 0,
    }
    assert content["fill_value_of_missing"] == -32768
    assert content["previews"] == [
        {"box": str(ROI), "max_error": 12.5},
        {"box": str(ROI), "max_error": None},
    ]
    regions = content["regions"]
    assert isinstance(regions, list)
    assert regions[0] == {"name": "roi0", "kind": "roi", "box": "2:4,3:7,2:6"}
    assert content["medroi_record"] == bytes(range(54)).hex()
    assert content["frames"] == {
        "row_cosines_lps": [1.0, 0.0, 0.0],
        "column_cosines_lps": [0.0, 1.0, 0.0],
        "pixel_spacing_mm": [2.0, 3.0],
        "positions_lps_mm": [[0.0, 0.0, 4.0 * z] for z in range(6)],
        "rescale_slope_intercept": [[1.0 + z, -1024.0] for z in range(6)],
    }


@pytest.mark.parametrize(("dtype", "fill"), [("<f4", "NaN"), ("|u1", 255), (">i4", -(2**31))])
def test_the_side_car_names_the_fill_value(tmp_path: Path, dtype: str, fill: object) -> None:
    volume = GrowingVolume(tmp_path, "series-1", study(dtype=dtype).entry)
    content = sidecar(tmp_path, volume)
    assert content["fill_value_of_missing"] == fill
    assert content["frames"] is None
    assert content["regions"] == []


def test_the_side_car_of_a_finished_study_says_that_it_is_proven(tmp_path: Path) -> None:
    ended = honest(tmp_path, study())
    volume = ended.session.volumes[0]
    content = sidecar(volume.files.folder, volume)
    assert content["proven"] is True
    assert content["voxels"] == {
        "total": 480,
        "missing": 0,
        "verified": 480,
        "at_least_bounded": 480,
        "at_least_preview": 480,
        "discarded": 0,
    }


def test_the_name_of_a_patient_is_data_and_nothing_else(tmp_path: Path) -> None:
    names = ('<img src=x onerror="x">', "'; --", "=cmd|' /C calc'!A0", "山田　太郎", '"}]')
    identity = tuple((f"PatientName{n}", name) for n, name in enumerate(names))
    header = replace(series_header(), label=names[0], identity=identity)
    volume = GrowingVolume(tmp_path, "series-1", entry_of(header, study().voxels))
    content = sidecar(tmp_path, volume)
    assert content["identity"] == dict(identity)
    assert (tmp_path / "series-1.json").read_text().isascii()
