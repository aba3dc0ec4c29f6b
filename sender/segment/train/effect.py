"""What compression does to segmentation (Kurmukov et al. 2024, paper E), as a table and a plot.

    python -m sender.segment.train.effect --data FOLDER --out FOLDER [--steps N]

The labelled FLAIRs are compressed with JPEG 2000 at the paper's ratios, slice by slice as it does
(OpenJPEG's rate mode, 9/7 wavelet; ratio 1 is exact, 5/3), and with HEVC as our whole preview is.
Then, for each:

    tested on compressed    the shipped network, which learnt from raw scans, on the compressed ones
    trained on compressed   a network that learns from compressed scans, on the raw ones
    few-shot                as many raw subjects as take the bytes of all compressed ones, against
                            all of them compressed

The last two train small networks, --steps each; without it they are left out. Ratios are measured,
against 16 bits a voxel; PSNR is over the range of the volume, as the paper takes it for MR.
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
_FEW_SHOT_RATIO = 5
"""With a dozen subjects a higher ratio leaves less than two raw ones."""


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
            psnr_db = min(done.psnr_db, 999.0)
            row = Row(
                setting, scan.name, round(ratio, 2), round(psnr_db, 2), found.dice, found.recall
            )
            rows.append(row)
            print(f"{scan.name:22} {setting:16} x{ratio:6.1f} {psnr_db:6.1f} dB "
                  f"Dice {found.dice:.3f}", flush=True)  # fmt: skip
    return rows


def summary(rows: list[Row]) -> str:
    """Means over the scans, as a Markdown table; Dice also against that of the first setting."""
    names = list(dict.fromkeys(row.setting for row in rows))
    means = {
        name: np.mean(
            [(r.ratio, r.psnr_db, r.dice, r.recall) for r in rows if r.setting == name], axis=0
        )
        for name in names
    }
    first = means[names[0]][2]
    lines = [
        "| setting | ratio | PSNR, dB | Dice | of raw | in ROI |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (ratio, psnr_db, dice, recall) in means.items():
        shown = "exact" if psnr_db > 900 else f"{psnr_db:.1f}"
        lines.append(
            f"| {name} | {ratio:.1f} | {shown} | {dice:.3f} | {dice / first:.3f} | {recall:.1%} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Dice and PSNR against the ratio."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 7))
    for label, marker in (("JPEG 2000", "o"), ("HEVC", "s")):
        names = list(dict.fromkeys(r.setting for r in rows if r.setting.startswith(label)))
        groups = [[row for row in rows if row.setting == name] for name in names]
        ratio = [float(np.mean([row.ratio for row in group])) for group in groups]
        dice = [float(np.mean([row.dice for row in group])) for group in groups]
        psnr_db = [float(np.mean([row.psnr_db for row in group])) for group in groups]
        upper.plot(ratio, dice, marker=marker, label=label)
        finite = [(r, p) for r, p in zip(ratio, psnr_db, strict=True) if p < 900]
        if finite:
            lower.plot(*zip(*finite, strict=True), marker=marker, label=label)
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
    """Print the table, leave it with the plot and the rows."""
    parser = argparse.ArgumentParser(prog="python -m sender.segment.train.effect")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/effect"))
    parser.add_argument("--ratios", type=int, nargs="+", default=list(RATIOS))
    parser.add_argument(
        "--scans", nargs="+", help="by name; all that are not learnt from otherwise"
    )
    parser.add_argument("--steps", type=int, default=0, help="of each small network")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [
        scan
        for scan in SCANS
        if (scan.name in options.scans if options.scans else scan.kind is Kind.FOREIGN)
    ]
    ratios = tuple(options.ratios)
    rows = tested_on_compressed(chosen, options.data, Network.shipped(), ratios)
    text = f"tested on compressed\n\n{summary(rows)}\n"
    content: dict[str, object] = {"tested_on_compressed": [asdict(row) for row in rows]}
    if options.steps:
        from sender.segment.train.storage import few_shot, trained_on_compressed

        both = trained_on_compressed(chosen, options.data, ratios, options.steps)
        text += f"\ntrained on compressed, tested on raw\n\n{summary(both)}\n"
        few = few_shot(chosen, options.data, _FEW_SHOT_RATIO, options.steps)
        text += f"\nequal storage\n\n{summary(few)}\n"
        content["trained_on_compressed"] = [asdict(row) for row in both]
        content["few_shot"] = [asdict(row) for row in few]
    print(text)
    (options.out / "effect.md").write_text(text)
    (options.out / "effect.json").write_text(json.dumps(content, indent=1) + "\n")
    plot(rows, options.out / "effect.png")


if __name__ == "__main__":
    main()
