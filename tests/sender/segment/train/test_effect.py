from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.train.effect import Row, _publish, hevc, jpeg2000, plot, settings_of, summary
from tests.sender.segment.unet.test_segmenter import head_with_a_lesion
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike


@pytest.mark.parametrize("ratio", [8, 16])
def test_jpeg_2000_keeps_its_ratio_and_loses_with_it(ratio: int) -> None:
    volume = head_with_a_lesion()[0]
    done = jpeg2000(volume, ratio)
    assert done.voxels.dtype == volume.voxels.dtype
    assert 2 * volume.voxels.size / done.size_bytes == pytest.approx(ratio, rel=0.2)  # small slices
    assert done.psnr_db < jpeg2000(volume, ratio // 2).psnr_db


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_ratio_1_is_exact(dtype: DTypeLike) -> None:
    voxels = np.random.default_rng(0).integers(0, 120, (3, 20, 24)).astype(dtype)
    np.testing.assert_array_equal(jpeg2000(volume_of(voxels), 1).voxels, voxels)


def test_floats_lose_no_more_than_their_step() -> None:
    voxels = np.random.default_rng(0).normal(0, 3, (3, 20, 24)).astype(np.float32)
    done = jpeg2000(volume_of(voxels), 1)
    step = float(np.ptp(voxels)) / 65535
    assert np.abs(done.voxels - voxels).max() <= step


def test_hevc_is_what_our_preview_is() -> None:
    volume = head_with_a_lesion()[0]
    done = hevc(volume)
    assert done.psnr_db > 30
    assert 2 * volume.voxels.size / done.size_bytes > 10


def test_every_setting_is_told_with_its_means_and_drawn(tmp_path: Path) -> None:
    names = list(settings_of((1, 20)))
    assert names == ["JPEG 2000, 1", "JPEG 2000, 20", "HEVC preview"]
    rows = [
        Row(name, scan, ratio, psnr_db, dice, 0.9)
        for name, ratio, psnr_db, dice in (
            (names[0], 2.0, 999.0, 0.9), (names[1], 20.0, 41.0, 0.81), (names[2], 70.0, 40.0, 0.72)
        )
        for scan in ("a", "b")
    ]  # fmt: skip
    text = summary(rows)
    assert "| JPEG 2000, 1 | 2.0 | exact | 0.900 | 1.000 | 90.0% |" in text
    assert "| JPEG 2000, 20 | 20.0 | 41.0 | 0.810 | 0.900 | 90.0% |" in text
    for trained, few in (([], []), (rows[:2], rows[2:])):
        plot(rows, trained, few, tmp_path / "effect.png")
        assert (tmp_path / "effect.png").read_bytes()[:4] == b"\x89PNG"
    _publish(tmp_path / "bench" / "papers.json", {"tested": rows}, 0)
    told = json.loads((tmp_path / "bench" / "papers.json").read_text())
    assert [row["what"] for row in told["rows"]] == [f"tested: {name}" for name in names]
    assert told["rows"][0]["got"] == "x2.0, exact, Dice 0.900, in ROI 90.0%"


def test_a_network_that_finds_nothing_is_told_without_dividing_by_it() -> None:
    assert "| a | 1.0 | exact | 0.000 | - | 0.0% |" in summary([Row("a", "b", 1, 999.0, 0.0, 0.0)])
