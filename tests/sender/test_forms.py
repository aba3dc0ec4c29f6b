from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sender.forms import Forms
from sender.offers import layer_offer
from sender.schedule import Link, Schedule
from sender.settings import SendSettings
from shared.errors import IntegrityError
from shared.workers import InlineWorkers
from tests.sender.studies import brain, jobs_of, series_of

if TYPE_CHECKING:
    from sender.encode import Encoded
    from sender.layering import LayerJob

SERIES = series_of(brain((12, 64, 64)))
(TISSUE,) = jobs_of(SERIES, "tissue_exact")
(BOUNDED,) = jobs_of(SERIES, "tissue_bounded")
SLOW = Link(64e3, 0)


def encoded(forms: Forms, job: LayerJob, codec: str = "auto") -> Encoded | None:
    schedule = Schedule([], codec)
    return asyncio.run(forms.encode(SERIES, job, schedule, SLOW, patiently=False))


def made() -> Forms:
    return Forms(SendSettings(), InlineWorkers())


def test_what_did_not_prove_right_comes_by_another_codec_and_then_by_the_plainest() -> None:
    forms, codecs = made(), []
    for _ in range(3):
        found = encoded(forms, TISSUE)
        assert found is not None
        codecs.append(found.codec)
        if len(codecs) < 3:
            forms.note_failed(TISSUE.key, found.codec)
    assert codecs == ["jpegls", "jpegxl", "zstd"]
    with pytest.raises(IntegrityError, match="coded plainly"):
        forms.note_failed(TISSUE.key, "zstd")


def test_an_exact_layer_builds_on_the_bounded_one_that_was_offered() -> None:
    forms = made()
    below = encoded(forms, BOUNDED, "causal3d")
    assert below is not None
    assert below.voxel_digest == b""
    assert below.fidelity.max_error > 0
    forms.note_offered(layer_offer(7, BOUNDED, below), below.payload)
    on_top, alone = encoded(forms, TISSUE), encoded(made(), TISSUE, "causal3d")
    assert on_top is not None
    assert alone is not None
    assert forms.base_of(TISSUE, on_top) == 7
    assert len(on_top.payload) < 0.9 * len(alone.payload)


@pytest.mark.parametrize("why", ["useless", "failed", "over"])
def test_nothing_builds_on_a_bounded_layer_that_is_not_there_any_more(why: str) -> None:
    forms = made()
    below = encoded(forms, BOUNDED, "causal3d")
    assert below is not None
    forms.note_offered(layer_offer(7, BOUNDED, below), below.payload)
    match why:
        case "useless":
            forms.note_useless(BOUNDED.key)
        case "failed":
            forms.note_failed(TISSUE.key, "causal3d")
        case _:
            forms.start_over()
    alone = encoded(forms, TISSUE)
    assert alone is not None
    assert alone.codec == "jpegls"
    assert forms.base_of(TISSUE, alone) is None


def test_a_smaller_form_is_by_the_codec_of_least_bytes() -> None:
    better = asyncio.run(made().improve(SERIES, TISSUE))
    quick = encoded(made(), TISSUE)
    assert quick is not None
    assert better.codec == "causal3d"
    assert len(better.payload) < len(quick.payload)
