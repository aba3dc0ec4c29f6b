"""Previews at an asked-for PSNR: find the CRF, encode, and measure what is really sent.

The error is measured on the decoded bytes of the very encoding that goes out, never on the
encoder's own reconstruction, over the voxels that the layer owns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, isinf, log2
from typing import TYPE_CHECKING, Any

from sender.filling import fill_forward
from shared.codecs.base import Block
from shared.fidelity import Fidelity, measure
from shared.intensity import PREVIEW_BITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared.codecs.base import Codec
    from shared.intensity import PreviewWindow

FIRST_CRF = 28
_CRF_MIN, _CRF_MAX = 4, 42
_DB_PER_CRF = 0.65
"""How much PSNR a step of CRF costs; 0.6-0.7 on MR and CT at 12 bits."""
_CRF_PER_HALVING = 6
"""Steps of CRF that halve the bits: x265's quantiser doubles every six."""
_TRIES = 4
_ABOVE_DB = 1.5
"""A preview this much better than asked is near enough: more tries cost more than they save."""
_ALWAYS_BYTES = 4 << 10
"""A preview of this size is never too dear, however few voxels it shows."""
_SMALL = 0.05
"""A preview that costs less than this share of what it may is not worth making smaller."""


@dataclass(frozen=True, slots=True)
class PreviewTarget:
    """How good a preview should be, and how much it may cost."""

    psnr_db: float
    """At least, over the volume's range."""
    bits_per_voxel: float
    """At most; quality gives way to it, for a preview is only worth having while it is small."""

    def cost(self, preview: Preview) -> float:
        """What a preview takes of what it may, 1 for all of it."""
        most_bits = max(self.bits_per_voxel * preview.fidelity.voxels, 8 * _ALWAYS_BYTES)
        return len(preview.payload) * 8 / most_bits


@dataclass(frozen=True, slots=True)
class Preview:
    """A lossy encoding and its measured error."""

    payload: bytes
    crf: int
    fidelity: Fidelity

    def rank(self, target: PreviewTarget, peak: tuple[float, float]) -> tuple[bool, bool, float]:
        """Of two attempts the one that ranks higher is sent: the smaller of two that are too dear;
        else affordable, then good enough, then the smaller of two good ones or the better of two
        poor ones."""
        if target.cost(self) > 1:
            return False, False, -len(self.payload)
        psnr_db = self.fidelity.psnr_db(peak)
        good = psnr_db >= target.psnr_db
        return True, good, -len(self.payload) if good else psnr_db


def encode_preview(
    voxels: NDArray[Any],
    owned: NDArray[np.bool_] | None,
    window: PreviewWindow,
    peak: tuple[float, float],
    target: PreviewTarget,
    codec: Codec,
    *,
    crf: int = FIRST_CRF,
) -> Preview:
    """The best of a few encodings of a layer's box, by `Preview.rank`.

    Args:
        voxels: (z, y, x) stored values.
        owned: (z, y, x) bool, or None for all.
        peak: smallest and largest value of the volume: PSNR is over that range.
        crf: where to begin; a neighbouring block's makes one attempt enough.
    """
    block = Block(fill_forward(window.to_preview(voxels), owned), PREVIEW_BITS)
    attempts: dict[int, Preview] = {}
    while crf not in attempts and len(attempts) < _TRIES:
        settings = {"crf": crf}
        payload = codec.encode(block, settings)
        samples = codec.decode(payload, voxels.shape, block.samples.dtype, settings)
        shown = window.from_preview(samples, voxels.dtype)
        attempts[crf] = Preview(payload, crf, measure(voxels, shown, owned))
        crf = _next_crf(attempts[crf], target, peak)
    return max(attempts.values(), key=lambda attempt: attempt.rank(target, peak))


def _next_crf(attempt: Preview, target: PreviewTarget, peak: tuple[float, float]) -> int:
    """Where to look next; the attempt's own CRF where it is near enough."""
    over_db = attempt.fidelity.psnr_db(peak) - target.psnr_db
    cost = target.cost(attempt)
    if cost > 1:
        step = ceil(_CRF_PER_HALVING * log2(cost))
    elif isinf(over_db) or 0 <= over_db <= _ABOVE_DB or (over_db > 0 and cost < _SMALL):
        step = 0
    elif over_db > 0:
        step = floor((over_db - _ABOVE_DB / 4) / _DB_PER_CRF)
    else:
        step = floor(over_db / _DB_PER_CRF)
        # Better would be dearer: no use looking where it cannot be afforded.
        cheapest = floor(_CRF_PER_HALVING * log2(cost)) if cost > 0 else step
        step = max(step, min(cheapest, 0))
    return min(max(attempt.crf + step, _CRF_MIN), _CRF_MAX)
