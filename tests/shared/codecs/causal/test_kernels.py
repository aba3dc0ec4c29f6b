"""Machine code of one version of the kernels is not taken for that of another."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import shared.codecs.causal.kernels as tested

_USES = """
from package.constants import SIZE
from package.kernels import inlined, kernel

@inlined
def size(): return SIZE

@kernel
def doubled(): return 2 * size()
"""


def _doubled(folder: Path) -> str:
    code = "from package.uses import doubled; print(doubled())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_constant_that_changes_in_another_file_changes_every_kernel(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(Path(tested.__file__), package / "kernels.py")
    (package / "uses.py").write_text(_USES)
    (package / "constants.py").write_text("SIZE = 40\n")
    assert _doubled(tmp_path) == "80"
    (package / "constants.py").write_text("SIZE = 480\n")
    assert _doubled(tmp_path) == "960"
    assert len(list(package.glob("__pycache__/kernels-*"))) == 2


def test_code_is_kept_beside_the_source_and_only_that_of_this_version_stays() -> None:
    old = tested._HERE / "__pycache__" / "kernels-of-no-version"
    old.mkdir(parents=True, exist_ok=True)
    tested.forget_others()
    assert not old.exists()
    assert list(tested._HERE.glob("__pycache__/kernels-*")) in ([], [tested._place()])
