"""What every test may use: where real scans lie, and processes that run beside the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.beside"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def scans() -> Path:
    """The folder of real scans: $MEDROI_DATA, or ``shared/data`` beside the checkout.

    They are not part of the product. Tests that need one are left out, by name, where they are
    not; the small real scans inside pydicom and nibabel are always there.
    """
    folder = Path(os.environ.get("MEDROI_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip("the development scans are not on this machine (set MEDROI_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command keeps between its runs is a test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
