"""What the slow decoder stands on: tables, the range decoder, padded planes, taps, background."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Shape = tuple[int, int, int]
    Tap = tuple[int, int, int]

_TABLES = Path(__file__).resolve().parents[3] / "shared" / "codecs" / "causal" / "tables.bin"
_LENGTHS = (2561, 1024, 1281, 6145, 4096, 4096, 64, 256, 64 * 16)
_ENDS = [0, *np.cumsum(_LENGTHS).tolist()]
_ALL = np.frombuffer(_TABLES.read_bytes(), "<i4").tolist()
SOFTPLUS, NEAR, FAR, _SQUASH, STRETCH, QUARTERS, INVERSE_SQUARE, RATE, STEPS = (
    _ALL[start:stop] for start, stop in pairwise(_ENDS)
)
PAD = 3
SPACE, PLANE, CORRECTED, BLEND = range(4)


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def squash(odds: int) -> int:
    """The chance, in 1/65536, of log-odds in 1/256."""
    return int(_SQUASH[clamp(odds, -3072, 3072) + 3072])


class Bits:
    """The range decoder."""

    def __init__(self, octets: bytes) -> None:
        self.octets, self.at, self.code, self.range = octets, 0, 0, 1 << 40
        for _ in range(5):
            self._shift()

    def _shift(self) -> None:
        octet = self.octets[self.at] if self.at < len(self.octets) else 0
        self.code, self.at = self.code << 8 | octet, self.at + 1

    def _narrow(self, start: int, length: int) -> None:
        self.code, self.range = self.code - start, length
        while self.range < 1 << 32:
            self.range <<= 8
            self._shift()

    def bit(self, p: int) -> int:
        bound = (self.range >> 16) * p
        bit = int(self.code < bound)
        self._narrow(0 if bit else bound, bound if bit else self.range - bound)
        return bit

    def even(self, count: int) -> int:
        share = self.range // count
        value = min(self.code // share, count - 1)
        last = value == count - 1
        self._narrow(share * value, self.range - share * value if last else share)
        return value


@dataclass
class Chance:
    """An adaptive bit: a chance in 1/65536, and how often it was used."""

    p: int = 32768
    said: int = 0

    def learn(self, bit: int, low: int, high: int) -> None:
        self.p = clamp(self.p + (((bit << 16) - self.p) * RATE[self.said] >> 16), low, high)
        self.said = min(250, self.said + 1)


class Field:
    """Planes of numbers with three around each, by the rules of padding."""

    def __init__(self, shape: Shape) -> None:
        self.depth, self.rows, self.columns = shape
        self.cells: dict[Tap, int] = defaultdict(int)

    def begin_plane(self, z: int) -> None:
        for y, x in product(range(-PAD, 0), range(-PAD, self.columns + PAD)):
            self.cells[z, y, x] = self.cells[z - 1, 0, x] if z else 0

    def begin_row(self, z: int, y: int) -> None:
        for i in range(1, PAD + 1):
            self.cells[z, y, -i] = self.cells[z, y - 1, 0]

    def end_row(self, z: int, y: int) -> None:
        for i in range(PAD):
            self.cells[z, y, self.columns + i] = self.cells[z, y, self.columns - 1]

    def end_plane(self, z: int) -> None:
        for y, x in product(range(PAD), range(-PAD, self.columns + PAD)):
            self.cells[z, self.rows + y, x] = self.cells[z, self.rows - 1, x]

    def __call__(self, z: int, y: int, x: int) -> int:
        # Before slice 1, the plane two before it is slice 0.
        return self.cells[0 if z == -1 and self.is_second else z, y, x]

    is_second = False


def plane_taps(count: int) -> list[Tap]:
    before = [(0, y, x) for y in range(-PAD, 1) for x in range(-PAD, PAD + 1) if (y, x) < (0, 0)]
    before.sort(key=lambda tap: (tap[1] ** 2 + tap[2] ** 2, tap[1] < 0, tap[2] > 0))
    return before[:count]


def disc_taps(z: int, count: int) -> list[Tap]:
    disc = [(z, y, x) for y in range(-PAD, PAD + 1) for x in range(-PAD, PAD + 1)]
    disc.sort(key=lambda tap: (tap[1] ** 2 + tap[2] ** 2, tap[1] < 0, tap[2] < 0))
    return disc[:count]


def space_taps(depth: int, *, fast: bool) -> list[Tap]:
    if depth == 1:
        return plane_taps(12 if fast else 20)
    if fast:
        return plane_taps(8) + disc_taps(-1, 9)
    return plane_taps(12) + disc_taps(-1, 13) + (disc_taps(-2, 5) if depth > 2 else [])


def side_taps(*, rung: bool, wide: bool) -> list[Tap]:
    to_come = [(0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1), (1, 0, 0)]
    near = [*to_come, (0, 0, 2), (1, 0, 1), (1, 1, 0)]
    if rung and wide:
        far = [(1, 0, -1), (1, -1, 0), (0, 2, 0), (1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)]
        return [*near, *far, (0, 1, 2), (0, 1, -2)]
    if rung:
        return near
    return [(0, 0, 0), *to_come, (0, 0, -1), (0, -1, 0)]


@dataclass
class Known:
    """What is known of a brick beforehand; arrays are (z, y, x)."""

    shape: Shape
    bits: int
    steps: tuple[int, ...]
    owned: NDArray[np.bool_]
    coarse: NDArray[Any] | None
    preview: NDArray[Any] | None

    def interval(self, at: Tap) -> tuple[int, int] | None:
        if self.coarse is None:
            return None
        value, low, high = int(self.coarse[at]), 0, 1 << 20
        for step in self.steps[:-1]:
            low = max(low, value // step * step)
            high = min(high, value // step * step + step)
        return low, high

    def middle(self, at: Tap, number: int, most: int) -> int:
        """Of the piece of that number, from 0."""
        low, high = self.interval(at) or (0, 1 << 20)
        step = self.steps[-1]
        low, high = max(low, number * step), min(high, number * step + step)
        return (low + max(low + 1, min(high, most + 1)) - 1) >> 1


def find_background(bits: Bits, known: Known, filler: int) -> NDArray[np.bool_]:
    """Where it is; what nobody owns and what is not decoded yet counts as background."""
    depth, rows, columns = known.shape
    shown: dict[Tap, int] = defaultdict(lambda: 1)
    kinds: dict[tuple[int, int], int] = defaultdict(lambda: 1)
    whole = dict.fromkeys(range(9), 32768)
    wide, near = defaultdict[int, Chance](Chance), defaultdict[int, Chance](Chance)
    mixers: dict[int, list[int]] = defaultdict(lambda: [32768, 32768])
    found = np.zeros(known.shape, np.bool_)
    for z, y in product(range(depth), range(rows)):
        asked, others = [], 0
        for x in range(columns):
            low, high = known.interval((z, y, x)) or (0, 1 << 20)
            if known.owned[z, y, x] and low <= filler < high:
                asked.append(x)
            else:
                others += int(known.owned[z, y, x])
        is_whole = not others
        if asked:
            context = kinds[z, y - 1] * 3 + kinds[z - 1, y]
            is_all = bits.bit(clamp(whole[context], 536, 65000))
            whole[context] += ((is_all << 16) - whole[context]) >> 4
            is_whole = bool(is_all)
        kinds[z, y] = 1 if is_whole else 2
        for x in range(columns):
            if x in asked:
                if not is_whole:
                    bit = _ask_background(bits, shown, z, y, x, wide, near, mixers)
                    shown[z, y, x] = bit
                found[z, y, x] = bool(shown[z, y, x])
            elif known.owned[z, y, x]:
                shown[z, y, x] = 0
    return found


_NEAR = ((0, 0, -1), (0, -1, 0), (0, -1, 1), (0, -1, -1), (-1, 0, 0), (-1, 0, 1), (-1, 1, 0))
_WIDE = ((0, 0, -2), (0, -2, 0), (-1, -1, 0), (-1, 0, -1), (-1, 1, 1), (0, -1, 2), (-2, 0, 0))


def _ask_background(
    bits: Bits,
    shown: dict[Tap, int],
    z: int,
    y: int,
    x: int,
    wide: dict[int, Chance],
    near: dict[int, Chance],
    mixers: dict[int, list[int]],
) -> int:
    around = [shown[z + dz, y + dy, x + dx] for dz, dy, dx in _NEAR + _WIDE]
    nearest = sum(bit << i for i, bit in enumerate(around[:7]))
    one, two = wide[sum(bit << i for i, bit in enumerate(around))], near[nearest]
    weights = mixers[nearest]
    inputs = [STRETCH[min(65535, chance.p) >> 4] for chance in (one, two)]
    p = squash((weights[0] * inputs[0] + weights[1] * inputs[1]) >> 16)
    bit = bits.bit(p)
    for k in (0, 1):
        weights[k] += (((bit << 16) - p) * inputs[k] * 5) >> 16
    one.learn(bit, 0, 65535)
    two.learn(bit, 0, 65535)
    return bit
