"""The page of hazards names tests, and those tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "safety.md").read_text())


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_control_has_its_test(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_hazard_has_one() -> None:
    rows = [line for line in (ROOT / "docs" / "safety.md").read_text().splitlines() if "| " in line]
    assert len(rows) > 20
    assert all("`tests/" in row for row in rows[2:])


@pytest.mark.parametrize(
    "path", re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "SECURITY.md").read_text())
)
def test_a_test_that_security_names_is_there(path: str) -> None:
    assert (ROOT / path).is_file()
