"""``python -m sender.segment.train --data FOLDER``: train, cross-validate, score, export.

    --part folds | baseline | export | scores | all      (all: one after the other)

The networks of the folds are what ships, together: every scan is known to all of them but one, and
what that one says of it is the cross-validation. Training goes on where it was stopped (checkpoints
in --work). ``export`` writes weights and graph to --out and prints their SHA-256, which
`sender.segment.unet.weights` pins; ``scores`` writes scores.json beside them, from which the
benchmark and the model card take the cross-validation.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sender.segment.train.baseline import BaselineRecipe, score_baseline, train_baseline
from sender.segment.train.examples import examples_of
from sender.segment.train.export import export
from sender.segment.train.fit import Recipe, fit
from sender.segment.train.network import UNet
from sender.segment.train.scans import FOLDS, SCANS, Kind
from sender.segment.train.score import score, table
from sender.segment.unet.network import Network
from sender.segment.unet.weights import FOLDER, GRAPH, MEMBERS, parse_safetensors

if TYPE_CHECKING:
    from sender.segment.train.score import Score

_SETTINGS = Path(__file__).with_name("settings.toml")
_PARTS = ("folds", "baseline", "export", "scores")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m sender.segment.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="laid out as its README says")
    parser.add_argument("--work", type=Path, default=Path("out/train"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=FOLDER, help="weights, graph, scores")
    parser.add_argument("--settings", type=Path, default=_SETTINGS)
    parser.add_argument("--part", choices=(*_PARTS, "all"), default="all")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="only this one, of folds")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    settings = tomllib.loads(options.settings.read_text())
    for part in _PARTS if options.part == "all" else (options.part,):
        print(f"{part} ...", flush=True)
        _run(part, options, settings)


def _run(part: str, options: argparse.Namespace, settings: dict[str, dict[str, object]]) -> None:
    data, work = options.data, options.work
    match part:
        case "folds":
            for fold in range(FOLDS) if options.fold is None else (options.fold,):
                recipe = Recipe(**settings["network"])  # type: ignore[arg-type]
                fit(examples_of(fold, data), recipe, _path(work, fold), say=True)
        case "baseline":
            asked = BaselineRecipe(**settings["baseline"])  # type: ignore[arg-type]
            dice = score_baseline(train_baseline(data, asked, say=True), data, asked.fold)
            (work / "baseline.json").write_text(json.dumps(dice, indent=2) + "\n")
            print(json.dumps(dice, indent=2))
        case "export":
            for name, digest in export(_trained(work), options.out).items():
                print(f"{name} {digest}")
        case _:
            _score(options)


def _score(options: argparse.Namespace) -> None:
    """Each fold's network on its own subjects; all of them on scans that nobody learnt from."""
    folder = options.work / "exported"
    export(_trained(options.work), folder)
    graph = (folder / GRAPH.name).read_bytes()
    members = [parse_safetensors((folder / each.name).read_bytes()) for each in MEMBERS]
    crossed: list[Score] = []
    for fold, weights in enumerate(members):
        network = Network(graph, weights)
        mine = [scan for scan in SCANS if scan.fold == fold]
        crossed += [score(scan, options.data, network) for scan in mine]
    shipped = Network(graph, *members)
    foreign = [score(scan, options.data, shipped) for scan in SCANS if not scan.learnt]
    seen = [score(scan, options.data, shipped) for scan in SCANS if scan.kind is Kind.FLAIR]
    baseline = options.work / "baseline.json"
    scores = {
        "cross_validated": [asdict(each) for each in crossed],
        "shipped_on_unseen": [asdict(each) for each in foreign],
        "shipped_on_learnt": [asdict(each) for each in seen],
        "baseline_dice": json.loads(baseline.read_text()) if baseline.is_file() else {},
    }
    (options.out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    for title, found in (("cross-validated", crossed), ("shipped, unseen", foreign)):
        print(f"\n{title}\n{table(found)}")


def _path(work: Path, fold: int) -> Path:
    return work / f"fold{fold}.pt"


def _trained(work: Path) -> list[UNet]:
    """The network of each fold."""
    found = []
    for fold in range(FOLDS):
        network = UNet()
        network.load_state_dict(torch.load(_path(work, fold), weights_only=True)["averaged"])
        found.append(network.eval())
    return found


if __name__ == "__main__":
    main()
