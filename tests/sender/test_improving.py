from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from sender.improving import Improving, Waiting, improvable, is_better
from sender.offers import Offered
from sender.schedule import Link
from tests.sender.studies import jobs_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sender.layering import LayerJob

SHAPE = (64, 256, 256)
TISSUE = jobs_of(plan_of(SHAPE), "tissue_exact")
PREVIEW = jobs_of(plan_of(SHAPE), "whole_preview")[0]
THIN = Link(64e3, 0)


def waiting(number: int, codec: str = "jpegls", unsent_bytes: int = 100_000) -> Waiting:
    job = TISSUE[number]
    return Waiting(job.priority, number, job, codec, unsent_bytes)


def test_the_foremost_that_waits_long_enough_is_made_smaller() -> None:
    assert improvable([waiting(2), waiting(1)], THIN) == waiting(1)


def test_one_whose_turn_comes_sooner_than_the_slow_codec_is_done_stays() -> None:
    near, far = waiting(0, unsent_bytes=2_000), waiting(1)
    assert improvable([near, far], THIN) == far
    assert improvable([near], THIN) is None


def test_what_the_slow_codec_made_itself_is_not_made_again() -> None:
    assert improvable([waiting(0, "causal3d")], THIN) is None


def test_previews_stay_as_they_are() -> None:
    seen = Waiting(PREVIEW.priority, 0, PREVIEW, "hevc", 100_000)
    assert improvable([seen], THIN) is None


def test_of_an_unknown_link_nothing_is_known_to_wait() -> None:
    assert improvable([waiting(0)], replace(THIN, rate_bps=0.0)) is None


def test_another_encoding_must_save_bytes_worth_the_change() -> None:
    assert is_better(80_000, 100_000)
    assert not is_better(98_000, 100_000)
    assert not is_better(100, 700)


class Bench:
    """One encoding that waits behind a thin link, and a slow codec that makes it half as large."""

    def __init__(self, *, becomes_bytes: int = 50_000) -> None:
        self.unsettled = {7: 100_000}
        self.offered = {7: Offered(TISSUE[1], 1, "jpegls")}
        self.becomes_bytes = becomes_bytes
        self.meanwhile: Callable[[], object] = bool
        schedule: Any = SimpleNamespace(is_thin=lambda link: True, priority=lambda job: (0,))
        self.improving = Improving(schedule, cast("Any", self), self.offered, cast("Any", self))

    async def improve(self, _series: object, _job: LayerJob) -> Any:
        self.meanwhile()
        return SimpleNamespace(codec="causal3d", payload=bytes(self.becomes_bytes))

    def smaller(self) -> object:
        found = self.improving.next(THIN)
        assert found is not None
        return asyncio.run(self.improving.smaller(cast("Any", None), found))


def test_what_waits_is_made_smaller_once() -> None:
    bench = Bench()
    assert bench.smaller() is not None
    assert bench.improving.next(THIN) is None


def test_what_came_out_no_smaller_stays() -> None:
    assert Bench(becomes_bytes=99_000).smaller() is None


def test_what_was_settled_meanwhile_is_not_replaced() -> None:
    bench = Bench()
    bench.meanwhile = bench.offered.clear
    assert bench.smaller() is None


def test_what_has_been_sent_meanwhile_is_not_worth_replacing() -> None:
    bench = Bench()
    bench.meanwhile = lambda: bench.unsettled.update({7: 1_000})
    assert bench.smaller() is None


def test_on_a_link_that_is_not_thin_nothing_is_made_twice() -> None:
    schedule: Any = SimpleNamespace(is_thin=lambda link: False)
    nothing: Any = None
    assert Improving(schedule, nothing, {}, nothing).next(THIN) is None
