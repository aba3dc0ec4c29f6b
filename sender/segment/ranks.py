"""Which label of a mask comes first: a small TOML file.

others = "last"                # or "ignore"; what no table names

[[roi]]                        # rank 0
label = "enhancing tumour"
values = [4]

[[roi]]                        # rank 1
label = "oedema"
names = ["edema", "oedema"]    # as the file calls its segments or ROIs
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sender.segment.supplied import Wanted

_MAX_BYTES = 64 << 10
_MAX_TABLES = 32
_KNOWN = {"label", "values", "names"}


@dataclass(frozen=True, slots=True)
class Rank:
    """One table: labels that share a rank."""

    label: str
    values: frozenset[int]
    names: frozenset[str]

    def wanted(self, called: Mapping[int, str]) -> Wanted:
        """The label values of the rank in a file that calls its labels so."""
        named = (value for value, name in called.items() if name in self.names)
        return self.values | frozenset(named)


@dataclass(frozen=True, slots=True)
class Ranks:
    """The order of the labels of a mask."""

    ranks: tuple[Rank, ...] = ()
    others: str | None = "lesion"
    """What labels that no rank names are called; None where they are no ROI."""


def read_ranks(path: Path) -> Ranks:
    """The ranks that a file states.

    Raises:
        SettingsError: it cannot be read, or says something that we do not know.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SettingsError(f"--roi-ranks {path}: more than {_MAX_BYTES} bytes")
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"--roi-ranks {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"--roi-ranks {path}: not TOML: {error}") from None
    others = content.pop("others", "last")
    tables = content.pop("roi", [])
    if content or others not in ("last", "ignore") or not isinstance(tables, list):
        raise SettingsError(
            f'--roi-ranks {path}: [[roi]] tables and others = "last" or "ignore" expected'
        )
    if not 0 < len(tables) <= _MAX_TABLES:
        raise SettingsError(f"--roi-ranks {path}: 1 to {_MAX_TABLES} [[roi]] tables expected")
    ranks = tuple(_rank(path, number, table) for number, table in enumerate(tables))
    return Ranks(ranks, "other" if others == "last" else None)


def _rank(path: Path, number: int, table: object) -> Rank:
    if isinstance(table, dict) and set(table) <= _KNOWN:
        label = table.get("label", f"rank {number}")
        values, names = table.get("values", []), table.get("names", [])
        whole = isinstance(values, list) and all(type(value) is int for value in values)
        words = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if isinstance(label, str) and whole and words and (values or names):
            return Rank(label, frozenset(values), frozenset(names))
    raise SettingsError(
        f"--roi-ranks {path}: [[roi]] number {number + 1} needs values = [whole numbers] or "
        'names = ["..."], and may have a label'
    )
