"""What only training needs. torch is an extra of its own: without it these are skipped by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.unet.network import Network
from sender.segment.unet.sight import HIGHEST, LOWEST
from sender.segment.unet.weights import GRAPH, MEMBERS, parse_safetensors

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

from sender.segment.train.augment import Example, _paste, draw  # noqa: E402
from sender.segment.train.export import export  # noqa: E402
from sender.segment.train.fit import Recipe, _share, fit  # noqa: E402
from sender.segment.train.network import UNet  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def example(name: str = "ball", middle: int = 16) -> Example:
    z, y, x = np.indices((24, 30, 28))
    inside = ((z - 12) / 11) ** 2 + ((y - 15) / 14) ** 2 + ((x - 14) / 13) ** 2 < 1
    lesion = (z - 12) ** 2 + (y - 18) ** 2 + (x - middle) ** 2 < 16
    bright = np.where(inside, 0.2 + 2.0 * lesion, LOWEST).astype(np.float32)
    outside = np.where(inside, 0, 3).astype(np.float32)
    patch = (32, 16, 32)
    return Example(name, bright, lesion.astype(np.float32), outside, patch, 1.0, pastes=True)


def examples() -> list[Example]:
    return [example(), example("other", 8)]


def test_whatever_is_drawn_is_a_patch_within_the_scale_of_brightness() -> None:
    for seed in range(40):
        bright, lesion = draw(examples(), 0, np.random.default_rng(seed))
        assert bright.shape == (1, 2, 32, 16, 32)
        assert lesion.shape == (1, 1, 32, 16, 32)
        assert LOWEST <= float(bright.min()) <= float(bright.max()) <= HIGHEST
        assert bool(torch.isfinite(bright).all())
        assert 0 <= float(lesion.min()) <= float(lesion.max()) <= 1


def test_a_scan_without_others_is_drawn_without_their_lesions() -> None:
    for seed in range(8):
        assert draw([example()], 0, np.random.default_rng(seed))[0].shape == (1, 2, 32, 16, 32)


def test_a_pasted_lesion_is_marked_where_it_shows_or_not_pasted_at_all() -> None:
    bare = example()
    empty = torch.zeros((1, 1, *bare.lesion.shape))
    plain = torch.from_numpy(np.minimum(bare.brightness, 0.2))[None, None]
    pasted = 0
    for seed in range(20):
        bright, lesion = _paste(plain, empty, example("other", 8), np.random.default_rng(seed))
        if not lesion.any():
            assert torch.equal(bright, plain)
            continue
        pasted += 1
        assert float(bright[lesion > 0.5].mean()) > 1.0  # it is bright there, and dark elsewhere
        assert float(bright[lesion < 0.5].mean()) < 0.2
    assert pasted > 3


def test_what_ships_says_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = [UNet().eval() for _ in MEMBERS]
    digests = export(networks, tmp_path)
    assert export(networks, tmp_path) == digests
    weights = [parse_safetensors((tmp_path / each.name).read_bytes()) for each in MEMBERS]
    shipped = Network((tmp_path / GRAPH.name).read_bytes(), *weights)
    assert len(shipped) == len(MEMBERS)
    scan = np.random.default_rng(0).normal(0, 1, (16, 32, 16)).astype(np.float32)
    pair = torch.from_numpy(np.stack((scan, scan[:, :, ::-1]))[np.newaxis])
    for member, network in enumerate(networks):
        with torch.no_grad():
            trained = network(pair)[0].sigmoid()[0, 0].numpy()
        np.testing.assert_allclose(shipped.chances(scan, (), member), trained, atol=5e-3)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)

    def recipe(steps: int) -> Recipe:
        return Recipe(steps, 0, rate=1e-3, decay=1e-4, average=0.9, batch=1, seed=1)

    whole = fit(examples(), recipe(4), tmp_path / "whole.pt", say=False)
    fit(examples(), recipe(2), tmp_path / "parts.pt", say=False)
    parts = fit(examples(), recipe(4), tmp_path / "parts.pt", say=False)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)  # bfloat16 is not repeatable


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    recipe = Recipe(100, 50, rate=1e-3, decay=1e-4, average=0.9, batch=1, seed=1)
    shares = [_share(step, recipe) for step in range(150)]
    assert shares[0] < shares[20] < shares[60] == shares[99] == 1.0
    assert shares[99] > shares[120] > shares[149] > 0
    assert shares[149] < 0.03
