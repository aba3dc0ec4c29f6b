"""Which voxels are background, coded ahead of the others.

    row:    is all of it background? (what the rows above and behind were)
    voxel:  14 neighbours and the 7 nearest of them, two adaptive bits, mixed in the logistic domain

Only marks that are asked for are coded. The others are known to both ends: nobody owns the voxel,
or a coarser rung has shown it to be something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.codecs.causal.kernels import inlined, kernel
from shared.codecs.causal.layout import PAD, RATE, SQUASH, STRETCH
from shared.codecs.causal.range_coder import code_bit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.codecs.causal.tables import Table

    Longs = NDArray[np.int64]
    Octets = NDArray[np.uint8]

ASKED, BACKGROUND, FOREIGN, OTHER = 0, 1, 2, 3
"""Marks of a voxel: to be coded yet; background; nobody's here; known not to be background."""
_WHOLE, _MIXED = 1, 2
"""Kinds of rows."""
_CERTAIN = 536
_MOST_COUNTS = 250


@kernel
def code_background(
    state: Longs,
    octets: Octets,
    decoding: bool,
    marks: Octets,
    background: Octets,
    shape: tuple[int, int, int],
    table: Table,
) -> None:
    """Settles every mark that is `ASKED`: it becomes `BACKGROUND` or `OTHER`.

    Args:
        marks: flat, over ``shape``.
        background: 1 where a voxel is; what an encoder answers.
    """
    depth, rows, columns = shape
    wide = np.full(1 << 14, 32768, np.int64)
    wide_said = np.zeros(1 << 14, np.int64)
    near = np.full(1 << 7, 32768, np.int64)
    near_said = np.zeros(1 << 7, np.int64)
    whole = np.full(16, 32768, np.int64)
    weights = np.full(2 * 128, 32768, np.int64)
    width = columns + 2 * PAD
    area = (rows + 2 * PAD) * width
    # Outside the brick everything is background, and so is all that is not known yet.
    known = np.ones((depth + 2) * area, np.int16)
    kinds = np.full((depth + 1) * (rows + 1), _WHOLE, np.int64)
    for z in range(depth):
        for y in range(rows):
            at = (z * rows + y) * columns
            row = (z + 2) * area + (y + PAD) * width + PAD
            asked, owned, other = 0, 0, 0
            for x in range(columns):
                if marks[at + x] == ASKED:
                    asked += 1
                    owned += background[at + x]
                elif marks[at + x] == OTHER:
                    other += 1
            above = kinds[(z + 1) * (rows + 1) + y]
            behind = kinds[z * (rows + 1) + y + 1]
            kind = _MIXED if other else _WHOLE
            if asked:
                context = above * 3 + behind
                p = min(65536 - _CERTAIN, max(_CERTAIN, whole[context]))
                flat = code_bit(state, octets, decoding, 1 if owned == asked else 0, p)
                whole[context] += ((flat << 16) - whole[context]) >> 4
                kind = _WHOLE if flat else _MIXED
            kinds[(z + 1) * (rows + 1) + y + 1] = kind
            if kind == _WHOLE and not other:  # as everything was taken to be
                for x in range(at, at + columns):
                    marks[x] = BACKGROUND if marks[x] == ASKED else marks[x]
                continue
            for x in range(columns):
                here = row + x
                mark = marks[at + x]
                bit = 0 if mark == OTHER else 1
                if mark == ASKED:
                    c7, c14 = _around(known, here, width, area)
                    s1, s2 = table[STRETCH + (wide[c14] >> 4)], table[STRETCH + (near[c7] >> 4)]
                    dot = (weights[2 * c7] * s1 + weights[2 * c7 + 1] * s2) >> 16
                    p = table[SQUASH + 3072 + min(3072, max(-3072, dot))]
                    bit = code_bit(state, octets, decoding, int(background[at + x]), p)
                    error = (bit << 16) - p
                    weights[2 * c7] += (error * s1 * 5) >> 16
                    weights[2 * c7 + 1] += (error * s2 * 5) >> 16
                    _learn(wide, wide_said, c14, bit, table)
                    _learn(near, near_said, c7, bit, table)
                known[here] = bit
                if mark == ASKED:
                    marks[at + x] = BACKGROUND if bit else OTHER


@inlined
def _around(known: NDArray[np.int16], here: int, width: int, area: int) -> tuple[int, int]:
    """The seven nearest neighbours as bits, and fourteen."""
    near = (
        known[here - 1]
        | known[here - width] << 1
        | known[here - width + 1] << 2
        | known[here - width - 1] << 3
        | known[here - area] << 4
        | known[here - area + 1] << 5
        | known[here - area + width] << 6
    )
    wide = (
        near
        | known[here - 2] << 7
        | known[here - 2 * width] << 8
        | known[here - area - width] << 9
        | known[here - area - 1] << 10
        | known[here - area + width + 1] << 11
        | known[here - width + 2] << 12
        | known[here - 2 * area] << 13
    )
    return near, wide


@inlined
def _learn(chances: Longs, said: Longs, cell: int, bit: int, table: Table) -> None:
    moved = chances[cell] + ((((bit << 16) - chances[cell]) * table[RATE + said[cell]]) >> 16)
    chances[cell] = min(65535, max(0, moved))
    said[cell] = min(_MOST_COUNTS, said[cell] + 1)
