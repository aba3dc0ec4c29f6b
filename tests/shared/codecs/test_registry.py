from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.codecs.base import Promise
from shared.codecs.registry import CODECS, codec_named, coded_by, exact_codecs
from shared.errors import SettingsError

ROOT = Path(__file__).resolve().parents[3]


def test_every_codec_goes_by_its_own_name() -> None:
    assert list(CODECS) == [
        "causal3d",
        "hevc",
        "htj2k",
        "jpeg2000",
        "jpegls",
        "jpegxl",
        "zstd",
    ]
    for name, codec in CODECS.items():
        assert codec.name == name
        assert codec_named(name) is codec


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"no codec 'gif'; there are causal3d, .*, zstd"):
        codec_named("gif")


def test_a_level_is_named_behind_a_colon() -> None:
    assert coded_by("jpegxl") == (CODECS["jpegxl"], {})
    assert coded_by("causal3d:archive") == (CODECS["causal3d"], {"level": 3})


@pytest.mark.parametrize("words", ["causal3d:", "causal3d:best", "zstd:fast", "jpegxl:archive"])
def test_a_level_that_there_is_not_is_refused(words: str) -> None:
    with pytest.raises(SettingsError, match="causal3d has fast, default, archive"):
        coded_by(words)


def test_all_but_hevc_are_exact() -> None:
    assert [codec.name for codec in exact_codecs()] == [name for name in CODECS if name != "hevc"]
    assert codec_named("hevc").promise is Promise.LOSSY


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("int16", ["causal3d", "zstd"]),
        ("uint32", ["causal3d", "zstd"]),
        ("float32", ["zstd"]),
        ("float64", ["zstd"]),
    ],
)
def test_few_codecs_take_raw_samples(name: str, known: list[str]) -> None:
    assert [codec.name for codec in CODECS.values() if codec.takes(np.dtype(name))] == known


def test_importing_it_loads_no_c_library() -> None:
    code = (
        "import sys, shared.codecs.registry\n"
        "heavy = {'imagecodecs', 'av', 'jpeg_ls', 'scipy', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
