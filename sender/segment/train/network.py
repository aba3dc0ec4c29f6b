"""The network in torch, for training. `sender.segment.unet.network` runs what it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKS = 2
"""Channels of the input: the scan, and the scan mirrored left to right."""
WIDTHS = (24, 48, 80, 96)
"""Channels at each level; each halves the grid, the first one too: sides are multiples of 16."""
FINE = 8
"""Channels at the finest grid, where only the outline is drawn."""
SLOPE = 0.01
"""Of the leaky rectifiers."""
_HELPED = 2
"""Levels with an output of their own while training (deep supervision)."""


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
    """A residual 3-D U-Net (Ronneberger 2015, Cicek 2016) of 1.7 million weights.

        2 ──────────────────────────────────────> 8 + 2 -> 8 -> logit   2 mm
          24 ───────────────────────────> 24                            4 mm
             48 ─────────────────> 48                                   8 mm
                80 ───────> 80                                         16 mm
                     96                                                32 mm

    Down by strided convolution once, then by the largest of eight; up by repetition, at last by
    transposed convolution. It thinks at 4 mm, for most of the work would be at 2 mm and bought
    fewer steps of training, and draws the outline at 2 mm, from what it thinks and what it sees.
    The second channel is the head mirrored: what one side has and the other has not is suspicious.
    Instance norm: a scan is judged by its own brightness, whatever its scanner's.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stem = nn.Conv3d(LOOKS, widths[0], 2, stride=2)
        before = (widths[0], *widths[:-1])
        self.down = nn.ModuleList(Block(c, w) for c, w in zip(before, widths, strict=True))
        self.up = nn.ModuleList(
            Block(low + here, here) for low, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.finer = nn.ConvTranspose3d(widths[0], FINE, 2, stride=2)
        self.outline = nn.Conv3d(FINE + LOOKS, FINE, 3, padding=1)
        self.out = nn.Conv3d(FINE, 1, 1)
        self.helpers = nn.ModuleList(nn.Conv3d(widths[n], 1, 1) for n in range(_HELPED))

    def forward(self, seen: torch.Tensor) -> list[torch.Tensor]:
        """(n, 2, z, y, x) -> logits, finest first; the coarser ones are for training only."""
        kept = []
        x = self.stem(seen)
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool3d(x, 2))
            kept.append(x)
        found = []
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            above = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat((above, beside), 1))
            found.append(x)
        fine = torch.cat((self.finer(x), seen), 1)
        fine = functional.leaky_relu(self.outline(fine), SLOPE)
        coarser = [helper(found[-1 - n]) for n, helper in enumerate(self.helpers)]
        return [self.out(fine), *coarser]
