from __future__ import annotations

from dataclasses import replace

from sender.improving import Waiting, improvable, is_better
from sender.schedule import Link
from tests.sender.studies import jobs_of, plan_of

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
