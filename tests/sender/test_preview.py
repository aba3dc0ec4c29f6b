"""Previews by the real codec where quality matters, by a modelled one where the search does."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, log10
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sender import preview as preview_module
from sender.preview import FIRST_CRF, Preview, PreviewTarget, encode_preview
from shared.codecs.base import Promise
from shared.codecs.hevc import HEVC
from shared.fidelity import Fidelity, measure
from shared.intensity import fit_window, value_range
from tests.sender.studies import brain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

GENEROUS = PreviewTarget(psnr_db=40.0, bits_per_voxel=8.0)


def preview_of(
    voxels: NDArray[Any],
    target: PreviewTarget = GENEROUS,
    owned: NDArray[np.bool_] | None = None,
    codec: Any = HEVC,
    crf: int = FIRST_CRF,
) -> Preview:
    window, peak = fit_window(voxels), value_range(voxels)
    return encode_preview(voxels, owned, window, peak, target, codec, crf=crf)


@dataclass
class Modelled:
    """A codec whose quality and size follow its CRF by a rule, so that the search can be seen.

    Half the samples are wrong by ``error(crf)``: that is their PSNR.
    """

    db_at_28: float
    bits_at_28: float
    db_per_crf: float = 0.65
    crf_per_halving: float = 6.0
    tried: list[int] = field(default_factory=list)
    name = "modelled"
    promise = Promise.LOSSY

    @property
    def defaults(self) -> Settings:
        return {"crf": 28}

    def takes(self, _dtype: np.dtype[Any]) -> bool:
        return True

    def encode(self, block: Block, settings: Settings) -> bytes:
        crf = settings["crf"]
        self.tried.append(crf)
        bits = self.bits_at_28 * 2 ** ((28 - crf) / self.crf_per_halving)
        self._kept = block.samples
        return bytes(max(1, round(block.samples.size * bits / 8)))

    def decode(
        self, _payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        psnr_db = self.db_at_28 + (28 - settings["crf"]) * self.db_per_crf
        error = 4095 / 10 ** (psnr_db / 20)
        wrong = self._kept.astype(np.float64) + np.where(self._kept > 2047, -error, error)
        return np.clip(np.rint(wrong), 0, 4095).astype(dtype).reshape(shape)


def ramp() -> NDArray[Any]:
    """Every 12-bit value, so that a window changes nothing."""
    return np.arange(4096, dtype=np.uint16).reshape(4, 32, 32)


@pytest.fixture
def none_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the size below which a preview is never too dear: test volumes are all below it."""
    monkeypatch.setattr(preview_module, "_ALWAYS_BYTES", 0)


@pytest.mark.parametrize("dtype", ["<i2", ">u2", "<f4", "|u1"])
@pytest.mark.parametrize("psnr_db", [34.0, 40.0, 46.0])
def test_a_head_is_previewed_as_well_as_asked_and_not_much_better(
    dtype: str, psnr_db: float
) -> None:
    voxels = brain((6, 48, 48)).clip(0, 250).astype(dtype)
    found = preview_of(voxels, PreviewTarget(psnr_db, 8.0))
    reached_db = found.fidelity.psnr_db(value_range(voxels))
    assert psnr_db <= reached_db <= psnr_db + 6


def test_the_measured_error_is_that_of_the_bytes_that_go_out() -> None:
    voxels = brain()
    owned = np.random.default_rng(0).random(voxels.shape) < 0.6
    found = preview_of(voxels, owned=owned)
    window = fit_window(voxels)
    samples = HEVC.decode(found.payload, voxels.shape, np.dtype(np.uint16), {"crf": found.crf})
    again = measure(voxels, window.from_preview(samples, voxels.dtype), owned)
    assert found.fidelity == again
    assert found.fidelity.voxels == int(owned.sum())


def test_the_voxels_are_left_as_they_are() -> None:
    voxels = brain()
    before = voxels.copy()
    preview_of(voxels, owned=np.zeros(voxels.shape, np.bool_))
    assert np.array_equal(voxels, before)


def test_quality_gives_way_to_the_bits_where_both_cannot_be_had() -> None:
    noise = np.random.default_rng(1).integers(0, 4096, (4, 128, 128)).astype(np.int16)
    found = preview_of(noise, PreviewTarget(psnr_db=40.0, bits_per_voxel=2.0))
    assert len(found.payload) * 8 <= 2.0 * noise.size
    assert found.fidelity.psnr_db(value_range(noise)) < 40


def test_a_preview_of_a_few_kilobytes_is_never_too_dear() -> None:
    codec = Modelled(41.0, 7.9)  # 4044 bytes
    found = preview_of(ramp(), PreviewTarget(40.0, 0.001), codec=codec)
    assert codec.tried == [28]
    assert len(found.payload) == 4045


@pytest.mark.usefixtures("none_too_small")
@pytest.mark.parametrize(
    ("db_at_28", "bits_at_28"),
    [(30.0, 0.1), (36.0, 0.1), (40.1, 0.1), (42.0, 0.1), (50.0, 0.02), (55.0, 0.2), (20.0, 0.001)],
)
def test_the_search_ends_within_the_target_and_a_few_tries(
    db_at_28: float, bits_at_28: float
) -> None:
    codec = Modelled(db_at_28, bits_at_28)
    found = preview_of(ramp(), PreviewTarget(40.0, 1.0), codec=codec)
    assert len(codec.tried) <= 4
    assert len(set(codec.tried)) == len(codec.tried)
    psnr_db = found.fidelity.psnr_db((0.0, 4095.0))
    best_db = db_at_28 + (28 - 4) * 0.65
    assert psnr_db >= min(40.0, best_db - 0.1)
    assert psnr_db <= 43 or len(found.payload) * 8 < 0.06 * 4096


def test_a_good_first_guess_is_not_improved_upon() -> None:
    codec = Modelled(40.8, 0.3)
    preview_of(ramp(), PreviewTarget(40.0, 1.0), codec=codec)
    assert codec.tried == [28]
    neighbour = Modelled(34.0, 0.3)
    preview_of(ramp(), PreviewTarget(40.0, 2.0), codec=neighbour, crf=18)
    assert neighbour.tried == [18]


def test_what_costs_next_to_nothing_is_not_made_smaller() -> None:
    codec = Modelled(60.0, 0.01)
    found = preview_of(ramp(), PreviewTarget(40.0, 1.0), codec=codec)
    assert codec.tried == [28]
    assert found.crf == 28


@pytest.mark.usefixtures("none_too_small")
@pytest.mark.parametrize("bits_at_28", [0.9, 2.0, 7.0, 40.0])
def test_what_is_too_dear_is_made_smaller_until_it_is_affordable(bits_at_28: float) -> None:
    codec = Modelled(45.0, bits_at_28)
    found = preview_of(ramp(), PreviewTarget(40.0, 0.5), codec=codec)
    smallest = bits_at_28 * 2 ** ((28 - 42) / 6)
    assert len(found.payload) * 8 / 4096 <= max(0.5, smallest) * 1.01


@pytest.mark.usefixtures("none_too_small")
def test_the_better_of_two_poor_previews_is_sent_where_both_are_affordable() -> None:
    target, peak = PreviewTarget(60.0, 1.0), (0.0, 4095.0)
    poor = Preview(bytes(100), 30, Fidelity(4096, 4096 * 400.0, 20.0))
    poorer = Preview(bytes(50), 34, Fidelity(4096, 4096 * 900.0, 30.0))
    good = Preview(bytes(400), 20, Fidelity(4096, 4096.0, 1.0))
    small = Preview(bytes(300), 22, Fidelity(4096, 4096.0, 1.0))
    dear = Preview(bytes(1000), 10, Fidelity(4096, 0.0, 0.0))
    ranked = [dear, poorer, poor, good, small]
    assert sorted(ranked, key=lambda each: each.rank(target, peak)) == ranked


@pytest.mark.parametrize("dtype", ["<i2", "|u1", "<f4", ">f8", "<i8"])
@pytest.mark.parametrize("value", [0, 77])
def test_a_constant_volume_is_previewed_as_it_is(dtype: str, value: int) -> None:
    voxels = np.full((2, 9, 9), value, dtype)
    found = preview_of(voxels)
    assert found.fidelity.voxels == 162
    assert found.fidelity.psnr_db(value_range(voxels)) == inf
    # A sample off by one is a 4095th of the window, which is 1 wide; whole numbers round it away.
    assert found.fidelity.max_error <= (1.01 / 4095 if voxels.dtype.kind == "f" else 0)
    assert found.crf == FIRST_CRF


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (5, 1, 1), (3, 2, 1)])
def test_tiny_volumes_are_previewed(shape: Triple) -> None:
    voxels = np.arange(np.prod(shape), dtype="<i2").reshape(shape)
    found = preview_of(voxels)
    assert found.fidelity.voxels == voxels.size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_a_volume_of_nothing_finite_is_previewed_with_an_unbounded_error(
    dtype: str, value: float
) -> None:
    found = preview_of(np.full((2, 8, 8), value, dtype))
    assert found.fidelity == Fidelity(0, 0.0, inf)


def test_nans_among_voxels_leave_the_rest_measured() -> None:
    voxels = brain(dtype="<f4")
    voxels[2:4, :5] = np.nan
    found = preview_of(voxels)
    assert found.fidelity.voxels == int(np.isfinite(voxels).sum())
    assert found.fidelity.max_error == inf
    assert found.fidelity.psnr_db(value_range(voxels)) >= 40


@pytest.mark.parametrize("size", [1e150, 1e160, 1.7e308])
def test_doubles_beyond_what_can_be_squared_are_previewed_all_the_same(size: float) -> None:
    voxels = brain((2, 16, 16), dtype="<f8") * (size / 412)
    found = preview_of(voxels)
    assert found.fidelity.voxels == voxels.size


def test_owning_nothing_but_one_voxel_is_enough() -> None:
    voxels = brain()
    owned = np.zeros(voxels.shape, np.bool_)
    owned[3, 11, 17] = True
    found = preview_of(voxels, owned=owned)
    assert found.fidelity.voxels == 1
    assert found.fidelity.max_error <= 10 ** (-40 / 20) * 412 or len(found.payload) * 8 > 4


def test_decibels_of_the_model_are_those_that_are_measured() -> None:
    codec = Modelled(40.0, 0.1)
    found = preview_of(ramp(), PreviewTarget(39.5, 1.0), codec=codec)
    rmse = 4095 / 10 ** (40.0 / 20)
    assert found.fidelity.psnr_db((0.0, 4095.0)) == pytest.approx(20 * log10(4095 / rmse), abs=0.1)
