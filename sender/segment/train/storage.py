"""The training half of paper E: networks that learn from compressed scans, and from few raw ones.

Small runs, all of the same length and seed, so that what differs is what they learn from. Each goes
on where it was stopped, from its checkpoint in the folder that is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sender.segment.train.augment import Example
from sender.segment.train.effect import EXACT_DB, Row, jpeg2000
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
    from pathlib import Path

    from sender.segment.train.scans import Scan


@dataclass(frozen=True, slots=True)
class Runs:
    """What all the small runs share."""

    data: Path
    work: Path
    """Checkpoints, a file for each run."""
    steps: int
    """Of each run; the last third with a rate that falls."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A network, and what it has learnt from."""

    network: Network
    ratio: float
    """Of the scans, against 16 bits a voxel: the mean of what each really has."""
    psnr_db: float
    """Of the scans, mean; `EXACT_DB` where they are exact."""
    size_bytes: int
    """Of all the scans together."""


def trained_on_compressed(
    tested: Sequence[Scan], runs: Runs, ratios: Sequence[int]
) -> tuple[list[Row], dict[int, Learnt]]:
    """For each ratio a network that learns from all FLAIRs at it, tested on raw scans."""
    rows, found = [], {}
    for ratio in ratios:
        found[ratio] = _learn(_learnt(), ratio, runs)
        rows += _rows(f"trained at {ratio}", tested, runs, found[ratio])
    return rows, found


def few_shot(tested: Sequence[Scan], runs: Runs, ratio: int, full: Learnt) -> list[Row]:
    """As many raw subjects as take the bytes of all at a ratio, against all of them at it.

    A raw scan takes what its exact JPEG 2000 takes: nobody stores air at 16 bits a voxel.

    Args:
        tested: scans that are not learnt from.
        runs: what the runs share.
        ratio: that the full training has.
        full: what it gave.
    """
    scans = _learnt()
    raw: list[Scan] = []
    left_bytes = full.size_bytes
    for scan in scans:
        size_bytes = jpeg2000(read_scan(scan, runs.data)[0], 1).size_bytes
        if raw and size_bytes > left_bytes:
            break
        raw.append(scan)
        left_bytes -= size_bytes
    few = _learn(raw, 1, runs)
    return [
        *_rows(f"{len(raw)} raw subjects", tested, runs, few),
        *_rows(f"{len(scans)} subjects at {ratio}", tested, runs, full),
    ]


def _learnt() -> list[Scan]:
    return [scan for scan in learnt_by(None) if scan.kind is Kind.FLAIR]


def _learn(scans: Sequence[Scan], ratio: int, runs: Runs) -> Learnt:
    examples, ratios, psnrs_db, size_bytes = [], [], [], 0
    for scan in scans:
        volume, marked = read_scan(scan, runs.data)
        done = jpeg2000(volume, ratio)
        size_bytes += done.size_bytes
        ratios.append(2 * volume.voxels.size / done.size_bytes)
        psnrs_db.append(min(done.psnr_db, EXACT_DB))
        sight = see(replace(volume, voxels=done.voxels))
        assert sight is not None  # each of them has a body
        bright = sight.brightness
        lesion = see_labels(marked, sight.placement)
        outside = np.zeros_like(bright)
        examples.append(Example(scan.name, bright, lesion, outside, PATCH, 1.0, pastes=True))
    falling = runs.steps // 3
    recipe = Recipe(runs.steps - falling, falling, 2e-3, 1e-4, average=0.97, batch=1, seed=7)
    folder = runs.work / f"{len(scans)}_subjects_at_{ratio}_for_{runs.steps}"
    folder.mkdir(parents=True, exist_ok=True)
    export([fit(examples, recipe, folder / "run.pt", say=True)], folder)
    weights = parse_safetensors((folder / MEMBERS[0].name).read_bytes())
    network = Network((folder / GRAPH.name).read_bytes(), weights)
    return Learnt(network, float(np.mean(ratios)), float(np.mean(psnrs_db)), size_bytes)


def _rows(setting: str, tested: Sequence[Scan], runs: Runs, learnt: Learnt) -> list[Row]:
    found = [score(scan, runs.data, learnt.network) for scan in tested]
    ratio, psnr_db = round(learnt.ratio, 2), round(learnt.psnr_db, 2)
    rows = [Row(setting, s.name, ratio, psnr_db, s.dice, s.recall) for s in found]
    mean = float(np.mean([row.dice for row in rows]))
    print(f"{setting:24} x{ratio:6.1f} {psnr_db:6.1f} dB Dice {mean:.3f}", flush=True)
    return rows
