"""What makes a few scans many: lesions of others, recoloured, blurred, turned, bent, given a scalp.

Every change that a scanner, a sequence or a preprocessing makes to the same head should leave the
answer as it is; so each is made at random while training. Brightness is changed over the whole
sight and mirrored then, as the scan of a patient would be; only then a patch is cut from both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from sender.segment.unet.sight import HIGHEST, LOWEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared.geometry import Triple


_COARSE, _FINE = (0.25, 0.6), (-0.2, 0.25)
"""Logarithms of the voxel's size against the scan's 2 mm: 2.6 to 3.6 mm, where a patch holds a
whole brain, and 1.6 to 2.6 mm. The network is run at both ends of this."""
_COARSE_SHARE = 0.25
_SLAB = 16
"""Slices of a patch that is a slice repeated."""


_PASTED, _RECORED, _SCALPED, _INVERTED = 0.3, 0.15, 0.15, 0.02
"""Shares of patches that are given another's lesion, whose lesion is given another core, whose
brain another scalp, whose contrast is turned around."""
_ASKEW = 2
"""Voxels by which the mirrored scan may lie beside where it belongs: nobody lies straight."""
_UNMIRRORED = 0.5
"""Share of patches without a mirror image: a network that always has one takes what both sides show
for healthy, and cuts a lesion off at the midline that it crosses. (The first 430 steps of the
shipped networks always had one, and pasted lesions stayed in their place.)"""
_SHIFTED = (6, 10, 14)
"""Voxels (z, y, x) by which a pasted lesion may be moved, over the midline too."""


@dataclass(frozen=True, slots=True)
class Example:
    """A scan in memory, as the network sees it."""

    name: str
    brightness: NDArray[np.float32]
    """(z, y, x)."""
    lesion: NDArray[np.float32]
    """(z, y, x), the share of each voxel that is lesion."""
    outside: NDArray[np.float32]
    """(z, y, x), voxels to the body: where a scalp can be put; all 0 where there is one."""
    patch: Triple
    """What is cut from it."""
    weight: float
    """How often it is looked at."""
    pastes: bool = False
    """Whether its lesion may be pasted into others."""


def draw(
    examples: Sequence[Example], chosen: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch of a scan, changed at random: the scan and its mirror image, (1, 2, z, y, x), and
    what is lesion, (1, 1, z, y, x).

    Args:
        examples: all there are: lesions of others may be pasted.
        chosen: which of them is looked at.
    """
    example = examples[chosen]
    brightness, lesion = _tensor(example.brightness), _tensor(example.lesion)
    others = [other for other in examples if other.pastes and other.name != example.name]
    if others and example.patch[0] > _SLAB and rng.random() < _PASTED:
        brightness, lesion = _paste(brightness, lesion, others[int(rng.integers(len(others)))], rng)
    if rng.random() < _RECORED:
        brightness = _recore(brightness, lesion, rng)
    brightness = _recolour(brightness, _tensor(example.outside), rng)
    shifts = tuple(int(n) for n in rng.integers(-_ASKEW, _ASKEW + 1, 3))
    mirrored = torch.roll(brightness.flip(4), shifts, (2, 3, 4))
    if rng.random() < _UNMIRRORED:
        mirrored = torch.full_like(brightness, LOWEST)
    # What lies beyond the scan is background: shift so that zero padding means that.
    source = torch.cat((brightness - LOWEST, mirrored - LOWEST, lesion), 1)
    grid = _places(example, lesion, rng)
    seen = functional.grid_sample(source, grid, mode="bilinear", align_corners=True)
    return (seen[:, :2] + LOWEST).clamp(LOWEST, HIGHEST), seen[:, 2:].clamp(0, 1)


def _tensor(voxels: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(voxels)[None, None]


def _paste(
    x: torch.Tensor, lesion: torch.Tensor, other: Example, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Another's lesion, and a rim of what lies around it, in the same place of this head (CarveMix,
    Zhang et al. 2021); or in the mirrored place, or beside."""
    size = tuple(int(n) for n in x.shape[2:])
    pair = torch.cat((_tensor(other.brightness), _tensor(other.lesion)), 1)
    pair = functional.interpolate(pair, size=size, mode="trilinear", align_corners=True)
    if rng.random() < 0.5:
        pair = pair.flip(4)
    shifts = tuple(int(rng.integers(-most, most + 1)) for most in _SHIFTED)
    pair = torch.roll(pair, shifts, (2, 3, 4))
    theirs, place = pair[:, :1], pair[:, 1:]
    rim = 2 * int(rng.integers(1, 3)) + 1
    soft = functional.max_pool3d(place, rim, stride=1, padding=rim // 2)
    soft = functional.avg_pool3d(soft, 3, stride=1, padding=1)
    soft = soft * (theirs > LOWEST + 0.3)
    within = float((soft * (x > LOWEST + 0.3)).sum()) > 0.8 * float(soft.sum())
    if not within:  # a lesion that would hang beyond this brain
        return x, lesion
    return x + soft * (theirs - x), torch.maximum(lesion * (1 - soft), place)


def _places(example: Example, lesion: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Where in the scan each voxel of the patch is taken from: (1, z, y, x, 3), -1 to 1."""
    shape, patch = np.array(example.brightness.shape), np.array(example.patch)
    scale = rng.uniform(*(_COARSE if rng.random() < _COARSE_SHARE else _FINE))
    zoom = np.exp(scale + rng.uniform(-0.1, 0.1, 3))
    centre = _centre(lesion[0, 0].numpy(), patch * zoom, rng)
    turn = _rotation(np.deg2rad(rng.uniform(-15, 15, 3) * (1 if patch[0] > _SLAB else (0, 0, 1))))
    if patch[0] <= _SLAB:  # a slice has any direction
        turn = turn @ _rotation(np.array((0, 0, np.deg2rad(rng.uniform(-90, 90)))))
    flips = np.where(rng.random(3) < (0.1, 0.1, 0.5), -1.0, 1.0)
    axes = [(np.arange(n) - (n - 1) / 2) for n in patch]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    places = (offsets * zoom * flips) @ turn.T + centre
    if rng.random() < 0.4:
        places += _bend(patch, rng)
    places = 2 * places / np.maximum(shape - 1, 1) - 1
    return torch.from_numpy(places[..., ::-1].astype(np.float32).copy())[None]


def _centre(
    lesion: NDArray[np.float32], patch: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mostly near a lesion, else anywhere; in the middle along an axis that the patch spans."""
    shape = np.array(lesion.shape)
    marked = np.argwhere(lesion > 0.5) if rng.random() < 0.6 else np.empty((0, 3))
    if len(marked):
        wanted = marked[rng.integers(len(marked))] + rng.uniform(-0.3, 0.3, 3) * patch
    else:
        wanted = rng.uniform(0, 1, 3) * shape
    low, high = patch / 2 - 6, shape - patch / 2 + 6
    return np.where(low < high, np.clip(wanted, low, high), shape / 2)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """About x, y and z, applied to (z, y, x)."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    about_x = np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
    return about_x @ about_y @ about_z


def _bend(patch: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = torch.from_numpy(rng.normal(0, 2.0, (1, 3, 4, 4, 4)).astype(np.float32))
    size = tuple(int(n) for n in patch)
    smooth = functional.interpolate(coarse, size=size, mode="trilinear", align_corners=True)
    if size[0] <= _SLAB:
        smooth[:, 0] = 0
    return smooth[0].permute(1, 2, 3, 0).numpy()


def _recore(x: torch.Tensor, lesion: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Another lesion in the same place: with a cyst, a solid part, or less contrast.

    A few tens of tumours would teach that a lesion is what is bright. Its dead core is dark and its
    solid part may be gray; both must be found, for they lie within.
    """
    field = torch.from_numpy(rng.normal(0, 1, (1, 1, *rng.integers(3, 7, 3))).astype(np.float32))
    size = tuple(int(n) for n in x.shape[2:])
    smooth = functional.interpolate(field, size=size, mode="trilinear", align_corners=True)
    part = lesion * ((smooth - rng.uniform(-0.6, 0.8)) * 4).sigmoid()
    level = rng.uniform(LOWEST + 0.3, 1.0)
    grain = torch.from_numpy(rng.normal(0, 0.15, x.shape).astype(np.float32))
    return x + part * (level + grain - x) * rng.uniform(0.6, 1.0)


def _recolour(x: torch.Tensor, outside: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Another scanner, another sequence, another preprocessing."""
    inside = x > LOWEST + 0.3
    if rng.random() < _SCALPED and float(outside.max()) > 0:
        x, inside = _scalp(x, inside, outside, rng)
    if rng.random() < _INVERTED:
        x = torch.where(inside, -x, x)
    if rng.random() < 0.5:
        span = HIGHEST - LOWEST
        share = ((x - LOWEST) / span).clamp(0, 1)
        x = share ** float(np.exp(rng.uniform(-0.4, 0.4))) * span + LOWEST
        values = x[inside]
        if values.numel() > 10:
            x = torch.where(inside, (x - values.mean()) / (values.std() + 1e-3), x)
    if rng.random() < 0.5:
        field = torch.from_numpy(rng.normal(0, 0.15, (1, 1, 3, 3, 3)).astype(np.float32))
        size = tuple(int(n) for n in x.shape[2:])
        smooth = functional.interpolate(field, size=size, mode="trilinear", align_corners=True)
        x = torch.where(inside, (x - LOWEST) * smooth.exp() + LOWEST, x)
    x = torch.where(inside, x * float(np.exp(rng.uniform(-0.25, 0.25))) + rng.uniform(-0.3, 0.3), x)
    x = _blur(x, rng)
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0.02, 0.25), x.shape).astype(np.float32)
        where = inside if rng.random() < 0.7 else torch.ones_like(inside)
        x = torch.where(where, x + torch.from_numpy(noise), x)
    return x.clamp(LOWEST, HIGHEST)


def _scalp(
    x: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A dark skull and a bright scalp around a brain that was cut out."""
    skull, scalp = rng.uniform(1.5, 4.0), rng.uniform(1.5, 5.0)
    bone = (outside > 0.5) & (outside <= skull)
    skin = (outside > skull) & (outside <= skull + scalp)
    grain = torch.from_numpy(rng.normal(0, 0.4, x.shape).astype(np.float32))
    x = torch.where(bone, grain * 0.5 + rng.uniform(LOWEST, -1.0), x)
    x = torch.where(skin, grain + rng.uniform(-0.5, 4.0), x)
    return x, inside | skin


def _blur(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Thick slices, or a smaller matrix: down and up again along one axis, or along all."""
    chance = rng.random()
    size = [int(n) for n in x.shape[2:]]
    if chance < 0.25:
        less = list(size)
        axis = 0 if rng.random() < 0.7 else int(rng.integers(3))
        less[axis] = max(4, round(size[axis] / rng.uniform(1.5, 3.5)))
    elif chance < 0.4:
        less = [max(4, round(n / rng.uniform(1.0, 1.6))) for n in size]
    else:
        return x
    small = functional.interpolate(x, size=less, mode="area")
    return functional.interpolate(small, size=size, mode="trilinear", align_corners=False)
