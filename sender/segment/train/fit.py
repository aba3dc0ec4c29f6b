"""The loop: patches, loss, steps, an average of the weights, checkpoints.

A run goes on from its checkpoint when it is started again, to the step. The learning rate is steady
and falls to nothing over the last steps (Hägele et al. 2024), so a run is as long as there is time
for: the averaged weights are usable at any step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from sender.segment.train.augment import draw
from sender.segment.train.network import UNet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sender.segment.train.augment import Example

_WARM_STEPS = 40
_SAVE_EVERY = 25
_SMOOTH = 500.0
"""Voxels added above and below in Dice: without, a patch that has no lesion teaches nothing."""
_LARGEST_GRADIENT = 3.0
"""Its norm is cut to this."""
_DEEPER = (1.0, 0.5, 0.25)
"""What each level's loss counts, finest first."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a run."""

    steady: int
    """Steps at the full rate."""
    falling: int
    """Steps after them, the rate falling to 0."""
    rate: float
    """Learning rate of AdamW; up over the first steps."""
    decay: float
    """Of weights, AdamW's."""
    average: float
    """How much of the averaged weights is kept at each step; they are what is shipped."""
    batch: int
    """Patches a step."""
    seed: int


def fit(examples: Sequence[Example], recipe: Recipe, checkpoint: Path, *, say: bool) -> UNet:
    """Train, or go on training; the network with the averaged weights."""
    torch.manual_seed(recipe.seed)
    network, averaged = UNet(), UNet()
    averaged.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    begin = _resume(checkpoint, network, averaged, optimiser)
    weights = np.array([example.weight for example in examples])
    started_s, losses, skipped = time.monotonic(), [], 0
    steps = recipe.steady + recipe.falling
    for step in range(begin, steps):
        rng = np.random.default_rng((recipe.seed, step))  # a resumed run draws what it would have
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _share(step, recipe)
        optimiser.zero_grad(set_to_none=True)
        for _ in range(recipe.batch):
            chosen = int(rng.choice(len(examples), p=weights / weights.sum()))
            bright, lesion = draw(examples, chosen, rng)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(bright)
            loss = loss_of(logits, lesion) / recipe.batch
            loss.backward()
            losses.append(float(loss.detach()) * recipe.batch)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
        if not torch.isfinite(norm):  # bfloat16 overflows once in hundreds of steps
            skipped += 1
            continue
        optimiser.step()
        _average(averaged, network, min(recipe.average, (1 + step) / (10 + step)))
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == steps:
            _save(checkpoint, network, averaged, optimiser, step + 1)
            if say:
                spent_s = (time.monotonic() - started_s) / (step + 1 - begin)
                recent = np.nanmean(losses[-_SAVE_EVERY * recipe.batch :])
                print(
                    f"step {step + 1} loss {recent:.4f} {spent_s:.2f} s a step, {skipped} skipped",
                    flush=True,
                )
    return averaged.eval()


def loss_of(logits: Sequence[torch.Tensor], lesion: torch.Tensor) -> torch.Tensor:
    """Cross entropy and soft Dice at every level that has an output."""
    total = lesion.new_zeros(())
    for level, (found, counts) in enumerate(zip(logits, _DEEPER, strict=True)):
        truth = functional.avg_pool3d(lesion, 2**level) if level else lesion
        logit = found.float()
        entropy = functional.binary_cross_entropy_with_logits(logit, truth)
        share = logit.sigmoid()
        both, either = (share * truth).sum(), share.sum() + truth.sum()
        dice = 1 - (2 * both + _SMOOTH) / (either + _SMOOTH)
        total = total + counts * (entropy + dice)
    return total


def _share(step: int, recipe: Recipe) -> float:
    """Of the learning rate."""
    left = recipe.steady + recipe.falling - step
    return min(1.0, (step + 1) / _WARM_STEPS, left / max(1, recipe.falling))


def _average(averaged: UNet, network: UNet, kept: float) -> None:
    with torch.no_grad():
        for mean, now in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, 1 - kept)


def _save(
    path: Path, network: UNet, averaged: UNet, optimiser: torch.optim.Optimizer, step: int
) -> None:
    part = path.with_name(path.name + ".part")
    state = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    torch.save(state, part)
    part.replace(path)


def _resume(path: Path, network: UNet, averaged: UNet, optimiser: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
