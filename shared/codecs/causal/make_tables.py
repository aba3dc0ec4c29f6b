"""Makes the stored tables of the exact coder: ``python -m shared.codecs.causal.make_tables FILE``.

Run once per version of the format. What a codec reads is the file, never this: a logarithm may
differ in its last bit from one C library to the next, the file and its hash do not.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from shared.codecs.causal.layout import (
    LENGTHS,
    LOG_ONE,
    SCALES,
    STEPS,
    STRETCH_LIMIT,
)

_STEPS_IN_SCALES = (0.5, 1.0, 1.5, 2.1, 2.8, 3.7, 5.0, 7.0, 10.0, 15.0, 25.0, 45.0, 100.0)
"""How far from the prediction a question asks, in mean errors; from there on each doubles."""


def make_tables() -> dict[str, list[int]]:
    """Every table by name, whole numbers."""
    softplus = [_rounded(math.log1p(math.exp((i - 1280) / 64))) for i in range(2561)]
    near = [_rounded(math.log(math.expm1(max(i, 0.5) / LOG_ONE))) for i in range(1024)]
    far = [_rounded(math.log(math.expm1((i + 0.5) / 64))) for i in range(1281)]
    squash = []
    for i in range(-STRETCH_LIMIT, STRETCH_LIMIT + 1):
        squash.append(min(65535 - 1, max(2, round(65536 / (1 + math.exp(-i / 256))))))
    stretch = []
    for i in range(4096):
        p = (i + 0.5) / 4096
        stretch.append(round(256 * math.log(p / (1 - p))))
    quarters = [0] + [math.floor(4 * math.log2(i) + 1e-9) for i in range(1, 4096)]
    inverse_square = [max(1, round(2 ** (30 - i / 2))) for i in range(SCALES)]
    rate = [round(65536 / (n + 1.6)) for n in range(256)]
    steps: list[int] = []
    for scale in range(SCALES):
        mean, so_far = 2 ** (scale / 4 - 3), 0
        for step in range(STEPS):
            wanted = (
                round(_STEPS_IN_SCALES[step] * mean) if step < len(_STEPS_IN_SCALES) else 2 * so_far
            )
            so_far = max(wanted, so_far + 1)
            steps.append(so_far)
    return {
        "softplus": softplus,
        "near": near,
        "far": far,
        "squash": squash,
        "stretch": stretch,
        "quarters": quarters,
        "inverse_square": inverse_square,
        "rate": rate,
        "steps": steps,
    }


def _rounded(value: float) -> int:
    return round(value * LOG_ONE)


def main() -> None:
    """Write the file named on the command line."""
    tables = make_tables()
    assert {name: len(table) for name, table in tables.items()} == LENGTHS
    together = np.concatenate([np.array(table, "<i4") for table in tables.values()])
    Path(sys.argv[1]).write_bytes(together.tobytes())


if __name__ == "__main__":
    main()
