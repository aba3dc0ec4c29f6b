"""What a volume believes of itself when it is opened once more."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pytest

from protocol.messages import Mark
from receiver import previews
from shared.geometry import Box
from shared.layer import LayerKey, Quality, Region, RegionKind
from tests.receiver.studies import (
    PLAN,
    SHAPE,
    WHOLE,
    Study,
    entry_of,
    headers_layer,
    series_header,
    study,
)
from tests.receiver.test_compose import grown, paint

if TYPE_CHECKING:
    from pathlib import Path


def broken_off(folder: Path, sent: Study, *regions: str) -> None:
    volume = grown(folder, sent)
    volume.paint_lossy(
        sent.layer(0, "surroundings", Quality.PREVIEW)[0], np.full(SHAPE, 9, np.uint16)
    )
    for region in regions:
        assert paint(volume, sent, sent.layer(0, region)[0])
    volume.files.sync()


@pytest.fixture
def _power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at which boot this is finds another one."""
    monkeypatch.setattr(previews, "boot_name", count().__next__)


@pytest.mark.usefixtures("_power_cuts")
def test_a_volume_resumed_after_a_power_cut_has_what_is_proven_and_nothing_else(
    tmp_path: Path,
) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "tissue")
    volume = grown(tmp_path, sent)
    assert volume.previews == []
    assert volume.held == tuple(
        sent.layer(0, region)[0].voxel_digest for region in ("roi0", "tissue")
    )
    proven = np.zeros(SHAPE, bool)
    proven[1:5, 1:9, 1:7] = True
    assert np.array_equal(volume.files.quality, np.where(proven, 5, 0))
    assert np.array_equal(volume.files.voxels, np.where(proven, sent.voxels, -32768))
    assert volume.whole.at == dict.fromkeys(volume.whole.at, 192)
    assert volume.roi.at[Quality.VERIFIED] == 32
    assert Mark.ROI_EXACT in volume.new_marks()
    assert paint(volume, sent, sent.layer(0, "background")[0])
    volume.prove()


def test_a_volume_resumed_by_another_process_has_its_previews_too(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "tissue")
    before = grown(tmp_path, sent).files
    known, values = np.array(before.quality), np.array(before.voxels)
    assert set(np.unique(known)) == {Quality.PREVIEW, Quality.VERIFIED}
    volume = grown(tmp_path, sent)
    assert np.array_equal(volume.files.quality, known)
    assert np.array_equal(volume.files.voxels, values)
    assert volume.previews == [(WHOLE, 1.0)]
    assert volume.whole.at == {
        Quality.PREVIEW: 480,
        Quality.BOUNDED: 192,
        Quality.VERIFIED: 192,
    }
    assert volume.holds(sent.layer(0, "surroundings", Quality.PREVIEW)[0])
    assert not volume.empty


def test_only_the_very_layer_is_held_and_not_another_of_the_same_digest(tmp_path: Path) -> None:
    flat = np.zeros(SHAPE, "<i2")
    plan = replace(PLAN, regions=(Region("background", RegionKind.BACKGROUND, WHOLE),))
    sent = Study(entry_of(series_header(), flat), flat, plan)
    top, bottom = Box((0, 0, 0), (3, 10, 8)), Box((3, 0, 0), (6, 10, 8))
    here, there = (sent.layer(0, "background", box=box)[0] for box in (top, bottom))
    assert here.voxel_digest == there.voxel_digest
    assert paint(grown(tmp_path, sent), sent, here)
    volume = grown(tmp_path, sent)
    assert volume.holds(here)
    assert volume.holds(replace(here, number=9, key=LayerKey(0, "background", Quality.EXACT, 4)))
    assert not volume.holds(there)
    assert not volume.holds(headers_layer(0, b"x")[0])


@pytest.mark.usefixtures("_power_cuts")
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_voxel_that_was_changed_behind_our_back_demotes_its_layer(
    tmp_path: Path, where: str
) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "tissue")
    path = tmp_path / "series-1.partial.nii"
    content = bytearray(path.read_bytes())
    z, y, x = (2, 3, 2) if where == "inside" else (0, 0, 0)
    content[352 + 2 * (z * 80 + y * 8 + x)] ^= 1
    path.write_bytes(content)
    volume = grown(tmp_path, sent)
    assert (sent.layer(0, "roi0")[0].voxel_digest in volume.held) == (where == "outside")
    assert volume.files.quality[2, 3, 2] == (0 if where == "inside" else 5)
    assert volume.files.voxels[0, 0, 0] == -32768


def test_a_quality_map_that_was_changed_makes_nothing_verified(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0")
    path = tmp_path / "series-1.partial.quality.nii"
    path.write_bytes(path.read_bytes()[:352] + bytes([5]) * 480)
    volume = grown(tmp_path, sent)
    assert np.count_nonzero(volume.files.quality) == 32


LINE = '{{"box": {box}, "holes": {holes}, "digest": "{digest}"}}\n'


@pytest.mark.parametrize(
    ("box", "holes"),
    [
        ("[[0, 0, 0], [7, 10, 8]]", "[]"),
        ("[[0, 0, 0], [6, 10, 9999999]]", "[]"),
        ("[[0, 0, 0], [2, 2, 2]]", "[[[0, 0, 0], [3, 1, 1]]]"),
        ("[[0, 0, 0], [2, 2, 2]]", "[]"),
    ],
)
def test_a_journal_that_lies_proves_nothing(tmp_path: Path, box: str, holes: str) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0")
    journal = tmp_path / "series-1.partial.journal"
    lie = LINE.format(box=box, holes=holes, digest="00" * 32)
    journal.write_text(journal.read_text() + lie)
    volume = grown(tmp_path, sent)
    assert volume.held == (sent.layer(0, "roi0")[0].voxel_digest,)
    assert np.count_nonzero(volume.files.quality == Quality.VERIFIED) == 32


def test_what_is_proven_behind_a_torn_line_is_found_the_next_time(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0")
    journal = tmp_path / "series-1.partial.journal"
    journal.write_text(journal.read_text() + '{"box": [[0, 0')
    paint(grown(tmp_path, sent), sent, sent.layer(0, "tissue")[0])
    assert len(grown(tmp_path, sent).held) == 2
    assert journal.read_text().count("\n") == 2


def test_a_layer_that_another_cut_has_proven_is_held_and_counted_once(tmp_path: Path) -> None:
    """The same voxels under another plan: the ROI of old is not in the way of the new one."""
    sent = study()
    broken_off(tmp_path, sent, "roi0", "tissue", "background")
    whole = Region("background", RegionKind.BACKGROUND, WHOLE)
    anew = replace(sent, plan=replace(PLAN, regions=(whole,)))
    volume = grown(tmp_path, anew)
    halves = (Box((0, 0, 0), (3, 10, 8)), Box((3, 0, 0), (6, 10, 8)))
    for box in halves:
        offer, _ = anew.layer(0, "background", box=box)
        assert volume.holds(offer)
        assert not volume.holds(replace(offer, voxel_digest=bytes(32)))
        assert paint(volume, anew, offer)
    assert len(grown(tmp_path, anew).held) == 3


def test_a_layer_that_came_twice_is_held_once(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "roi0")
    assert len(grown(tmp_path, sent).held) == 1
