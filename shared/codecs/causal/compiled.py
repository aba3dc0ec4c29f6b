"""Where the machine code of the coder's kernels is kept, told without loading their compiler."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_PREFIX = "kernels-"
_WHOLE = "whole"


@cache
def place() -> Path:
    """Of this version of all sources here. Where it cannot be written to, the compiler takes the
    user's own cache."""
    sources = sorted(_HERE.glob("*.py"))
    version = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    return _HERE / "__pycache__" / f"{_PREFIX}{version}"


def is_compiled() -> bool:
    """Whether nothing is left to compile, so that loading takes a second and not a minute."""
    return (place() / _WHOLE).exists()


def note_compiled() -> None:
    """Everything has been compiled."""
    if place().is_dir():
        (place() / _WHOLE).touch()


def forget_others() -> None:
    """Remove the machine code of other versions."""
    import shutil

    for other in _HERE.glob(f"__pycache__/{_PREFIX}*"):
        if other != place():
            shutil.rmtree(other, ignore_errors=True)
