from __future__ import annotations

import tomllib

from shared.software import SOFTWARE
from tests.commands import ROOT


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"{project['name']} {project['version']}" == SOFTWARE
