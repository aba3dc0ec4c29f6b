from __future__ import annotations

from pathlib import Path

import pytest

from sender.segment.box import BoxSegmenter
from sender.segment.mask import MaskSegmenter
from sender.segment.registry import CHOICES, DEFAULT, segmenter_for
from sender.segment.tissue import TissueRule, TissueSegmenter
from sender.segment.whole import WholeSegmenter
from shared.errors import SettingsError
from shared.geometry import Box


@pytest.mark.parametrize(
    ("spec", "segmenter"),
    [
        ("mask:C:/a folder/lesion.nii.gz", MaskSegmenter(Path("C:/a folder/lesion.nii.gz"))),
        ("box:0:2,1:3,2:4", BoxSegmenter(Box((0, 1, 2), (2, 3, 4)))),
        ("tissue", TissueSegmenter(TissueRule.PAPER)),
        ("tissue:code", TissueSegmenter(TissueRule.CODE)),
        ("none", WholeSegmenter()),
    ],
)
def test_each_choice_names_its_segmenter(spec: str, segmenter: object) -> None:
    assert segmenter_for(spec) == segmenter


def test_a_segmenter_calls_itself_what_the_flag_calls_it() -> None:
    assert [segmenter_for(spec).name for spec in ("tissue", "tissue:code", "none")] == [
        "tissue",
        "tissue:code",
        "none",
    ]


def test_the_default_needs_nothing_from_the_user() -> None:
    assert segmenter_for(DEFAULT) == TissueSegmenter()


@pytest.mark.parametrize("spec", ["", "lesion", "Tissue", "mask.nii", ":code", " none"])
def test_an_unknown_choice_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(SettingsError) as raised:
        segmenter_for(spec)
    assert CHOICES in str(raised.value)


@pytest.mark.parametrize(
    "spec", ["mask", "mask:", "box", "box:", "tissue:", "tissue:mine", "none:"]
)
def test_a_known_choice_with_the_wrong_rest_is_refused(spec: str) -> None:
    with pytest.raises(SettingsError):
        segmenter_for(spec)
