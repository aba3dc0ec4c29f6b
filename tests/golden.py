"""Golden bytes: files that hold what was once written, so that a change of format is seen.

``GENERATE=1 pytest`` rewrites them.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "golden"


def golden(name: str, fresh: bytes) -> bytes:
    """The golden bytes of a name; the fresh ones where they are being generated."""
    path = FOLDER / name
    if os.environ.get("GENERATE") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fresh)
    return path.read_bytes()
