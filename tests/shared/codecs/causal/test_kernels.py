"""Machine code of one version of the kernels is not taken for that of another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.codecs.causal import compiled, kernels

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
    for module in (compiled, kernels):
        source = Path(str(module.__file__)).read_text().replace("shared.codecs.causal", "package")
        (package / Path(str(module.__file__)).name).write_text(source)
    (package / "uses.py").write_text(_USES)
    (package / "constants.py").write_text("SIZE = 40\n")
    assert _doubled(tmp_path) == "80"
    (package / "constants.py").write_text("SIZE = 480\n")
    assert _doubled(tmp_path) == "960"
    assert len(list(package.glob("__pycache__/kernels-*"))) == 2


def test_only_code_of_this_version_stays() -> None:
    old = compiled.place().with_name("kernels-of-no-version")
    old.mkdir(parents=True, exist_ok=True)
    compiled.forget_others()
    assert not old.exists()
    assert list(old.parent.glob("kernels-*")) in ([], [compiled.place()])
