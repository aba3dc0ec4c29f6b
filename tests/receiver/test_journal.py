from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver import journal
from receiver.journal import JournalEntry, append_entry, read_entries, write_entries
from shared.geometry import Box
from shared.ownership import Cut

if TYPE_CHECKING:
    from pathlib import Path

CUT = Cut(Box((5, 2, 2), (6, 4, 6)), b"\x5a")
ENTRIES = [
    JournalEntry(Box((0, 0, 0), (1, 2, 3)), (), bytes(32)),
    JournalEntry(Box((1, 2, 3), (4, 5, 6)), (Box((1, 2, 3), (2, 3, 4)),), bytes(range(32))),
    JournalEntry(Box((5, 0, 0), (6, 9, 9)), (CUT, Box((5, 0, 0), (6, 1, 1))), b"\xff" * 32),
]
quickly = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def written(path: Path) -> bytes:
    for entry in ENTRIES:
        append_entry(path, entry)
    return path.read_bytes()


def test_what_is_written_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "j"
    assert written(path).count(b"\n") == 3
    assert read_entries(path) == ENTRIES
    again = tmp_path / "again"
    write_entries(again, ENTRIES)
    assert again.read_bytes() == path.read_bytes()


def test_no_journal_is_no_layers(tmp_path: Path) -> None:
    assert read_entries(tmp_path / "none") == []
    assert read_entries(tmp_path) == []


def test_a_journal_torn_at_any_byte_gives_the_whole_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = written(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        # A line without its end is whole all the same if nothing but the end is missing.
        lines = whole[:size].count(b"\n") + (whole[size : size + 1] == b"\n")
        assert read_entries(path) == ENTRIES[:lines]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        "null",
        "7",
        '"box"',
        "\0" * 100,
        "[" * 100_000,
        '{"box": [[0, 0, 0], [1, 1, 1]], "holes": [], "digest": "zz"}',
        '{"box": [[0, 0, 0], [1, 1, 1]], "holes": [], "digest": 7}',
        '{"box": [[0, 0, 0], [0, 1, 1]], "holes": [], "digest": ""}',
        '{"box": [[0, 0, -1], [1, 1, 1]], "holes": [], "digest": ""}',
        '{"box": [[0, 0], [1, 1]], "holes": [], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, Infinity]], "holes": [], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, NaN]], "holes": [], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, ' + "9" * 5000 + ']], "holes": [], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, 1]], "holes": [7], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, 1]], "holes": [[[0, 0, 0], [1, 1, 1], ""]], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, 1]], "holes": [[[0, 0, 0], [1, 1, 1], "%"]], "digest": ""}',
        '{"box": [[0, 0, 0], [1, 1, 1]], "holes": [[[0, 0, 0], [1, 1, 1], "AAAA"]], "digest": ""}',
        '{"box": {"a": 1, "b": 2}, "holes": [], "digest": ""}',
    ],
)
def test_a_foreign_line_ends_the_list(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j"
    append_entry(path, ENTRIES[0])
    with path.open("a") as file:
        file.write(line + "\n")
    append_entry(path, ENTRIES[1])
    assert read_entries(path) == ENTRIES[:1]


@quickly
@given(st.binary(max_size=300))
def test_any_bytes_are_a_journal_of_something_or_of_nothing(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(noise)
    assert all(isinstance(entry, JournalEntry) for entry in read_entries(path))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
)


@quickly
@given(
    st.fixed_dictionaries(
        {
            "box": st.lists(st.lists(_JSON, min_size=3, max_size=3), min_size=2, max_size=2),
            "holes": _JSON,
            "digest": _JSON,
        }
    )
)
def test_any_json_is_a_layer_or_none(tmp_path: Path, fields: dict[str, object]) -> None:
    path = tmp_path / "j"
    path.write_text(json.dumps(fields) + "\n")
    assert len(read_entries(path)) <= 1


def test_neither_a_huge_journal_nor_a_long_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    written(path)
    monkeypatch.setattr(journal, "_MAX_HELD", 2)
    assert read_entries(path) == ENTRIES[:2]
    monkeypatch.setattr(journal, "_MAX_BYTES", path.stat().st_size - 1)
    assert read_entries(path) == []


def test_a_new_journal_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("{torn")
    write_entries(path, ENTRIES[1:])
    append_entry(path, ENTRIES[0])
    assert read_entries(path) == [*ENTRIES[1:], ENTRIES[0]]
    assert [each.name for each in tmp_path.iterdir()] == ["j"]
