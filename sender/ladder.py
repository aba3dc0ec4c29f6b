"""Bounded layers and the exact ones on top of them: the settings of `causal3d` for both.

A ladder is a list of odd steps, the last one 1; a rung is decoded to within half its step. Only
ladders of two rungs are used here: every voxel soon, within the noise, and then the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.codecs.causal3d import CAUSAL_3D, LADDERS

if TYPE_CHECKING:
    from shared.codecs.base import Settings

LADDER_CODEC = CAUSAL_3D.name
_TWO = {steps[0]: number for number, steps in enumerate(LADDERS) if len(steps) == 2}
"""The ladders of two rungs, by their first step."""


def ladder_for(noise: float) -> int | None:
    """The ladder whose first step is as coarse as the noise: a third of the exact bits then buy
    errors below it. None where even the finest is coarser: all of it is cheap there.

    Args:
        noise: in samples.
    """
    steps = [step for step in _TWO if step <= noise]
    return _TWO[max(steps)] if steps else None


def first_rung(ladder: int) -> Settings:
    """The settings of a bounded layer."""
    return {"ladder": ladder, "rung": 1}


def exact_above(settings: Settings) -> Settings:
    """The settings of the exact layer on top of a bounded one of these."""
    return {**settings, "rung": settings["rung"] + 1}


def builds(settings: Settings) -> bool:
    """Whether an encoding of these settings builds on another one."""
    return settings.get("rung", 1) > 1


def largest_error(settings: Settings) -> int:
    """Of a sample, guaranteed."""
    return LADDERS[settings["ladder"]][settings["rung"] - 1] // 2
