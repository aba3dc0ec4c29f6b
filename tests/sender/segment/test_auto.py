from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment import auto as module
from sender.segment.auto import AutoSegmenter, why_not_network
from sender.segment.unet.segmenter import UnetSegmenter
from shared.errors import SettingsError
from tests.contracts.segmenter import SegmenterContract
from tests.sender.segment.unet.test_segmenter import head_with_a_lesion
from tests.sender.segment.volumes import read_scan, volume_of

if TYPE_CHECKING:
    from pathlib import Path

    from shared.volume import Volume


class TestAutoSegmenter(SegmenterContract):
    @pytest.fixture
    def segmenter(self) -> AutoSegmenter:
        return AutoSegmenter.parse(None)

    @pytest.fixture(params=["a head", "no head"])
    def volume(self, request: pytest.FixtureRequest) -> Volume:
        if request.param == "a head":
            return head_with_a_lesion()[0]
        return volume_of(np.arange(480).reshape(6, 8, 10), np.int16)


def test_a_head_in_mr_is_for_the_network_and_that_is_said() -> None:
    volume = head_with_a_lesion()[0]
    assert why_not_network(volume) is None
    answers, plain = list(AutoSegmenter().segment(volume)), list(UnetSegmenter().segment(volume))
    assert [answer.rois for answer in answers] == [answer.rois for answer in plain]
    for answer, other in zip(answers, plain, strict=True):
        assert answer.reason == f"The network, for this is a head in MR: {other.reason}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ct/dicom/siemens_body_j2k", "this is CT"),
        ("ct/totalseg/example_ct.nii.gz", "those of a CT"),
        ("mr/misc/abdomen_mr_small.nii.gz", "it has learnt from heads"),
        ("xr/mg_jpegll_12bit.dcm", "this is MG"),
    ],
)
def test_what_the_network_has_not_learnt_gets_the_tissue_and_the_reason(
    scans: Path, name: str, why: str
) -> None:
    (answer,) = AutoSegmenter().segment(read_scan(scans / name))
    assert answer.reason.startswith("Tissue, not the network: ")
    assert why in answer.reason
    assert answer.source == "auto"
    assert [roi.label for roi in answer.rois] == ["tissue"]


@pytest.mark.parametrize(
    "name",
    ["mr/dicom/brainix_flair", "tumour/pyradiomics/brain1_image.nii.gz",
     "mr/open_ms/patient04_study1_FLAIR.nii.gz", "mr/misc/FLAIR_stroke.nii.gz"],
)  # fmt: skip
def test_heads_of_other_scanners_are_for_the_network(scans: Path, name: str) -> None:
    assert why_not_network(read_scan(scans / name)) is None


def test_without_the_runtime_the_tissue_goes_and_the_reason_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "why_not", lambda: SettingsError("--roi unet needs X, which: y"))
    (answer,) = AutoSegmenter().segment(head_with_a_lesion()[0])
    assert answer.reason.startswith("Tissue, not the network: X, which.")


def test_nothing_stands_behind_its_name() -> None:
    with pytest.raises(SettingsError, match="--roi auto expected"):
        AutoSegmenter.parse("x")
