"""The network in torch, for training. `sender.segment.unet.network` runs what it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTHS = (16, 32, 64, 96, 96)
"""Channels at each level; each level halves the grid, so sides are multiples of 16."""
SLOPE = 0.01
"""Of the leaky rectifiers."""
_HELPED = 2
"""Levels below the finest with an output of their own while training (deep supervision)."""


class Block(nn.Module):
    """Two convolutions around which the input is led and added."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, width, 3, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(width, affine=True)
        self.second = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.InstanceNorm3d(width, affine=True)
        self.around = nn.Conv3d(channels, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, z, y, x) -> (n, width, z, y, x)."""
        y = functional.leaky_relu(self.first_norm(self.first(x)), SLOPE)
        y = self.second_norm(self.second(y))
        return functional.leaky_relu(y + self.around(x), SLOPE)


class UNet(nn.Module):
    """A residual 3-D U-Net (Ronneberger 2015, Cicek 2016) of 1.5 million weights.

        1 -> 16 ─────────────────────────────> 16 -> logit      2 mm
              32 ─────────────────────> 32                      4 mm
                 64 ──────────────> 64                          8 mm
                    96 ───────> 96                             16 mm
                         96                                    32 mm

    Down by the largest of eight, up by repetition. Instance norm: a scan is judged by its own
    brightness, whatever its scanner's.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        before = (1, *widths[:-1])
        self.down = nn.ModuleList(Block(c, w) for c, w in zip(before, widths, strict=True))
        self.up = nn.ModuleList(
            Block(low + here, here) for low, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.out = nn.Conv3d(widths[0], 1, 1)
        self.helpers = nn.ModuleList(nn.Conv3d(widths[n + 1], 1, 1) for n in range(_HELPED))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits, finest first; the coarser ones are for training only."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool3d(x, 2))
            kept.append(x)
        found = []
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            above = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat((above, beside), 1))
            found.append(x)
        coarser = [helper(found[-2 - n]) for n, helper in enumerate(self.helpers)]
        return [self.out(x), *coarser]
