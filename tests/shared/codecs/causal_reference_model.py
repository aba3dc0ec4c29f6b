"""The slow decoder's models: `Fast`, and what `Default` does otherwise."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.shared.codecs.causal_reference_basics import (
    BLEND,
    CORRECTED,
    FAR,
    INVERSE_SQUARE,
    NEAR,
    PLANE,
    QUARTERS,
    SOFTPLUS,
    SPACE,
    STEPS,
    STRETCH,
    Bits,
    Chance,
    Field,
    Known,
    clamp,
    find_background,
    squash,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.shared.codecs.causal_reference_basics import Tap


def scale_of(energy: int) -> int:
    """Quarter octaves of an expected error in 1/512 of a sample."""
    value = energy + 64
    shift = 0 if value < 1 << 12 else 8 if value < 1 << 20 else 16
    return clamp(QUARTERS[min(4095, value >> shift)] + 4 * shift - 24, 0, 63)


@dataclass
class Fast:
    """One expert, one adaptive chance for each question."""

    known: Known
    most: int
    filler: int
    side: NDArray[Any] | None
    sides: list[Tap]
    taps: list[list[Tap]]
    weights: list[list[int]]
    experts: int = 1
    is_shown: bool = False
    """The rung above shows the background."""
    chances: dict[Any, Chance] = field(default_factory=lambda: defaultdict(Chance))

    def decode(self, bits: Bits) -> NDArray[Any]:
        shape, self.bits = self.known.shape, bits
        depth, rows, columns = shape
        is_filler = np.zeros(shape, np.bool_)
        if self.is_shown:
            is_filler = self.known.owned & (self.known.coarse == self.filler)
        elif self.filler >= 0:
            is_filler = find_background(bits, self.known, self.filler)
        self.seen = Field(shape)
        self.errors = [Field(shape) for _ in range(self.experts)]
        found = np.zeros(shape, np.int64)
        for z in range(depth):
            fields = [self.seen, *self.errors]
            self.seen.is_second = z == 1
            for each in fields:
                each.begin_plane(z)
            for y in range(rows):
                for each in fields:
                    each.begin_row(z, y)
                for x in range(columns):
                    at = (z, y, x)
                    if self.known.owned[at] and not is_filler[at]:
                        found[at] = self.seen.cells[at] = self.voxel(z, y, x)
                    else:
                        found[at] = self.filler if is_filler[at] else 0
                        self._stand_in(z, y, x)
                for each in fields:
                    each.end_row(z, y)
            for each in fields:
                each.end_plane(z)
        assert bits.at >= len(bits.octets), "bytes are left over"
        return found

    def _stand_in(self, z: int, y: int, x: int) -> None:
        seen = self.seen
        mean = (seen(z, y, x - 1) + seen(z, y - 1, x)) >> 1
        if z:
            mean = (seen(z, y, x - 1) + seen(z, y - 1, x) + 2 * seen(z - 1, y, x)) >> 2
        seen.cells[z, y, x] = mean
        for each in self.errors:
            each.cells[z, y, x] = (each(z, y, x - 1) + each(z, y - 1, x)) >> 1

    def values(self, z: int, y: int, x: int, taps: list[Tap]) -> list[int]:
        """What the side shows, then the taps."""
        depth, rows, columns = self.known.shape
        shown = []
        for dz, dy, dx in self.sides:
            assert self.side is not None
            place = zip((z + dz, y + dy, x + dx), (depth, rows, columns), strict=True)
            shown.append(int(self.side[tuple(clamp(i, 0, length - 1) for i, length in place)]))
        return shown + [self.seen(z + dz, y + dy, x + dx) for dz, dy, dx in taps]

    def clamped(self, sixteenths: int) -> int:
        return clamp(sixteenths, 0, self.most << 4)

    def predict(self, z: int, y: int, x: int, expert: int) -> int:
        """By weights that were sent; space is the plane's in the first of several slices."""
        if expert == SPACE and z == 0 and self.known.shape[0] > 1:
            expert = PLANE
        *weights, constant = self.weights[expert]
        values = self.values(z, y, x, self.taps[expert])
        total = sum(w * value for w, value in zip(weights, values, strict=True))
        return self.clamped((total + (constant << 12)) >> 8)

    def open_interval(self, z: int, y: int, x: int) -> tuple[int, int, int, int, bool]:
        """Lowest, one above the highest; the same in pieces; whether it was known."""
        step, known = self.known.steps[-1], self.known.interval((z, y, x))
        low, high = 0, self.most + 1
        if known is not None:
            low, high = known[0], max(known[0] + 1, min(known[1], self.most + 1))
        return low, high, low // step, (high - 1) // step + 1, known is not None

    def voxel(self, z: int, y: int, x: int) -> int:
        step, error, seen = self.known.steps[-1], self.errors[0], self.seen
        mean = self.predict(z, y, x, SPACE)
        energy = 8 * (error(z, y, x - 1) + error(z, y - 1, x))
        energy += 4 * (error(z, y - 1, x + 1) + error(z, y - 1, x - 1))
        energy += 8 * error(z - 1, y, x) if z else energy // 3
        west, north = seen(z, y, x - 1), seen(z, y - 1, x)
        past = seen(z - 1, y, x) if z else seen(z, y - 1, x + 1)
        level = scale_of(energy + 15 * abs(west - north))
        low, high, left, right, is_bounded = self.open_interval(z, y, x)
        first = max(left + 1, min(right - 1, (mean + 8 + 8 * step) // (16 * step)))
        border = (first * step << 4) - 8
        lie = [value > border for value in (mean, north << 4, west << 4, past << 4)]
        place: tuple[int, ...] = tuple(lie)
        if is_bounded:
            place = (min(3, first - left - 1), min(3, max(0, right - first - 1)))
        left = self._number(left, right, first, (place, level))
        low, high = max(low, left * step), min(high, left * step + step)
        value = (low + high - 1) >> 1
        error.cells[z, y, x] = min(1 << 18, abs((value << 4) - mean))
        return value

    def _number(self, left: int, right: int, first: int, context: tuple[Any, int]) -> int:
        coarse = max(0, context[1] - QUARTERS[self.known.steps[-1]]) * 16
        up, asked, number, node = -1, 0, first, (0, -1)
        while right - left > 1 and asked < 16:
            if asked:
                reach = STEPS[coarse + asked - 1]
                number = first + reach if up else first - reach
                if not left < number < right:
                    break
                node = (asked, up)
            bit = self._answer((context, node, "next"))
            left, right = (number, right) if bit else (left, number)
            if asked and bit != up:
                break
            up, asked = (up if asked else bit), asked + 1
        if right - left > 2:
            number = (left + right) >> 1
            bit = self._answer((context, node, "half"))
            left, right = (number, right) if bit else (left, number)
        return left + self.bits.even(right - left) if right - left > 1 else left

    def _answer(self, cell: Any) -> int:
        chance = self.chances[cell]
        bit = self.bits.bit(chance.p)
        chance.learn(bit, 86, 65450)
        return bit


class Default(Fast):
    """Four experts, mixed."""

    def decode(self, bits: Bits) -> NDArray[Any]:
        self.experts = 4
        self.sums = {(k, i): 8 * _mean_error(i) for k in range(4) for i in range(64)}
        self.counts = dict.fromkeys(self.sums, 8)
        self.slopes = {cell: 23253156 * 8 // (total + 10) for cell, total in self.sums.items()}
        self.filter = [0] * (len(self.sides) + len(self.taps[SPACE]))
        self.mixers: dict[tuple[int, int], list[int]] = defaultdict(
            lambda: [16384, 16384, 16384, 16384, 9830, 0]
        )
        return super().decode(bits)

    def voxel(self, z: int, y: int, x: int) -> int:
        step, seen = self.known.steps[-1], self.seen
        taps = self.taps[SPACE]
        if z == 0 and self.known.shape[0] > 1:
            taps = [tap for tap in taps if tap[0] == 0]
        centre, flat = self.predict(z, y, x, SPACE), self.predict(z, y, x, PLANE)
        apart = [(value << 4) - centre for value in self.values(z, y, x, taps)]
        moved = sum(w * d for w, d in zip(self.filter, apart, strict=False)) >> 16
        self.means = [centre, flat, self.clamped(centre + moved)]
        scales = [scale_of(self._expected(z, y, x, k)) for k in range(3)]
        trust = [INVERSE_SQUARE[scale] for scale in scales]
        lean = sum(w * (mean - centre) for w, mean in zip(trust, self.means, strict=True))
        self.means.append(self.clamped(centre + lean // sum(trust)))
        west, north, past = seen(z, y, x - 1), seen(z, y - 1, x), seen(z - 1, y, x)
        edge = abs(west - north) + (abs(past - west) if z else 0)
        level = scale_of(self._expected(z, y, x, BLEND) + 15 * edge)
        cells = list(enumerate([*scales, level]))
        self.curves = [self.slopes[cell] for cell in cells]

        low, high, left, right, is_bounded = self.open_interval(z, y, x)
        first = max(left + 1, min(right - 1, (self.means[BLEND] + 8 + 8 * step) // (16 * step)))
        border = (first * step << 4) - 8
        lie = [value > border for value in (centre, self.means[CORRECTED], flat)]
        if is_bounded:
            place = (*lie, min(3, first - left - 1), min(3, max(0, right - first - 1)))
        else:
            around = (west, north, past, seen(z, y - 1, x + 1))
            place = (*lie, *((value << 4) > border for value in around))
        value = self._value(low, high, left, right, first, place, level)

        target, mean_error = value << 4, 0
        for (k, scale), mean in zip(cells, self.means, strict=True):
            error = min(1 << 18, abs(target - mean))
            self.errors[k].cells[z, y, x] = error
            total, count = self.sums[k, scale], self.counts[k, scale]
            mean_error = total // count
            total, count = total + error, count + 1
            self.slopes[k, scale] = 23253156 * count // (total + count)
            halve = int(count > 400)
            self.sums[k, scale], self.counts[k, scale] = total >> halve, count >> halve
        missed = clamp(target - self.means[CORRECTED], -3 * mean_error, 3 * mean_error)
        power = 256 + sum(d * d for d in apart) + len(apart) * mean_error**2 + 1
        gain = missed * 402653 // power
        for k, d in enumerate(apart):
            self.filter[k] += (gain * d + 128) >> 8
        return value

    def _expected(self, z: int, y: int, x: int, k: int) -> int:
        error = self.errors[k]
        near = ((0, -1, 5), (-1, 0, 5), (-1, -1, 2), (-1, 1, 3), (0, -2, 2), (-2, 0, 2))
        total = sum(weight * error(z, y + dy, x + dx) for dy, dx, weight in near)
        if z == 0:
            return total * 27 >> 4
        past = ((0, 0, 5), (0, -1, 2), (0, 1, 2), (-1, 0, 2), (1, 0, 2))
        return total + sum(weight * error(z - 1, y + dy, x + dx) for dy, dx, weight in past)

    def _value(
        self, low: int, high: int, left: int, right: int, first: int, place: Any, level: int
    ) -> int:
        step = self.known.steps[-1]
        self.ends = [[self._curve(low, k), self._curve(high, k)] for k in range(4)]
        coarse = max(0, level - QUARTERS[step]) * 16
        number, reach, up, asked = first, 0, -1, 0
        while right - left > 1:
            if asked:
                reach = STEPS[coarse + asked - 1] if asked < 16 else 2 * reach
                number = first + reach if up else first - reach
                if not left < number < right:
                    break
            question = min(asked, 15)
            cell = (place, level >> 1, question, up)
            mixer = self.mixers[level >> 2, question]
            bit = self._mixed(number * step, low > 0, high <= self.most, cell, mixer)
            left, right = (number, right) if bit else (left, number)
            low, high = (number * step, high) if bit else (low, number * step)
            if asked and bit != up:
                break
            up, asked = (up if asked else bit), asked + 1
        while right - left > 1:
            if (high - low) * self.curves[BLEND] >> 8 < 1024:
                left += self.bits.even(right - left)
                low, high = max(low, left * step), min(high, left * step + step)
                break
            number = (left + right) >> 1
            middle = self._curve(number * step, BLEND)
            odds = self._odds(middle, BLEND, low > 0, high <= self.most)
            if self.bits.bit(squash(odds)):
                left, low, self.ends[BLEND][0] = number, number * step, middle
            else:
                right, high, self.ends[BLEND][1] = number, number * step, middle
        return (low + high - 1) >> 1

    def _mixed(
        self, threshold: int, has_low: bool, has_high: bool, cell: Any, mixer: list[int]
    ) -> int:
        """A question that all experts answer."""
        here = [self._curve(threshold, k) for k in range(4)]
        inputs = [self._odds(here[k], k, has_low, has_high) for k in range(4)]
        chance = self.chances.setdefault(cell, Chance(squash(inputs[BLEND])))
        inputs += [STRETCH[chance.p >> 4], 77]
        p = squash(sum(w * said for w, said in zip(mixer, inputs, strict=True)) >> 16)
        bit = self.bits.bit(p)
        for k, said in enumerate(inputs):
            step = (((bit << 16) - p) * 393 * said + (1 << 23)) >> 24
            mixer[k] = clamp(mixer[k] + step, -(1 << 20), 1 << 20)
        chance.learn(bit, 6, 65530)
        for k in range(4):
            self.ends[k][0 if bit else 1] = here[k]
        return bit

    def _curve(self, threshold: int, k: int) -> int:
        """Where a threshold lies on an expert's curve, in 1/4096 of log-odds."""
        far = ((threshold << 4) - 8 - self.means[k]) * self.curves[k] >> 12
        return clamp(far, -(1 << 24), 1 << 24)

    def _odds(self, here: int, k: int, has_low: bool, has_high: bool) -> int:
        """That what lies between the ends is at least here, in 1/256 of log-odds."""
        low, high = self.ends[k]
        value = -here
        if has_high:
            value = _beyond(high - here) - _bend(high)
            if has_low:
                value += here - (low + _beyond(here - low) - _bend(low))
        elif has_low:
            value = _bend(-low) - _beyond(here - low)
        return clamp(value >> 4, -3072, 3072)


def _mean_error(scale: int) -> int:
    """Of a scale, in sixteenths: about 2 to the power of scale / 4 + 1."""
    octave = 2 << (scale >> 2)
    return octave + (octave * (scale & 3) >> 2)


def _beyond(distance: int) -> int:
    """log(exp(d) - 1)."""
    distance = max(0, distance)
    if distance < 1024:
        return int(NEAR[distance])
    return int(FAR[distance >> 6]) if distance < 81920 else distance


def _bend(x: int) -> int:
    """log(1 + exp(x))."""
    return x if x > 81920 else int(SOFTPLUS[(max(x, -81920) + 81920 + 32) >> 6])
