from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from receiver import previews
from receiver.previews import append_preview, begin_previews, read_previews
from shared.geometry import Box

ONE = (Box((0, 0, 0), (2, 3, 4)), 5.5)
TWO = (Box((2, 0, 0), (4, 3, 4)), inf)


@pytest.fixture(autouse=True)
def boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "boot_name", lambda: "this boot")


def test_what_is_written_down_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x"
    append_preview(path, ONE)
    append_preview(path, TWO)
    assert read_previews(path) == [ONE, TWO]
    begin_previews(path, [TWO])
    assert read_previews(path) == [TWO]


@pytest.mark.parametrize("boot", ["another", ""])
def test_previews_of_another_boot_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    path = tmp_path / "x"
    begin_previews(path, [ONE])
    monkeypatch.setattr(previews, "boot_name", lambda: boot)
    assert read_previews(path) is None


def test_a_machine_that_has_no_name_for_its_boots_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert isinstance(previews.boot_name(), str)
    monkeypatch.setattr(previews, "_BOOT", Path("/nowhere"))
    assert previews.boot_name() == ""


TORN = ['{"box": [[0, 0', "[]", '{"box": 1, "max_error": 1}', "{}", "\xff"]


@pytest.mark.parametrize("line", TORN)
def test_a_torn_or_foreign_line_ends_the_list(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x"
    begin_previews(path, [ONE])
    path.write_text(path.read_text() + line + "\n" + path.read_text().splitlines()[1] + "\n")
    assert read_previews(path) == [ONE]


@pytest.mark.parametrize("content", ["", "x\n", "[]\n", "{}\n"])
def test_a_foreign_file_says_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x"
    assert read_previews(path) is None
    path.write_text(content)
    assert read_previews(path) is None
