"""Paper B's network, kept as the baseline: a 2-D U-Net on single slices of 128 x 128.

Its recipe: Adam at 1e-3, 81 epochs, cross entropy with logits and Dice, rotations and flips
(Ronneberger 2015 for the network). What differs here is said in settings.toml: an epoch is capped,
for two cores. Slices are axial, from the 2 mm sight, padded to 128 x 128; a volume is scored from
its slices, at its own resolution, as every network here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sender.segment.train.scans import Kind, held_out_by, learnt_by, read_scan
from sender.segment.unet.sight import LOWEST, see, see_labels
from shared.geometry import Box

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 128
_WIDTHS = (16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class BaselineRecipe:
    """Its settings."""

    epochs: int
    slices_per_epoch: int
    rate: float
    batch: int
    fold: int
    seed: int


class SliceUNet(nn.Module):
    """A plain 2-D U-Net: two convolutions and batch norm a level, max pooling, transposed up."""

    def __init__(self) -> None:
        super().__init__()
        before = (1, *_WIDTHS[:-1])
        self.down = nn.ModuleList(_pair(c, w) for c, w in zip(before, _WIDTHS, strict=True))
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(low, here, 2, 2)
            for low, here in zip(_WIDTHS[:0:-1], _WIDTHS[-2::-1], strict=True)
        )
        self.up = nn.ModuleList(_pair(2 * here, here) for here in _WIDTHS[-2::-1])
        self.out = nn.Conv2d(_WIDTHS[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x) -> logits of the same shape."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        for grow, block, beside in zip(self.grow, self.up, kept[-2::-1], strict=True):
            x = block(torch.cat((grow(x), beside), 1))
        return self.out(x)


def _pair(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for take in (channels, width):
        layers += [nn.Conv2d(take, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def train_baseline(data: Path, recipe: BaselineRecipe, *, say: bool) -> SliceUNet:
    """Train on the FLAIRs that a fold learns from, as the paper does on its own."""
    torch.manual_seed(recipe.seed)
    slices = []
    for scan in learnt_by(recipe.fold):
        if scan.kind is Kind.FLAIR:
            volume, marked = read_scan(scan, data)
            sight = see(volume)
            assert sight is not None
            slices += _slices(sight.brightness, see_labels(marked, sight.placement))
    network = SliceUNet()
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate)
    rng = np.random.default_rng(recipe.seed)
    for epoch in range(recipe.epochs):
        losses = []
        for _ in range(recipe.slices_per_epoch // recipe.batch):
            chosen = [
                _turned(*slices[int(rng.integers(len(slices)))], rng) for _ in range(recipe.batch)
            ]
            images, labels = (
                torch.from_numpy(np.stack([pair[n] for pair in chosen])[:, np.newaxis])
                for n in (0, 1)
            )
            optimiser.zero_grad()
            logits = network(images)
            share = logits.sigmoid()
            dice = 1 - (2 * (share * labels).sum() + 1) / (share.sum() + labels.sum() + 1)
            loss = functional.binary_cross_entropy_with_logits(logits, labels) + dice
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        if say and epoch % 10 == 0:
            print(f"baseline epoch {epoch + 1} loss {np.mean(losses):.3f}", flush=True)
    return network.eval()


def score_baseline(network: SliceUNet, data: Path, fold: int) -> dict[str, float]:
    """Whole-tumour Dice of every FLAIR that the fold tests, and of BRATS-2013."""
    found = {}
    for scan in held_out_by(fold):
        if scan.kind not in (Kind.FLAIR, Kind.FOREIGN):
            continue
        volume, marked = read_scan(scan, data)
        sight = see(volume)
        assert sight is not None
        depth, height, width = sight.brightness.shape
        planes = np.stack([_square(plane, LOWEST) for plane in sight.brightness])
        with torch.no_grad():
            chances = [
                network(torch.from_numpy(plane[np.newaxis, np.newaxis])).sigmoid()[0, 0].numpy()
                for plane in planes
            ]
        stack = np.stack(chances)[:depth, :height, :width]
        outline = sight.placement.up(np.ascontiguousarray(stack), Box.whole(marked.shape)) > 0.5
        total = int(outline.sum()) + int(marked.sum())
        found[scan.name] = 2 * int((outline & marked).sum()) / total if total else 1.0
    return found


def _slices(
    brightness: NDArray[np.float32], lesion: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return [
        (_square(image, LOWEST), _square(labels, 0.0))
        for image, labels in zip(brightness, (lesion > 0.5).astype(np.float32), strict=True)
        if (image > LOWEST).any()
    ]


def _square(plane: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """A slice in the corner of 128 x 128; a larger one loses what is beyond."""
    found = np.full((SIDE, SIDE), value, dtype=np.float32)
    rows, columns = (min(SIDE, length) for length in plane.shape)
    found[:rows, :columns] = plane[:rows, :columns]
    return found


def _turned(
    image: NDArray[np.float32], labels: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rotations by quarters and flips."""
    turns, flip = int(rng.integers(4)), bool(rng.random() < 0.5)
    pair = [np.rot90(plane, turns) for plane in (image, labels)]
    one, two = (np.ascontiguousarray(plane[:, ::-1] if flip else plane) for plane in pair)
    return one, two
