"""The stored tables are those of this version, and what they were made to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.codecs.causal import tables
from shared.codecs.causal.layout import LENGTHS
from shared.codecs.causal.make_tables import make_tables
from shared.errors import CodecError

if TYPE_CHECKING:
    from pathlib import Path


def test_stored_tables_are_the_made_ones() -> None:
    made = make_tables()
    assert {name: len(table) for name, table in made.items()} == LENGTHS
    # Another C library may round a logarithm otherwise: by one, no more.
    stored = tables.load_table().astype(np.int64)
    assert np.abs(stored - np.concatenate(list(made.values()))).max() <= 1


def test_damaged_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "tables.bin"
    damaged.write_bytes(tables.FILE.read_bytes()[:-1] + b"\x01")
    monkeypatch.setattr(tables, "FILE", damaged)
    tables.load_table.cache_clear()
    with pytest.raises(CodecError, match="tables are damaged"):
        tables.load_table()
    monkeypatch.undo()
    tables.load_table.cache_clear()
