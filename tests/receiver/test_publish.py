from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from protocol.messages import Mark
from receiver import publish
from receiver.compose import GrowingVolume
from receiver.publish import MARK_NAMES, Publisher, badge
from shared.display import PlainDisplay
from shared.layer import Quality
from shared.timeline import Timeline
from shared.workers import InlineWorkers
from tests.receiver.studies import PLAN, REGIONS, SHAPE, Study, honest, study
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from pathlib import Path

    from shared.display import Progress

WARNING = "PREVIEW PARTS ARE NOT FOR PRIMARY DIAGNOSIS"


class Said(PlainDisplay):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, sentence: str) -> None:
        self.lines.append(sentence)

    def show(self, progress: Progress, now_s: float) -> None:
        """Where things stand is not a thing that is said."""


@dataclass
class Session:
    """As much of a session as a publisher looks at."""

    volumes: list[GrowingVolume]
    folder: Path | None = None
    connection: Any = field(default=None)


def grown(folder: Path, sent: Study, *layers: tuple[str, Quality]) -> GrowingVolume:
    volume = GrowingVolume(folder, "series-1", sent.entry)
    volume.set_plan(sent.plan)
    for region, quality in layers:
        offer, _ = sent.layer(0, region, quality)
        assert offer.box is not None
        part = np.ascontiguousarray(sent.voxels[offer.box.slices])
        if quality is Quality.EXACT:
            assert volume.paint_exact(offer, sent.entry.samples.to_samples(part))
        else:
            volume.paint_lossy(offer, sent.entry.window.to_preview(part))
    return volume


def published(
    display: Said, session: Session, *marks: Mark, pictures: bool = False, series: int = 0
) -> None:
    async def main() -> None:
        timeline = Timeline(lambda: 12.345)
        timeline.mark("connected")
        publisher = Publisher(display, InlineWorkers(), timeline, pictures=pictures)
        watched: Any = session
        async with asyncio.TaskGroup() as group:
            running = group.create_task(publisher.run())
            await publisher.began(watched)
            for mark in marks:
                await publisher.reached(watched, series, mark)
            await publisher.ended(watched)
            await publisher.drain()
            running.cancel()

    run_virtual(main())


def test_a_study_is_announced_with_what_its_reader_must_know(tmp_path: Path) -> None:
    sent = study()
    header = replace(sent.entry.header, label="CT head", remarks=("gantry tilt 15 degrees",))
    sent = replace(sent, entry=replace(sent.entry, header=header))
    grown(tmp_path, sent, ("roi0", Quality.EXACT)).files.sync()
    display = Said()
    published(display, Session([grown(tmp_path, sent)], tmp_path / "study"))
    assert display.lines == [
        f"receiving series 1: 8 x 10 x 6, into {tmp_path / 'study'}",
        "  remarks on it, in its side-car: 1",
        "  1 layers are here already and proven",
    ]


def test_no_label_and_no_remark_is_said_for_they_may_name_a_patient(tmp_path: Path) -> None:
    sent = study()
    quoted = "Invalid value for VR PN: 'SMITH^JOHN'."
    header = replace(sent.entry.header, label="SMITH_JOHN", remarks=(quoted,))
    sent = replace(sent, entry=replace(sent.entry, header=header))
    display = Said()
    session = Session([grown(tmp_path, sent, ("roi0", Quality.EXACT))], tmp_path / "study")
    published(display, session, *MARK_NAMES)
    assert len(display.lines) > len(MARK_NAMES)
    assert not any("SMITH" in line for line in display.lines)
    told = (tmp_path / "series-1.json").read_text()  # for whoever may read the study
    assert "SMITH_JOHN" in told
    assert quoted in told


def test_each_mark_is_said_with_its_time_and_leaves_a_side_car(tmp_path: Path) -> None:
    display = Said()
    volume = grown(tmp_path, study(), ("roi0", Quality.EXACT))
    published(display, Session([volume]), Mark.ROI_EXACT)
    assert display.lines[1] == "   12.35 s  ROI exact"
    assert json.loads((tmp_path / "series-1.json").read_text())["voxels"]["verified"] == 32
    display = Said()
    published(display, Session([volume, volume]), Mark.WHOLE_PREVIEW, series=1)
    assert display.lines[2] == "   12.35 s  whole preview of series 2"


def test_pictures_are_left_where_they_are_wanted(tmp_path: Path) -> None:
    volume = grown(tmp_path, study(), ("roi0", Quality.EXACT))
    published(Said(), Session([volume]), Mark.ROI_EXACT)
    assert not list(tmp_path.glob("*.png"))
    published(Said(), Session([volume]), *MARK_NAMES, pictures=True)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "series-1.partial-0-connected.png",
        "series-1.partial-1-roi_preview.png",
        "series-1.partial-2-roi_exact.png",
        "series-1.partial-3-whole_preview.png",
        "series-1.partial-4-whole_exact.png",
    ]


@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 1, 1), (9, 1, 1), (1, 40, 1)], ids=str)
def test_a_volume_of_a_line_or_a_voxel_has_a_picture_too(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    sent = study(shape, plan=replace(PLAN, regions=()))
    published(Said(), Session([grown(tmp_path, sent)]), Mark.WHOLE_PREVIEW, pictures=True)
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_what_the_disk_does_not_take_is_said_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "write_sidecar", fail)
    monkeypatch.setattr(publish, "draw_picture", fail)
    display = Said()
    volume = grown(tmp_path, study())
    published(display, Session([volume]), Mark.ROI_PREVIEW, Mark.ROI_EXACT, pictures=True)
    assert sum("No space left" in line for line in display.lines) == 5


# -- the badge ------------------------------------------------------------------------------------


def test_the_badge_of_nothing_says_that_all_is_missing(tmp_path: Path) -> None:
    volume = GrowingVolume(tmp_path, "series-1", study().entry)
    assert badge(volume) == f"whole 0 % exact, 100 % missing - {WARNING}"
    volume.set_plan(PLAN)
    assert badge(volume) == f"ROI 0 % exact, whole 0 % exact, 100 % missing - {WARNING}"


def test_the_badge_says_how_good_each_part_is(tmp_path: Path) -> None:
    volume = grown(tmp_path, study(), ("roi0", Quality.EXACT))
    assert badge(volume) == f"ROI EXACT, whole 6 % exact, 94 % missing - {WARNING}"
    previewed = ("surroundings", Quality.PREVIEW)
    volume = grown(tmp_path, study(), ("tissue", Quality.EXACT), previewed)
    assert badge(volume) == f"ROI EXACT, whole 40 % exact - {WARNING}"


def test_only_a_proven_volume_is_called_exact(tmp_path: Path) -> None:
    parts = [(name, Quality.EXACT) for name in ("roi0", "tissue", "background")]
    volume = grown(tmp_path, study(), *parts)
    assert badge(volume) == f"ROI EXACT, whole 100 % exact - {WARNING}"
    volume.prove()
    assert badge(volume) == "EXACT: every voxel proven by its digest"


def test_one_missing_voxel_of_many_is_not_rounded_away(tmp_path: Path) -> None:
    volume = grown(tmp_path, study())
    for count, total in ((volume.roi, 32_000), (volume.whole, 480_000)):
        count.total = total
        count.at.update({Quality.PREVIEW: total - 1, Quality.VERIFIED: total - 1})
    assert badge(volume) == f"ROI 99 % exact, whole 99 % exact, 1 % missing - {WARNING}"


def test_the_badge_says_what_was_not_sent(tmp_path: Path) -> None:
    discarded = (*REGIONS[:3], replace(REGIONS[3], discarded=True))
    sent = study(plan=replace(PLAN, regions=discarded))
    parts = [(name, Quality.EXACT) for name in ("roi0", "tissue")]
    volume = grown(tmp_path, sent, *parts, ("surroundings", Quality.PREVIEW))
    assert badge(volume) == (f"ROI EXACT, whole 100 % exact, background not sent - {WARNING}")


def test_an_roi_that_is_the_first_thing_planned_is_not_the_whole(tmp_path: Path) -> None:
    sent = study(plan=replace(PLAN, regions=REGIONS[:1]))
    volume = grown(tmp_path, sent, ("roi0", Quality.EXACT))
    assert (
        badge(volume)
        == f"ROI exact as far as it is known, whole 6 % exact, 94 % missing - {WARNING}"
    )


def test_it_watches_a_whole_session(tmp_path: Path) -> None:
    display = Said()

    class Runs:
        """A publisher that draws at once."""

        def __init__(self) -> None:
            self.inner = Publisher(display, InlineWorkers(), Timeline(lambda: 1.0), pictures=True)

        async def drawn(self) -> None:
            while not self.inner._due.empty():
                self.inner._due.get_nowait()()

        async def began(self, session: Any) -> None:
            await self.inner.began(session)

        async def reached(self, session: Any, series: int, mark: Mark) -> None:
            await self.inner.reached(session, series, mark)
            await self.drawn()

        async def ended(self, session: Any) -> None:
            await self.inner.ended(session)
            await self.drawn()

    ended = honest(tmp_path, study(), watcher=Runs())
    assert ended.error is None
    assert ended.session.folder is not None
    names = sorted(path.name for path in ended.session.folder.iterdir())
    assert names == [
        "series-1-4-whole_exact.png",
        "series-1.json",
        "series-1.nii",
        "series-1.partial-1-roi_preview.png",
        "series-1.partial-2-roi_exact.png",
        "series-1.partial-3-whole_preview.png",
    ]
    assert [line.split("  ")[-1] for line in display.lines[1:]] == [
        "ROI preview",
        "ROI exact",
        "whole preview",
        "whole exact",
    ]
    sidecar = json.loads((ended.session.folder / "series-1.json").read_text())
    assert sidecar["proven"] is True
    assert sidecar["voxels"]["total"] == int(np.prod(SHAPE))
