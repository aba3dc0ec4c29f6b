"""A PNG of the three mid-ROI planes at each stage, with the quality map over it.

What is missing is hatched, what is a preview is tinted yellow, what is proven stands plain; a badge
says the same in words, in the picture and in the file's own text. Nobody can take a preview for the
truth, or a missing voxel for air.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.layer import Quality

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.ImageDraw import ImageDraw

    from receiver.planes import Plane
    from shared.intensity import PreviewWindow

_SIDE = 360
"""Pixels of the longer side of a plane."""
_MARGIN, _TITLE, _LEGEND = 16, 44, 28
_TINTS: dict[Quality, tuple[tuple[int, int, int], float, bool, str]] = {
    Quality.MISSING: ((190, 40, 160), 0.75, True, "missing"),
    Quality.DISCARDED: ((40, 70, 190), 0.75, True, "not sent"),
    Quality.PREVIEW: ((250, 210, 40), 0.25, False, "preview, lossy"),
    Quality.BOUNDED: ((250, 150, 40), 0.25, False, "bounded error"),
    Quality.EXACT: ((90, 200, 240), 0.20, False, "decoded, not yet proven"),
    Quality.VERIFIED: ((0, 0, 0), 0.0, False, "exact, proven"),
}
"""Colour, how strong, whether hatched, and the word for it."""
_ROI_COLOUR = (70, 230, 90)
_HATCH = 8
_WHITE_QUANTILE = 0.997


def draw_picture(
    planes: tuple[Plane, ...], window: PreviewWindow, title: str, badge: str, path: Path
) -> None:
    """Write the picture of a stage.

    Args:
        title: what it shows, such as the stage and its time; holds no name of a patient.
        badge: how good it is, in words.
    """
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    white = _white(planes, window)
    panels = [_panel(plane, window.low, white) for plane in planes]
    width = sum(panel.shape[1] for panel in panels) + _MARGIN * (len(panels) + 1)
    height = max(panel.shape[0] for panel in panels) + _TITLE + 2 * _MARGIN + _LEGEND
    sheet = Image.new("RGB", (max(width, 640), height), (18, 18, 22))
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 8), title, fill=(235, 235, 235))
    draw.text((_MARGIN, 24), badge, fill=(250, 210, 40))
    left = _MARGIN
    for plane, panel in zip(planes, panels, strict=True):
        sheet.paste(Image.fromarray(panel), (left, _TITLE + _MARGIN))
        _label(draw, plane, left, _TITLE + _MARGIN, panel.shape[1], panel.shape[0])
        left += panel.shape[1] + _MARGIN
    _draw_legend(draw, height - _LEGEND)
    part = path.with_name(path.name + ".part")
    said = PngInfo()  # stays with the file where somebody crops the picture
    said.add_text("Title", title)
    said.add_text("Quality", badge)
    sheet.save(part, format="PNG", pnginfo=said)
    part.replace(path)


def _white(planes: tuple[Plane, ...], window: PreviewWindow) -> float:
    """The value shown white: what nearly all known voxels of these planes stay under."""
    known = [plane.values[plane.quality >= Quality.PREVIEW] for plane in planes]
    values = np.concatenate(known).astype(np.float64)
    values = values[np.isfinite(values)]
    white = float(np.quantile(values, _WHITE_QUANTILE)) if values.size else window.high
    return white if white > window.low else window.high


def _panel(plane: Plane, black: float, white: float) -> NDArray[np.uint8]:
    """(rows, columns, 3) uint8: a plane at screen size, tinted, ROI boxes drawn."""
    rows, columns = plane.values.shape
    tall = rows * plane.aspect
    scale = _SIDE / max(tall, columns)
    shape = max(1, round(tall * scale)), max(1, round(columns * scale))
    pick = np.ix_(
        *(np.arange(new) * old // new for new, old in zip(shape, (rows, columns), strict=False))
    )
    real = np.nan_to_num(plane.values[pick].astype(np.float64), nan=black)
    gray = (np.clip(real, black, white) - black) / (white - black) * 255
    quality = plane.quality[pick]
    panel = np.repeat(gray[:, :, None], 3, axis=2)
    down, across = np.indices(shape)
    for level, (colour, strength, hatched, _) in _TINTS.items():
        here = quality == level
        panel[here] = panel[here] * (1 - strength) + np.array(colour) * strength
        if hatched:
            panel[here & ((down + across) % _HATCH < 2)] = (235, 235, 235)
    for r0, c0, r1, c1 in plane.rois:
        top, bottom = r0 * shape[0] // rows, min(shape[0] - 1, r1 * shape[0] // rows)
        start, stop = c0 * shape[1] // columns, min(shape[1] - 1, c1 * shape[1] // columns)
        panel[[top, bottom], start : stop + 1] = _ROI_COLOUR
        panel[top : bottom + 1, [start, stop]] = _ROI_COLOUR
    return panel.astype(np.uint8)


def _label(draw: ImageDraw, plane: Plane, left: int, top: int, width: int, height: int) -> None:
    draw.text((left, top - 14), plane.name, fill=(170, 170, 170))
    if not any(plane.sides):
        draw.text((left + 4, top + 4), "ORIENTATION UNKNOWN", fill=(250, 90, 90))
        return
    north, south, west, east = plane.sides
    middle, centre = left + width // 2, top + height // 2
    for letter, at in (
        (north, (middle, top + 2)),
        (south, (middle, top + height - 14)),
        (west, (left + 3, centre)),
        (east, (left + width - 10, centre)),
    ):
        draw.text(at, letter, fill=(120, 220, 250))


def _draw_legend(draw: ImageDraw, top: int) -> None:
    left = _MARGIN
    for colour, _, hatched, word in _TINTS.values():
        draw.rectangle((left, top, left + 12, top + 12), fill=colour, outline=(235, 235, 235))
        if hatched:
            draw.line((left, top + 12, left + 12, top), fill=(235, 235, 235), width=2)
        draw.text((left + 17, top + 1), word, fill=(200, 200, 200))
        left += 30 + 6 * len(word)
