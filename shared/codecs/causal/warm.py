"""Compiles the exact coder ahead of its first use: ``python -m shared.codecs.causal.warm``.

It takes about ten seconds, once for each version of medroi: the machine code is kept beside the
source, or in the user's cache where that is not writable. ``make`` runs it after an installation.
"""

from __future__ import annotations

import numpy as np

from shared.codecs.causal.bricks import decode_brick, encode_brick


def main() -> None:
    """Code one small brick there and back."""
    z, y, x = np.indices((3, 16, 16))
    samples = (z + 3 * y + 2 * x).astype(np.uint16)
    samples[:, :6] = 0
    decode_brick(encode_brick(samples, 7), samples.shape, 7)


if __name__ == "__main__":
    main()
