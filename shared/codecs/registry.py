"""Every codec by name. Importing it loads no C library: codecs do that when they are used."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from shared.codecs.base import Promise
from shared.codecs.causal3d import CAUSAL_3D
from shared.codecs.hevc import HEVC
from shared.codecs.htj2k import HTJ2K
from shared.codecs.jpeg2000 import JPEG_2000
from shared.codecs.jpegls import JPEG_LS
from shared.codecs.jpegxl import JPEG_XL
from shared.codecs.zstd import ZSTD
from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.codecs.base import Codec, Settings

CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "causal3d": CAUSAL_3D,
        "hevc": HEVC,
        "htj2k": HTJ2K,
        "jpeg2000": JPEG_2000,
        "jpegls": JPEG_LS,
        "jpegxl": JPEG_XL,
        "zstd": ZSTD,
    }
)


SLOW_TO_LOAD = frozenset({CAUSAL_3D.name})
"""Codecs that take about a second before their first use."""


def load(name: str) -> None:
    """Have a codec of `SLOW_TO_LOAD` ready for its first use; nothing for others."""
    if name in SLOW_TO_LOAD:
        from shared.codecs.causal.warm import main as warm_up

        warm_up()


def codec_named(name: str) -> Codec:
    """The codec of this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in CODECS:
        raise SettingsError(f"no codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name]


LEVELS: Mapping[str, int] = MappingProxyType({"fast": 1, "default": 2, "archive": 3})
"""Words for how hard a codec that has such a setting works: ``causal3d:archive``."""


def coded_by(words: str) -> tuple[Codec, Settings]:
    """The codec of a name, and its settings where a level is named behind a colon.

    Raises:
        SettingsError: there is no such codec, or it has no such level.
    """
    name, colon, level = words.partition(":")
    codec = codec_named(name)
    if not colon:
        return codec, {}
    if "level" not in codec.defaults or codec is ZSTD or level not in LEVELS:
        raise SettingsError(f"no level {level!r} of {name}; causal3d has {', '.join(LEVELS)}")
    return codec, {"level": LEVELS[level]}


def exact_codecs() -> tuple[Codec, ...]:
    """The codecs that bring every sample back."""
    return tuple(codec for codec in CODECS.values() if codec.promise is Promise.EXACT)
