"""What the exact coder costs beside its bytes: a ladder, a preview, a mask, isolation, speed.

On a handful of scans each, central slices: the whole streams would take an hour.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from sender.encode import cut_out, is_exact
from sender.filling import fill_zero
from sender.layering import cut_layers, make_plan
from sender.prepare import segment_series
from sender.preview import PreviewTarget, encode_preview
from sender.read.source import read_study
from sender.segment.registry import segmenter_for
from sender.segment.tissue import tissue_box
from shared.codecs import causal3d
from shared.codecs.base import Block
from shared.codecs.causal3d import CAUSAL_3D, LADDERS
from shared.codecs.given import Given
from shared.codecs.registry import codec_named
from shared.intensity import PREVIEW_DTYPE, fit_sample_map, fit_window
from tests.bench.table import Row

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SCANS = (
    "mr/open_ms/patient04_study1_FLAIR.nii.gz",
    "mr/ds002748/sub-01_T1w.nii.gz",
    "ct/dicom/philips_head_phantom_1mm",
    "tumour/brats_unknown/flair.nii.gz",
    "tumour/brats2021_01476/BraTS2021_01476_flair.nii.gz",
)
_MARKED = (
    ("tumour/brats_unknown/flair.nii.gz", "truth.nii.gz"),
    ("tumour/brats2021_01476/BraTS2021_01476_flair.nii.gz", "BraTS2021_01476_seg.nii.gz"),
    ("tumour/tcga_DU-7294/fla_bet.nii.gz", "autoseg_mav.nii.gz"),
    ("mr/dicom/brainix_flair", "../brainix_flair_tumour_mask.nii.gz"),
)
"""Scans and the masks of their ROIs, beside them."""
_MEGAVOXELS = 2.0
_ISOLATION, _LADDER, _PROGRESSIVE, _ROI = 1.015, 1.005, 1.015, 0.36
_SPEEDS = {"fast": (1, 12.0), "default": (2, 3.0), "archive": (3, None)}
_MARGIN = 3


def extra_rows(data: Path) -> list[Row]:
    """Every row, measured."""
    found = [data / name for name in _SCANS if (data / name).exists()]
    pieces = [_central(_read(path)) for path in found]
    if not pieces:
        return []
    rows = []
    for measure in (_isolation, _ladder, _progressive):
        rows.append(measure(pieces))
        print(rows[-1], flush=True)
    rows += _layered(data)
    brain = data / "tumour" / "brats_unknown"
    if (brain / "truth.nii.gz").is_file():
        rows.append(_masked(brain))
    return rows + [row for name in _SPEEDS for row in _speeds(pieces, name)]


def _read(path: Path) -> NDArray[np.generic]:
    return np.asarray(read_study([path], series=None, volume=None).volumes[0].voxels)


def _central(voxels: NDArray[np.generic]) -> NDArray[np.generic]:
    plane = voxels.shape[1] * voxels.shape[2]
    depth = max(8, min(voxels.shape[0], round(_MEGAVOXELS * 1e6 / plane)))
    first = max(0, (voxels.shape[0] - depth) // 2)
    return np.ascontiguousarray(voxels[first : first + depth])


def _block(voxels: NDArray[np.generic]) -> Block:
    fitted = fit_sample_map(voxels)
    return Block(np.ascontiguousarray(fitted.to_samples(voxels)), fitted.bits)


def _row(what: str, asked: float, parts: list[tuple[int, int]]) -> Row:
    got = sum(part for part, _ in parts) / sum(whole for _, whole in parts)
    return Row(what, f"<= {asked}", f"{got:.4f} over {len(parts)} scans", got <= asked)


def _isolation(pieces: list[NDArray[np.generic]]) -> Row:
    """As bricks, against one brick of everything."""
    parts = []
    kept = causal3d._BRICK_VOXELS
    for voxels in pieces:
        block = _block(voxels)
        bricks = len(CAUSAL_3D.encode(block, {}))
        causal3d._BRICK_VOXELS = 1 << 40
        try:
            parts.append((bricks, len(CAUSAL_3D.encode(block, {}))))
        finally:
            causal3d._BRICK_VOXELS = kept
    return _row("bricks against one brick", _ISOLATION, parts)


def _layered(data: Path) -> list[Row]:
    """The layers that a sender cuts, each coded alone, against one brick of all their voxels.

    ROIs by their masks with the sender's margin, the tissue around them, the background: headers,
    what stands at every edge, and what a layer cannot know of the others.
    """
    lines: list[tuple[int, int]] = []
    kept = causal3d._BRICK_VOXELS
    for scan, mask in _MARKED:
        path = data / scan
        marked = (path if path.is_dir() else path.parent) / mask
        if not path.exists() or not marked.is_file():
            continue
        volume = read_study([path], series=None, volume=None).volumes[0]
        found = segment_series(0, volume, segmenter_for(f"mask:{marked}"))
        tissue = found.tissue or tissue_box(volume)
        plan = make_plan(0, volume.header, found.rois, tissue, discard_background=False)
        voxels = np.asarray(volume.voxels)
        fitted = fit_sample_map(voxels)
        jobs = [job for job in cut_layers(plan) if is_exact(job)]
        apart = 0
        for job in jobs:
            cut = cut_out(voxels, job)
            samples = fill_zero(fitted.to_samples(cut.block), cut.owned)
            apart += len(CAUSAL_3D.encode_given(Block(samples, fitted.bits), {}, Given(cut.owned)))
        causal3d._BRICK_VOXELS = 1 << 40
        try:
            lines.append((apart, len(CAUSAL_3D.encode(_block(voxels), {}))))
        finally:
            causal3d._BRICK_VOXELS = kept
        print(f"{scan}: {len(jobs)} layers, {apart} bytes; as one brick {lines[-1][1]}", flush=True)
    return [_row("layers of a study against one brick", _ISOLATION, lines)] if lines else []


def _ladder(pieces: list[NDArray[np.generic]]) -> Row:
    """Three rungs, against the exact encoding alone."""
    parts = []
    for voxels in pieces:
        block, given, size = _block(voxels), Given(), 0
        for rung in range(1, len(LADDERS[1]) + 1):
            payload = CAUSAL_3D.encode_given(block, {"ladder": 1, "rung": rung}, given)
            shape, dtype = block.samples.shape, block.samples.dtype
            coarse = CAUSAL_3D.decode_given(payload, shape, dtype, {}, given)
            given, size = replace(given, coarse=coarse), size + len(payload)
        parts.append((size, len(CAUSAL_3D.encode(block, {}))))
    steps = ", ".join(map(str, LADDERS[1]))
    return _row(f"ladder {steps} against exact alone", _LADDER, parts)


def _progressive(pieces: list[NDArray[np.generic]]) -> Row:
    """A preview of 40 dB and the exact encoding that knows it, against the exact one alone."""
    parts = []
    for voxels in pieces:
        block, fitted = _block(voxels), fit_sample_map(voxels)
        window = fit_window(voxels)
        peak = (float(voxels.min()), float(voxels.max()))
        target = PreviewTarget(40.0, 8.0)
        preview = encode_preview(voxels, None, window, peak, target, codec_named("hevc"))
        shown = codec_named("hevc").decode(
            preview.payload, voxels.shape, PREVIEW_DTYPE, {"crf": preview.crf}
        )
        values = window.from_preview(shown, voxels.dtype)
        low, high = int(voxels.min()), int(voxels.max())
        samples = fitted.to_samples(np.clip(values, low, high).astype(voxels.dtype))
        given = Given(preview=np.ascontiguousarray(samples))
        exact = len(CAUSAL_3D.encode_given(block, {}, given))
        parts.append((len(preview.payload) + exact, len(CAUSAL_3D.encode(block, {}))))
    return _row("preview of 40 dB + exact, no ladder, against exact alone", _PROGRESSIVE, parts)


def _masked(brain: Path) -> Row:
    """The lesion and a margin, exact, against its box in JPEG XL e5."""
    voxels, truth = _read(brain / "flair.nii.gz"), _read(brain / "truth.nii.gz")
    ball = ndimage.generate_binary_structure(3, 1)
    owned = ndimage.binary_dilation(truth != 0, ball, _MARGIN)
    where = ndimage.find_objects(owned.astype(np.int8))[0]
    block = _block(np.ascontiguousarray(voxels[where]))
    mine = np.ascontiguousarray(owned[where])
    box = len(codec_named("jpegxl").encode(block, {"effort": 5}))
    filled = Block(fill_zero(block.samples.copy(), mine), block.bits)
    roi = len(CAUSAL_3D.encode_given(filled, {}, Given(mine)))
    return _row("masked ROI against its box in JPEG XL e5", _ROI, [(roi, box)])


def _speeds(pieces: list[NDArray[np.generic]], name: str) -> list[Row]:
    """On two threads, by the clock, the best of three."""
    level, asked = _SPEEDS[name]
    settings = {"level": level, "threads": 2}
    voxels = sum(piece.size for piece in pieces) / 1e6
    encode_s = decode_s = 0.0
    for piece in pieces:
        block = _block(piece)
        tries = [_clock(block, settings) for _ in range(3 if asked else 1)]
        encode_s += min(one for one, _ in tries)
        decode_s += min(two for _, two in tries)
    rows = []
    for way, took_s in (("encode", encode_s), ("decode", decode_s)):
        got = voxels / took_s
        words, good = ("", None) if asked is None else (f">= {asked}", got >= asked)
        rows.append(Row(f"{name}, {way}, Mvoxel/s on 2 threads", words, f"{got:.2f}", good))
    return rows


def _clock(block: Block, settings: dict[str, int]) -> tuple[float, float]:
    began_s = time.perf_counter()
    payload = CAUSAL_3D.encode(block, settings)
    coded_s = time.perf_counter()
    CAUSAL_3D.decode(payload, block.samples.shape, block.samples.dtype, settings)
    return coded_s - began_s, time.perf_counter() - coded_s
