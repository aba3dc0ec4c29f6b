from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import pytest

from protocol.messages import Mark
from sender.growth import next_answer
from sender.settings import SendSettings
from sender.spool import Grown, Spool
from shared.errors import InputError
from shared.geometry import Box
from shared.layer import RegionKind
from shared.workers import InlineWorkers
from tests.endtoend.virtual_transfer import Ended, send, study_in
from tests.sender.studies import TwoLooks, brain, not_thought_over, series_of, study_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sender.prepare import Series
    from sender.segment.base import Segmentation, Segmenter
    from shared.volume import Volume

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SHAPE = (12, 64, 64)
TISSUE = Box((1, 4, 4), (11, 60, 60))
THINKS_S = 3.0


class Thinking(InlineWorkers):
    """A segmenter takes its time over each answer."""

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        asked: object = work
        if asked is next_answer:
            await asyncio.sleep(THINKS_S)
        return await super().run(work, *arguments)


class Refusing(TwoLooks):
    """Finds out late that a series is not for it."""

    def segment(self, volume: Volume) -> Iterator[Segmentation]:
        if volume.voxels.size:
            raise InputError("mask", "its marks lie outside")
        yield from super().segment(volume)


def thought_over(out: Path, link: str, segmenter: Segmenter | None = None) -> Ended:
    (series,) = study_in(out / "in", {"head.nii": brain(SHAPE)}, SendSettings()).series
    study = study_of(not_thought_over(series, segmenter or TwoLooks()))
    return send(study, out, link, workers=Thinking())


def grown(ended: Ended) -> Series:
    assert ended.sender.offering is not None
    return ended.sender.offering.series[0]


def test_a_study_is_exact_whose_roi_is_found_while_it_is_sent(tmp_path: Path) -> None:
    ended = thought_over(tmp_path, "rate=256k,rtt=100ms")
    assert ended.errors == [None, None]
    assert ended.sender.exact is True
    series = grown(ended)
    assert series.thinking is None
    assert series.segmentation.reason == "Found in 2 places."
    rois = [region for region in series.plan.regions if region.kind is RegionKind.ROI]
    assert {roi.box for roi in rois} >= {Box((8, 40, 40), (9, 44, 44))}


def test_the_preview_is_there_before_the_first_answer(tmp_path: Path) -> None:
    ended = thought_over(tmp_path, "rate=1M,rtt=40ms")
    assert ended.at_s(Mark.WHOLE_PREVIEW) < THINKS_S


def test_an_roi_is_not_called_exact_while_another_answer_may_come(tmp_path: Path) -> None:
    ended = thought_over(tmp_path, "rate=20M,rtt=10ms")
    assert ended.at_s(Mark.ROI_EXACT) > 2 * THINKS_S


def test_tissue_goes_ahead_where_the_link_would_be_idle(tmp_path: Path) -> None:
    names = [
        region.name for region in grown(thought_over(tmp_path, "rate=20M,rtt=10ms")).plan.regions
    ]
    assert names.index("ahead0") < names.index("roi0")


def test_a_roi_that_goes_before_tissue_is_exact_long_before_the_whole(tmp_path: Path) -> None:
    ended = thought_over(tmp_path, "rate=24k,rtt=100ms")
    assert ended.at_s(Mark.ROI_EXACT) < 0.8 * ended.at_s(Mark.WHOLE_EXACT)


def test_where_nothing_is_found_the_study_goes_in_plain_order(tmp_path: Path) -> None:
    ended = thought_over(tmp_path, "rate=1M,rtt=40ms", TwoLooks((), ()))
    assert ended.sender.exact is True
    assert ended.received[Mark.ROI_EXACT.value] is None


def test_a_segmenter_that_refuses_the_first_series_ends_the_session(tmp_path: Path) -> None:
    ended = thought_over(tmp_path, "rate=1M,rtt=40ms", Refusing())
    assert isinstance(ended.errors[0], InputError)


@pytest.mark.parametrize("last", [False, True])
def test_plans_are_kept_for_another_process(tmp_path: Path, last: bool) -> None:
    series = not_thought_over(series_of(brain(SHAPE), (), TISSUE), TwoLooks())
    study = study_of(series)
    kept = Grown(series.plan, "Gefunden über Nacht.", last)
    spool = Spool.open(tmp_path, study, SendSettings(), "ws://clinic", bytes(16))
    spool.put_plan(kept)
    spool.close()
    again = Spool.open(tmp_path, study, SendSettings(), "ws://clinic", bytes(16))
    assert list(again.replay()) == [kept]
    again.start_over(bytes(16), [kept])
    again.close()
    anew = Spool.open(tmp_path, study, SendSettings(), "ws://clinic", bytes(16))
    assert list(anew.replay()) == [kept]
    anew.close()
