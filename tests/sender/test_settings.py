from __future__ import annotations

import pytest

from sender.settings import Background, SendSettings
from shared.codecs.registry import CODECS, exact_codecs
from shared.errors import SettingsError
from shared.layer import RegionKind


def test_the_defaults_are_sound() -> None:
    settings = SendSettings()
    assert settings.checked() is settings
    assert settings.roi == "tissue"
    assert settings.background is Background.KEEP


@pytest.mark.parametrize("name", [codec.name for codec in exact_codecs()])
def test_any_exact_codec_may_be_named(name: str) -> None:
    assert SendSettings(exact_codec=name).checked().exact_codec == name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (SendSettings(exact_codec="jpeg"), "no codec 'jpeg'; there are causal3d, hevc, htj2k"),
        (SendSettings(preview_codec="av1"), "no codec 'av1'; there are causal3d, hevc, htj2k"),
        (SendSettings(exact_codec="hevc"), "hevc is not an exact codec"),
    ],
)
def test_a_name_that_is_none_or_out_of_place_is_refused(
    settings: SendSettings, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        settings.checked()


@pytest.mark.parametrize("name", [name for name in CODECS if name != "hevc"])
def test_a_codec_without_a_rate_factor_makes_no_previews(name: str) -> None:
    """Their search asks for a CRF: without one every transfer would end as a codec's error."""
    with pytest.raises(SettingsError, match=f"{name} makes no previews"):
        SendSettings(preview_codec=name).checked()


def test_the_preview_of_an_roi_may_cost_more_than_that_of_the_rest() -> None:
    settings = SendSettings()
    roi = settings.preview_target(RegionKind.ROI)
    rest = settings.preview_target(RegionKind.SURROUNDINGS)
    assert roi.bits_per_voxel > rest.bits_per_voxel
    assert roi is settings.roi_preview
    assert rest is settings.whole_preview
    assert settings.preview_target(None) is settings.whole_preview


def test_the_exact_codec_may_be_left_to_the_schedule() -> None:
    assert SendSettings().checked().exact_codec == "auto"
