"""Checked settings: what a codec knows, with ranges, and what was asked of it.

Settings travel with an encoding, so those given to a decoder may be a peer's invention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.codecs.base import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One whole number that a codec may be told."""

    default: int
    lowest: int
    highest: int


def default_settings(known: Mapping[str, Setting]) -> dict[str, int]:
    """Every setting with its default."""
    return {name: setting.default for name, setting in known.items()}


def resolve_settings(codec: str, known: Mapping[str, Setting], given: Settings) -> dict[str, int]:
    """Every setting of a codec: the given ones, checked, and the defaults of the others.

    Raises:
        CodecError: a setting is unknown, not a whole number, or out of its range.
    """
    resolved = default_settings(known)
    for name, value in given.items():
        if name not in known:
            raise CodecError(f"{codec} has no setting {name!r}, only {sorted(known)}")
        low, high = known[name].lowest, known[name].highest
        if type(value) is not int or not low <= value <= high:
            raise CodecError(f"{codec}: {name} is {value!r}, not a whole number {low}..{high}")
        resolved[name] = value
    return resolved
