"""The working memory of a brick's model: one array of whole numbers, and what stands where in it.

One array, because a compiled loop pays for each of many: what is small and often used lies here.
Places hold one number for each expert, each input of the mixer or each tap.
"""

from __future__ import annotations

from shared.codecs.causal.layout import MOST_TAPS, PLACES, SCALES, STEPS

_MOST_EXPERTS = 6
MOST_INPUTS = _MOST_EXPERTS + 2

_regions = {
    "mean": _MOST_EXPERTS,
    "slope": _MOST_EXPERTS,
    "scale": _MOST_EXPERTS,
    "asked": _MOST_EXPERTS,
    "low_end": _MOST_EXPERTS,
    "high_end": _MOST_EXPERTS,
    "inputs": MOST_INPUTS,
    "power": 1,
    "values": MOST_TAPS,
    "flat_values": MOST_TAPS,
    "seen": MOST_TAPS,
    "filter": MOST_TAPS,
    "sums": _MOST_EXPERTS * SCALES,
    "counts": _MOST_EXPERTS * SCALES,
    "slopes": _MOST_EXPERTS * SCALES,
    "mixers": STEPS * (SCALES // 4) * MOST_INPUTS,
    "seconds": 2 * PLACES * MOST_INPUTS,
}
_starts = {name: sum(list(_regions.values())[:at]) for at, name in enumerate(_regions)}

MEAN = _starts["mean"]
"""Predictions, in 1/16 of a sample."""
SLOPE = _starts["slope"]
"""Of each expert's curve."""
SCALE = _starts["scale"]
"""Of each one's expected error."""
ASKED = _starts["asked"]
"""Where a threshold lies on each one's curve, in 1/4096 of log-odds."""
LOW_END, HIGH_END = _starts["low_end"], _starts["high_end"]
"""The same for the ends of the interval that is still open."""
INPUTS = _starts["inputs"]
"""Of the mixer."""
POWER = _starts["power"]
"""Of what is seen."""
VALUES, FLAT_VALUES = _starts["values"], _starts["flat_values"]
"""What the taps of space and of the plane show."""
SEEN = _starts["seen"]
"""The same as `VALUES`, less the prediction of space, in 1/16."""
FILTER = _starts["filter"]
"""The corrected expert's weights, in 1/65536."""
SUMS, COUNTS, SLOPES = _starts["sums"], _starts["counts"], _starts["slopes"]
"""(expert, scale): the errors that came of an expectation, and the curve that they make."""
MIXERS = _starts["mixers"]
"""(scale // 4, step, input): the mixer's weights."""
SECONDS = _starts["seconds"]
"""(place, side, input): those of a second mixer, for `archive`."""
WORDS = sum(_regions.values())
