"""Every segmenter by the name that ``--roi`` calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sender.segment.auto import AutoSegmenter
from sender.segment.box import BoxSegmenter
from sender.segment.mask import MaskSegmenter
from sender.segment.options import RoiOptions
from sender.segment.tissue import TissueSegmenter
from sender.segment.unet.segmenter import UnetSegmenter
from sender.segment.whole import WholeSegmenter
from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sender.segment.base import Segmenter

DEFAULT = "tissue"
CHOICES = "auto, unet, mask:FILE, box:Z0:Z1,Y0:Y1,X0:X1, tissue, tissue:code, none"
"""What ``--roi`` takes, for help texts and refusals."""


_PARSERS: dict[str, Callable[[str | None, RoiOptions], Segmenter]] = {
    "auto": lambda text, options: AutoSegmenter.parse(text, options.margin_voxels),
    "unet": lambda text, options: UnetSegmenter.parse(text, options.margin_voxels),
    "mask": lambda text, options: MaskSegmenter.parse(text, options.margin_voxels, options.ranks),
    "box": lambda text, _: BoxSegmenter.parse(text),
    "tissue": lambda text, _: TissueSegmenter.parse(text),
    "none": lambda text, _: WholeSegmenter.parse(text),
}


def segmenter_for(spec: str, options: RoiOptions | None = None) -> Segmenter:
    """The segmenter that a ``--roi`` value names.

    Raises:
        SettingsError: it names none, or what stands behind the colon cannot be used.
    """
    name, colon, argument = spec.partition(":")
    parse = _PARSERS.get(name)
    if parse is None:
        raise SettingsError(f"--roi {spec!r} is none of {CHOICES}")
    return parse(argument if colon else None, options or RoiOptions())
