"""What only training needs. torch is an extra of its own: without it these are skipped by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.unet.network import Network
from sender.segment.unet.sight import HIGHEST, LOWEST
from sender.segment.unet.weights import parse_safetensors

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

from sender.segment.train.augment import Example, draw  # noqa: E402
from sender.segment.train.export import export  # noqa: E402
from sender.segment.train.fit import Recipe, _share, fit  # noqa: E402
from sender.segment.train.network import UNet  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def example() -> Example:
    z, y, x = np.indices((24, 30, 28))
    inside = ((z - 12) / 11) ** 2 + ((y - 15) / 14) ** 2 + ((x - 14) / 13) ** 2 < 1
    lesion = (z - 12) ** 2 + (y - 18) ** 2 + (x - 16) ** 2 < 16
    bright = np.where(inside, 0.2 + 2.0 * lesion, LOWEST).astype(np.float32)
    outside = np.where(inside, 0, 3).astype(np.float32)
    return Example("ball", bright, lesion.astype(np.float32), outside, (16, 16, 32), 1.0)


def test_whatever_is_drawn_is_a_patch_within_the_scale_of_brightness() -> None:
    for seed in range(40):
        bright, lesion = draw(example(), np.random.default_rng(seed))
        assert bright.shape == lesion.shape == (1, 1, 16, 16, 32)
        assert LOWEST <= float(bright.min()) <= float(bright.max()) <= HIGHEST
        assert bool(torch.isfinite(bright).all())
        assert 0 <= float(lesion.min()) <= float(lesion.max()) <= 1


def test_what_ships_says_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet().eval()
    digests = export(network, tmp_path)
    assert export(network, tmp_path) == digests
    weights = parse_safetensors((tmp_path / "unet.safetensors").read_bytes())
    shipped = Network((tmp_path / "unet.onnx").read_bytes(), weights)
    scan = np.random.default_rng(0).normal(0, 1, (16, 32, 16)).astype(np.float32)
    with torch.no_grad():
        trained = network(torch.from_numpy(scan[None, None]))[0].sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(shipped.chances(scan), trained, atol=5e-3)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)

    def recipe(*cycles: int) -> Recipe:
        return Recipe(cycles, rate=1e-3, decay=1e-4, average=0.9, batch=1, seed=1)

    whole = fit([example()], recipe(2, 2), tmp_path / "whole.pt", say=False)
    fit([example()], recipe(2), tmp_path / "parts.pt", say=False)
    parts = fit([example()], recipe(2, 2), tmp_path / "parts.pt", say=False)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)  # bfloat16 is not repeatable


def test_the_rate_rises_at_the_start_of_every_cycle_and_falls_to_its_end() -> None:
    shares = [_share(step, (50, 80)) for step in range(130)]
    assert shares[0] < shares[19] > shares[49]
    assert shares[50] < shares[75] > shares[129]
    assert shares[49] < 0.01
    assert shares[129] < 0.01
