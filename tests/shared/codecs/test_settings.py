from __future__ import annotations

import pytest

from shared.codecs.settings import Setting, default_settings, resolve_settings
from shared.errors import CodecError

KNOWN = {"effort": Setting(3, 1, 9), "threads": Setting(0, 0, 16)}


def test_given_settings_join_the_defaults() -> None:
    assert default_settings(KNOWN) == {"effort": 3, "threads": 0}
    assert resolve_settings("jpegxl", KNOWN, {}) == {"effort": 3, "threads": 0}
    assert resolve_settings("jpegxl", KNOWN, {"effort": 9}) == {"effort": 9, "threads": 0}


def test_the_error_names_the_codec_the_setting_and_its_range() -> None:
    with pytest.raises(CodecError, match=r"jpegxl: effort is 10, not a whole number 1\.\.9"):
        resolve_settings("jpegxl", KNOWN, {"effort": 10})
    with pytest.raises(CodecError, match=r"jpegxl has no setting 'speed'.*effort.*threads"):
        resolve_settings("jpegxl", KNOWN, {"speed": 1})


def test_true_is_no_number() -> None:
    with pytest.raises(CodecError):
        resolve_settings("jpegxl", KNOWN, {"effort": True})
