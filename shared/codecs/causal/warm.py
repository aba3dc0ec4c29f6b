"""Compiles the exact coder ahead of its first use: ``python -m shared.codecs.causal.warm``.

It takes about a minute, once for each version of medroi: the machine code is kept beside the
source, or in the user's cache where that is not writable. ``make`` runs it after an installation,
and a receiver that finds nothing compiled runs it beside its work.
"""

from __future__ import annotations

import numpy as np

from shared.codecs.base import Block
from shared.codecs.causal.bricks import Effort
from shared.codecs.causal.compiled import forget_others, note_compiled
from shared.codecs.causal3d import CAUSAL_3D


def main() -> None:
    """Code one small block there and back at every effort."""
    forget_others()
    z, y, x = np.indices((3, 16, 16))
    samples = (z + 3 * y + 2 * x).astype(np.uint16)
    samples[:, :6] = 0
    for effort in Effort:
        payload = CAUSAL_3D.encode(Block(samples, 7), {"level": int(effort)})
        CAUSAL_3D.decode(payload, samples.shape, samples.dtype, {})
    note_compiled()


if __name__ == "__main__":
    main()
