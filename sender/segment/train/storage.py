"""The training half of paper E: networks that learn from compressed scans, and from few raw ones.

Small runs, all of the same length and seed, so that what differs is what they learn from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.train.augment import Example
from sender.segment.train.effect import Row, jpeg2000
from sender.segment.train.examples import PATCH
from sender.segment.train.export import export
from sender.segment.train.fit import Recipe, fit
from sender.segment.train.scans import Kind, learnt_by, read_scan
from sender.segment.train.score import score
from sender.segment.unet.network import Network
from sender.segment.unet.sight import see, see_labels
from sender.segment.unet.weights import GRAPH, MEMBERS, parse_safetensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sender.segment.train.scans import Scan


def trained_on_compressed(
    tested: Sequence[Scan], data: Path, ratios: Sequence[int], steps: int
) -> list[Row]:
    """For each ratio a network that learns from all FLAIRs at it, on raw scans."""
    rows = []
    for ratio in ratios:
        network, real = _learn(_learnt(), data, ratio, steps)
        rows += _rows(f"trained at {ratio}", real, tested, data, network)
    return rows


def few_shot(tested: Sequence[Scan], data: Path, ratio: int, steps: int) -> list[Row]:
    """As many raw subjects as take the bytes of all at a ratio, against all of them at it."""
    scans = _learnt()
    raw = scans[: max(1, round(len(scans) / ratio))]
    network, real = _learn(raw, data, 1, steps)
    rows = _rows(f"{len(raw)} raw subjects", real, tested, data, network)
    network, real = _learn(scans, data, ratio, steps)
    return rows + _rows(f"{len(scans)} subjects at {ratio}", real, tested, data, network)


def _learnt() -> list[Scan]:
    return [scan for scan in learnt_by(None) if scan.kind is Kind.FLAIR]


def _learn(scans: Sequence[Scan], data: Path, ratio: int, steps: int) -> tuple[Network, float]:
    """A network, and the ratio that the scans really have."""
    examples, sizes = [], []
    for scan in scans:
        volume, marked = read_scan(scan, data)
        if ratio > 1:
            done = jpeg2000(volume, ratio)
            sizes.append(2 * volume.voxels.size / done.size_bytes)
            volume = replace(volume, voxels=done.voxels)
        sight = see(volume)
        assert sight is not None
        bright = sight.brightness
        lesion = see_labels(marked, sight.placement)
        outside = np.zeros_like(bright)
        examples.append(Example(scan.name, bright, lesion, outside, PATCH, 1.0, pastes=True))
    falling = steps // 3
    recipe = Recipe(steps - falling, falling, 2e-3, 1e-4, average=0.99, batch=1, seed=7)
    with TemporaryDirectory() as folder:
        network = fit(examples, recipe, Path(folder) / "run.pt", say=False)
        export([network], Path(folder))
        weights = parse_safetensors((Path(folder) / MEMBERS[0].name).read_bytes())
        runnable = Network((Path(folder) / GRAPH.name).read_bytes(), weights)
    return runnable, float(np.mean(sizes)) if sizes else 1.0


def _rows(
    setting: str, ratio: float, tested: Sequence[Scan], data: Path, network: Network
) -> list[Row]:
    found = [score(scan, data, network) for scan in tested]
    return [Row(setting, s.name, round(ratio, 2), 999.0, s.dice, s.recall) for s in found]
