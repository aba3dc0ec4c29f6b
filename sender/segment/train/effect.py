"""What compression does to segmentation (Kurmukov et al. 2024, paper E), as a table and a plot.

    python -m sender.segment.train.effect --data FOLDER [--out FOLDER] [--steps N]

The labelled FLAIRs are compressed with JPEG 2000 at the paper's ratios, slice by slice as it does
(OpenJPEG's rate mode, 9/7 wavelet; ratio 1 is exact, 5/3), and with HEVC as our whole preview is.
Then, for each:

    tested on compressed    the shipped network, which learnt from raw scans, on the compressed ones
    trained on compressed   a network that learns from compressed scans, on the raw ones
    few-shot                as many raw subjects as take the bytes of all compressed ones, against
                            all of them compressed

The last two train small networks, --steps each; without it they are left out. Ratios are measured,
against 16 bits a voxel; PSNR is over the range of the volume, as the paper takes it for MR. Tables,
rows and plot go to --out, and what they come to into --bench beside the benchmarks.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sender.preview import encode_preview
from sender.segment.train.scans import SCANS, Kind, read_scan
from sender.segment.train.score import score_volume
from sender.segment.unet.network import Network
from sender.settings import SendSettings
from shared.codecs.base import Block
from shared.codecs.registry import codec_named
from shared.fidelity import measure
from shared.intensity import PREVIEW_BITS, fit_window, value_range
from shared.layer import RegionKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sender.segment.train.scans import Scan
    from shared.volume import Volume

RATIOS = (1, 2, 5, 10, 20, 50, 70, 100)
"""The paper's."""
_LEVELS = (1 << 16) - 1
EXACT_DB = 999.0
"""Stands for the PSNR of what is exact, which JSON cannot write."""
_FEW_SHOT_RATIO = 20
"""Up to which the paper's networks segment as well; of ten subjects it leaves two raw ones."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A volume after compression."""

    voxels: NDArray[Any]
    size_bytes: int
    psnr_db: float


@dataclass(frozen=True, slots=True)
class Row:
    """One setting on one scan."""

    setting: str
    scan: str
    ratio: float
    psnr_db: float
    dice: float
    recall: float


def jpeg2000(volume: Volume, ratio: int) -> Compressed:
    """Slice by slice at a fixed ratio."""
    from PIL import Image

    low, high = value_range(volume.voxels)
    step = (high - low) / _LEVELS or 1.0
    whole = volume.voxels.dtype.kind in "iu" and high - low <= _LEVELS
    scale = 1.0 if whole else step
    size, planes = 0, []
    for plane in volume.voxels:
        target = BytesIO()
        samples = np.rint((plane.astype(np.float64) - low) / scale).clip(0, _LEVELS)
        Image.fromarray(samples.astype(np.uint16)).save(
            target,
            "JPEG2000",
            quality_mode="rates",
            quality_layers=[ratio],
            irreversible=ratio > 1,
        )
        size += target.tell()
        planes.append(np.asarray(Image.open(target)).astype(np.float64) * scale + low)
    return _compressed(volume, np.stack(planes), size)


def hevc(volume: Volume) -> Compressed:
    """As our whole preview is."""
    settings = SendSettings()
    window, peak = fit_window(volume.voxels), value_range(volume.voxels)
    codec = codec_named(settings.preview_codec)
    target = settings.preview_target(RegionKind.SURROUNDINGS)
    preview = encode_preview(volume.voxels, None, window, peak, target, codec)
    block = Block(window.to_preview(volume.voxels), PREVIEW_BITS)
    samples = codec.decode(
        preview.payload, volume.header.shape, block.samples.dtype, {"crf": preview.crf}
    )
    shown = window.from_preview(samples, volume.voxels.dtype)
    return _compressed(volume, shown, len(preview.payload))


def _compressed(volume: Volume, shown: NDArray[Any], size_bytes: int) -> Compressed:
    dtype = volume.voxels.dtype
    values = np.rint(shown) if dtype.kind in "iu" else shown
    voxels = np.ascontiguousarray(values, dtype)
    psnr_db = measure(volume.voxels, voxels, None).psnr_db(value_range(volume.voxels))
    return Compressed(voxels, size_bytes, psnr_db)


def settings_of(ratios: tuple[int, ...]) -> dict[str, Callable[[Volume], Compressed]]:
    """Every way to compress, by name."""
    found: dict[str, Callable[[Volume], Compressed]] = {
        f"JPEG 2000, {ratio}": lambda volume, ratio=ratio: jpeg2000(volume, ratio)  # type: ignore[misc]
        for ratio in ratios
    }
    return {**found, "HEVC preview": hevc}


def tested_on_compressed(
    scans: list[Scan], data: Path, network: Network, ratios: tuple[int, ...]
) -> list[Row]:
    """A network that learnt from raw scans, on compressed ones."""
    rows = []
    for scan in scans:
        volume, marked = read_scan(scan, data)
        for setting, compress in settings_of(ratios).items():
            done = compress(volume)
            found = score_volume(scan, replace(volume, voxels=done.voxels), marked, network)
            ratio = 2 * volume.voxels.size / done.size_bytes
            psnr_db = min(done.psnr_db, EXACT_DB)
            row = Row(
                setting, scan.name, round(ratio, 2), round(psnr_db, 2), found.dice, found.recall
            )
            rows.append(row)
            print(f"{scan.name:22} {setting:16} x{ratio:6.1f} {psnr_db:6.1f} dB "
                  f"Dice {found.dice:.3f}", flush=True)  # fmt: skip
    return rows


def means_of(rows: list[Row]) -> dict[str, tuple[float, float, float, float]]:
    """Means over the scans of each setting: ratio, PSNR in dB, Dice, recall."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    found = {}
    for name, group in groups.items():
        figures = np.array([(row.ratio, row.psnr_db, row.dice, row.recall) for row in group])
        ratio, psnr_db, dice, recall = figures.mean(axis=0).tolist()
        found[name] = ratio, psnr_db, dice, recall
    return found


def summary(rows: list[Row]) -> str:
    """Means over the scans, as a Markdown table; Dice also against that of the first setting."""
    means = means_of(rows)
    first = next(iter(means.values()))[2]
    lines = [
        "| setting | ratio | PSNR, dB | Dice | of the first | in ROI |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (ratio, psnr_db, dice, recall) in means.items():
        of_first = f"{dice / first:.3f}" if first else "-"
        lines.append(
            f"| {name} | {ratio:.1f} | {_shown(psnr_db).removesuffix(' dB')} | {dice:.3f} | "
            f"{of_first} | {recall:.1%} |"
        )
    return "\n".join(lines)


def _shown(psnr_db: float) -> str:
    return "exact" if psnr_db >= EXACT_DB else f"{psnr_db:.1f} dB"


def plot(tested: list[Row], trained: list[Row], few: list[Row], path: Path) -> None:
    """Dice and PSNR against the ratio: both ways, and equal storage as single marks.

    Args:
        tested: the network that learnt from raw scans, on compressed ones.
        trained: networks that learnt from compressed scans, on raw ones; may be empty.
        few: few raw subjects, and all compressed; may be empty.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 7))
    lines = (
        ("tested on JPEG 2000", "o-", [row for row in tested if "JPEG" in row.setting]),
        ("tested on HEVC preview", "s", [row for row in tested if "HEVC" in row.setting]),
        ("trained on JPEG 2000", "^-", trained),
    )
    for label, style, rows in lines:
        if rows:
            ratio, psnr_db, dice, _ = np.array(list(means_of(rows).values())).T
            upper.plot(ratio, dice, style, label=label)
            lossy = psnr_db < EXACT_DB
            lower.plot(ratio[lossy], psnr_db[lossy], style, label=label)
    for name, (ratio, _, dice, _) in means_of(few).items():
        upper.plot([ratio], [dice], "*", markersize=12, label=f"equal storage: {name}")
    upper.set_ylabel("whole-tumour Dice")
    upper.set_ylim(0, 1)
    lower.set_ylabel("PSNR, dB")
    lower.set_xlabel("compression ratio, against 16 bits a voxel")
    lower.set_xscale("log")
    upper.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Print the tables, leave them with the plot and the rows."""
    parser = argparse.ArgumentParser(prog="python -m sender.segment.train.effect")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/effect"))
    parser.add_argument("--bench", type=Path, default=Path("out/bench/papers.json"))
    parser.add_argument("--ratios", type=int, nargs="+", default=list(RATIOS))
    parser.add_argument("--trained-ratios", type=int, nargs="+", help="those of --ratios otherwise")
    parser.add_argument(
        "--scans", nargs="+", help="by name; all that are not learnt from otherwise"
    )
    parser.add_argument("--steps", type=int, default=0, help="of each small network")
    parser.add_argument("--threads", type=int, default=2, help="while training")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [
        scan
        for scan in SCANS
        if (scan.name in options.scans if options.scans else scan.kind is Kind.FOREIGN)
    ]
    parts = {
        "tested on compressed": tested_on_compressed(
            chosen, options.data, Network.shipped(), tuple(options.ratios)
        )
    }
    if options.steps:
        parts |= _trained(options, chosen)
    text = "\n".join(f"{title}\n\n{summary(rows)}\n" for title, rows in parts.items())
    print(text)
    (options.out / "effect.md").write_text(text)
    content = {title: [asdict(row) for row in rows] for title, rows in parts.items()}
    (options.out / "effect.json").write_text(json.dumps(content, indent=1) + "\n")
    tested, trained, few = (parts.get(title, []) for title in _TITLES)
    plot(tested, trained, few, options.out / "effect.png")
    _publish(options.bench, parts, options.steps)


_TITLES = ("tested on compressed", "trained on compressed, tested on raw", "equal storage")


def _trained(options: argparse.Namespace, chosen: list[Scan]) -> dict[str, list[Row]]:
    """The halves that train, for which torch is needed."""
    import torch

    from sender.segment.train.storage import Runs, few_shot, trained_on_compressed

    torch.set_num_threads(options.threads)
    runs = Runs(options.data, options.out / "runs", options.steps)
    ratios = options.trained_ratios or options.ratios
    both, networks = trained_on_compressed(chosen, runs, ratios)
    ratio = _FEW_SHOT_RATIO if _FEW_SHOT_RATIO in networks else max(networks)
    few = few_shot(chosen, runs, ratio, networks[ratio])
    return dict(zip(_TITLES[1:], (both, few), strict=True))


def _publish(path: Path, parts: dict[str, list[Row]], steps: int) -> None:
    """A row for each setting, as the benchmarks write theirs; nothing is asked of them."""
    rows = [
        {
            "what": f"{title}: {name}",
            "asked": "",
            "got": f"x{ratio:.1f}, {_shown(psnr_db)}, Dice {dice:.3f}, in ROI {recall:.1%}",
            "good": None,
        }
        for title, found in parts.items()
        for name, (ratio, psnr_db, dice, recall) in means_of(found).items()
    ]
    title = f"Paper E: compression and segmentation (small networks: {steps} steps each)"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"title": title, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
