"""Every exact codec over every integer-valued scan: bytes and CPU seconds, and their ratios.

    python -m tests.bench codecs [--volumes PATTERN] [--codecs NAME ...] [--extent MEGAVOXELS]

Streams with all of their side information, one thread, process CPU seconds. Ratios are geometric
means over volumes. Nothing is kept from one run to the next; a line is printed as soon as it is
known. What costs JPEG XL less than 0.1 bits a voxel is called a mask.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from fractions import Fraction
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np

from sender.read.source import read_study
from shared.codecs.base import Block
from shared.codecs.registry import codec_named
from shared.errors import MedroiError
from shared.intensity import SampleKind, fit_sample_map
from tests.bench.codecs_extra import extra_rows
from tests.bench.table import Row, bench_folder, publish, scans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.codecs.base import Settings

_OURS = "causal3d"
_CODECS: dict[str, tuple[str, Settings]] = {
    "causal3d fast": (_OURS, {"level": 1, "threads": 1}),
    _OURS: (_OURS, {"threads": 1}),
    "causal3d archive": (_OURS, {"level": 3, "threads": 1}),
    "JPEG XL e7": ("jpegxl", {"effort": 7}),
    "JPEG XL e5": ("jpegxl", {"effort": 5}),
    "JPEG XL e3": ("jpegxl", {"effort": 3}),
    "JPEG 2000": ("jpeg2000", {}),
    "JPEG-LS": ("jpegls", {}),
    "HTJ2K": ("htj2k", {}),
}
_X265 = "x265 lossless"
_ASKED = {"JPEG XL e7": 0.92, "JPEG 2000": 0.82, "JPEG-LS": 0.87, "HTJ2K": 0.78, _X265: 0.80}
_ARCHIVE_ASKED, _WORST_ASKED, _BELOW_DEFAULT = 0.895, 1.02, 0.975
_MASK_BITS = 0.1


@dataclass(frozen=True)
class Line:
    """What one codec made of one volume."""

    volume: str
    codec: str
    voxels: int
    bytes: int
    encode_s: float
    decode_s: float


def main() -> int:
    """Measure; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", default="*", help="a pattern for their names")
    parser.add_argument("--codecs", nargs="+", choices=[*_CODECS, _X265], default=[*_CODECS, _X265])
    parser.add_argument("--no-extra", action="store_true", help="ratios only")
    parser.add_argument("--extent", type=float, help="central slices of so many megavoxels only")
    options = parser.parse_args()
    data = scans()
    if data is None:
        print("no scans here: MEDROI_DATA names their folder")
        return 0
    lines: list[Line] = []
    for name, samples in volumes(data, options.volumes):
        part = samples if options.extent is None else _central(samples, options.extent * 1e6)
        for codec in options.codecs:
            line = _measure(name, part, codec)
            if line is not None:
                lines.append(line)
                print(_told(line), flush=True)
    rows = _figures(lines) + ([] if options.no_extra else extra_rows(data))
    _plot(lines, bench_folder() / "codecs.png")
    told = {"volumes": [asdict(line) for line in lines]}
    return 0 if publish("codecs", "Exact codecs, geometric means of ratios", rows, told) else 1


def volumes(data: Path, pattern: str) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """Every integer-valued volume of ``mr``, ``ct``, ``tumour`` and the DICOM of ``xr``, as the
    samples that a layer of it would be coded as."""
    for path in _files(data):
        name = str(path.relative_to(data))
        if not fnmatch(name, pattern):
            continue
        try:
            study = read_study([path], series=None, volume=0 if "4d" in path.name else None)
        except MedroiError as error:
            print(f"{name}: left out: {error}")
            continue
        for volume in study.volumes:
            voxels = np.asarray(volume.voxels)
            if voxels.dtype.kind == "f" and not (voxels == np.rint(voxels)).all():
                continue
            fitted = fit_sample_map(voxels)
            if fitted.kind is not SampleKind.RAW:
                yield name, np.ascontiguousarray(fitted.to_samples(voxels))


def _files(data: Path) -> Iterator[Path]:
    for top in ("mr", "ct", "tumour", "xr"):
        for path in sorted((data / top).rglob("*")):
            in_series = path.is_dir() and path.parent.name == "dicom"
            nifti = path.name.endswith((".nii", ".nii.gz"))
            if path.suffix == ".dcm" if top == "xr" else in_series or nifti:
                yield path


def _central(samples: NDArray[np.uint16], voxels: float) -> NDArray[np.uint16]:
    depth = max(1, min(samples.shape[0], round(voxels / (samples.shape[1] * samples.shape[2]))))
    first = (samples.shape[0] - depth) // 2
    return np.ascontiguousarray(samples[first : first + depth])


def _measure(name: str, samples: NDArray[np.uint16], codec: str) -> Line | None:
    bits = max(1, int(samples.max()).bit_length())
    began_s = time.process_time()
    if codec == _X265:
        size = x265_bytes(samples, bits)
        encode_s = time.process_time() - began_s
        return None if size is None else Line(name, codec, samples.size, size, encode_s, 0.0)
    by, settings = _CODECS[codec]
    payload = codec_named(by).encode(Block(samples, bits), settings)
    encoded_s = time.process_time()
    found = codec_named(by).decode(payload, samples.shape, samples.dtype, settings)
    decode_s = time.process_time() - encoded_s
    assert np.array_equal(found, samples), f"{codec} does not bring {name} back"
    return Line(name, codec, samples.size, len(payload), encoded_s - began_s, decode_s)


def x265_bytes(samples: NDArray[np.uint16], bits: int) -> int | None:
    """What x265 makes of slices as frames, lossless; None above its 12 bits."""
    import av

    if bits > 12:
        return None
    pixels, depth = {True: ("gray12le", 12), False: ("gray10le", 10)}[bits > 10]
    if bits <= 8:
        pixels, depth = "gray", 8
    _, rows, columns = samples.shape
    height, width = max(16, -(-rows // 8) * 8), max(16, -(-columns // 8) * 8)
    encoder = av.CodecContext.create("libx265", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
    encoder.time_base = Fraction(1, 25)
    told = "lossless=1:log-level=none:pools=none:frame-threads=1:cutree=0"
    encoder.options = {"preset": "medium", "x265-params": told}
    size = 0
    for number, plane in enumerate(samples):
        padded = np.pad(plane, ((0, height - rows), (0, width - columns)), "edge")
        deep = padded.astype(np.uint16)
        frame = av.VideoFrame.from_ndarray(
            deep if depth > 8 else deep.astype(np.uint8), format=pixels
        )
        frame.pts = number
        size += sum(packet.size for packet in encoder.encode(frame))
    return size + sum(packet.size for packet in encoder.encode(None))


def _told(line: Line) -> str:
    return (
        f"{line.volume:60} {line.codec:18} {line.bytes:>10} bytes "
        f"{8 * line.bytes / line.voxels:7.4f} bits/voxel  "
        f"{line.encode_s:7.2f} s, {line.decode_s:7.2f} s"
    )


def _figures(lines: list[Line]) -> list[Row]:
    sizes: dict[str, dict[str, Line]] = {}
    for line in lines:
        sizes.setdefault(line.volume, {})[line.codec] = line
    images = {
        name: found
        for name, found in sizes.items()
        if all(8 * each.bytes > _MASK_BITS * each.voxels for each in found.values())
    }
    rows = []
    for among, what in ((sizes, "all"), (images, "images")):
        for peer, asked in _ASKED.items():
            rows += _ratio(among, _OURS, peer, asked, what)
        rows += _ratio(among, "causal3d archive", "JPEG XL e7", _ARCHIVE_ASKED, what)
        rows += _ratio(among, "causal3d archive", _OURS, _BELOW_DEFAULT, what)
        rows += _ratio(among, "causal3d fast", "JPEG XL e7", None, what)
    over = [
        (found[_OURS].bytes / min(found[peer].bytes for peer in _ASKED if peer in found), name)
        for name, found in sizes.items()
        if _OURS in found and any(peer in found for peer in _ASKED)
    ]
    if over:
        worst, name = max(over)
        above = sum(ratio > _WORST_ASKED for ratio, _ in over)
        told, words = f"{worst:.3f} ({name}); {above} of {len(over)} above", f"<= {_WORST_ASKED}"
        rows.append(Row("worst against the best peer", words, told, worst <= _WORST_ASKED))
    for codec in dict.fromkeys(line.codec for line in lines):
        some = [found[codec] for found in images.values() if codec in found]
        voxels = sum(each.voxels for each in some) / 1e6
        if some:
            took = voxels / sum(each.encode_s for each in some)
            back_s = sum(each.decode_s for each in some)
            back = f", decode {voxels / back_s:.2f}" if back_s else ""
            rows.append(Row(f"{codec}: Mvoxel a CPU second", "", f"encode {took:.2f}{back}"))
    return rows


def _ratio(
    among: dict[str, dict[str, Line]], ours: str, peer: str, asked: float | None, what: str
) -> list[Row]:
    ratios = [
        log(found[ours].bytes / found[peer].bytes)
        for found in among.values()
        if ours in found and peer in found
    ]
    if not ratios:
        return []
    got = exp(sum(ratios) / len(ratios))
    told = f"{got:.4f} over {len(ratios)} volumes"
    words, good = ("", None) if asked is None else (f"<= {asked}", got <= asked)
    return [Row(f"{ours} / {peer}, {what}", words, told, good)]


def _plot(lines: list[Line], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for codec in dict.fromkeys(line.codec for line in lines):
        some = [line for line in lines if line.codec == codec]
        voxels = sum(line.voxels for line in some)
        bits = 8 * sum(line.bytes for line in some) / voxels
        speeds = [voxels / 1e6 / max(1e-9, sum(line.encode_s for line in some))]
        if decode_s := sum(line.decode_s for line in some):
            speeds.append(voxels / 1e6 / decode_s)
        axes.plot(speeds, [bits] * len(speeds), "o-", label=codec, linewidth=1)
        axes.annotate(
            codec, (speeds[0], bits), fontsize=8, xytext=(3, 4), textcoords="offset points"
        )
    axes.set(xscale="log", xlabel="Mvoxel a CPU second: encode, decode", ylabel="bits a voxel")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
