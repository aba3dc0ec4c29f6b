from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol.stages import STAGES
from sender.encode import Encoded
from sender.ledger import Ledger
from sender.offers import layer_offer
from shared.fidelity import Fidelity
from shared.geometry import Box
from shared.layer import Quality
from shared.ownership import owned_count
from tests.sender.studies import jobs_of, plan_of

if TYPE_CHECKING:
    from protocol.messages import LayerOffer

ROI = Box((0, 0, 0), (2, 4, 4))
PLAN = plan_of((4, 8, 8), [ROI], Box((0, 0, 0), (4, 6, 6)))
(ROI_PREVIEW,) = jobs_of(PLAN, "roi_preview")
(ROI_EXACT,) = jobs_of(PLAN, "roi_exact")
(TISSUE_EXACT,) = jobs_of(PLAN, "tissue_exact")


def offer(size: int, voxels: int = 0, *, codec: str = "jpegxl") -> LayerOffer:
    encoded = Encoded(bytes(size), codec, (), voxels, b"", Fidelity())
    return layer_offer(0, ROI_EXACT, encoded)


def encoding(
    size: int, voxels: int, *, codec: str = "jpegxl", error: float = 0.0
) -> tuple[LayerOffer, Fidelity]:
    return offer(size, voxels, codec=codec), Fidelity(voxels, error * error * voxels, error)


def test_bytes_and_codecs_are_counted_by_stage() -> None:
    ledger = Ledger(256, 32)
    ledger.encoded(ROI_PREVIEW, *encoding(10, 32, codec="hevc", error=2.0))
    ledger.encoded(ROI_EXACT, *encoding(40, 32))
    ledger.encoded(ROI_EXACT, *encoding(60, 32, codec="zstd"))
    ledger.headers_encoded(offer(7, codec="zstd"))
    assert ledger.bytes == dict.fromkeys([stage.name for stage in STAGES], 0) | {
        "roi_preview": 10,
        "roi_exact": 100,
        "headers": 7,
    }
    assert ledger.codecs == {"roi_preview": "hevc", "roi_exact": "zstd", "headers": "zstd"}


def test_the_error_of_a_stage_is_that_of_all_its_previews() -> None:
    ledger = Ledger(256, 32)
    ledger.encoded(ROI_PREVIEW, *encoding(10, 32, error=2.0))
    ledger.encoded(ROI_PREVIEW, *encoding(10, 8, error=5.0))
    ledger.encoded(ROI_EXACT, *encoding(40, 32))
    assert dict(ledger.fidelity) == {(0, "roi_preview"): Fidelity(40, 328.0, 5.0)}


def test_voxels_count_once_their_exact_layer_is_proven() -> None:
    ledger = Ledger(256, 32)
    ledger.verified(ROI_PREVIEW, 32)
    assert (ledger.verified_voxels, ledger.verified_roi_voxels) == (0, 0)
    ledger.verified(ROI_EXACT, 32)
    assert (ledger.verified_voxels, ledger.verified_roi_voxels) == (32, 32)
    ledger.verified(TISSUE_EXACT, owned_count(TISSUE_EXACT.box, TISSUE_EXACT.holes))
    assert (ledger.verified_voxels, ledger.verified_roi_voxels) == (32 + 112, 32)


def test_what_a_layer_will_cost_is_told_from_its_like() -> None:
    ledger = Ledger(256, 32)
    assert ledger.estimate_bytes([]) == 0
    assert ledger.estimate_bytes([ROI_EXACT]) == pytest.approx(32 * 4 / 8)
    assert ledger.estimate_bytes([ROI_PREVIEW]) == pytest.approx(32 * 0.1 / 8)
    ledger.encoded(ROI_EXACT, *encoding(64, 32))
    assert ledger.estimate_bytes([ROI_EXACT, ROI_EXACT]) == pytest.approx(128)
    assert ledger.estimate_bytes([ROI_PREVIEW]) == pytest.approx(32 * 0.1 / 8)
    assert TISSUE_EXACT.key.quality is Quality.EXACT


def test_what_need_not_be_sent_after_all_is_taken_off() -> None:
    ledger = Ledger(256, 32)
    ledger.encoded(ROI_EXACT, *encoding(64, 32))
    ledger.spared(ROI_EXACT, 50)
    assert ledger.bytes["roi_exact"] == 14
