"""One receiver for a long time: a study a second, and what it holds of the machine after each.

``python -m tests.endtoend.soak SECONDS`` prints resident bytes and open files as JSON. It waits
most of the time, at a low priority: `tests.beside` lets it run beside the other tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.endtoend.load import Sender, serving

LEAST_STUDIES = 12
_EVERY_S = 1.0
_MEGABYTES = 2
_NICENESS = 5


def soak(seconds: float, folder: Path) -> list[tuple[int, int]]:
    """Receive studies for so long; (resident bytes, open files) of the receiver after each."""
    seen: list[tuple[int, int]] = []
    with serving(folder) as process:
        assert process.stdout is not None
        found = re.search(r"wss?://\S+", process.stdout.readline())
        assert found, "medroi-recv did not start"
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s or len(seen) < LEAST_STUDIES:
            next_s = time.monotonic() + _EVERY_S
            asyncio.run(Sender(len(seen), _MEGABYTES).run(found[0]))
            seen.append(_size_of(process.pid))
            for study in folder.glob("clinic/*/series-1.nii"):
                study.unlink()
            time.sleep(max(0.0, next_s - time.monotonic()))
    return seen


def _size_of(pid: int) -> tuple[int, int]:
    """Resident bytes and open files."""
    folder = Path(f"/proc/{pid}")
    resident = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())
    assert resident
    return int(resident[1]) << 10, len(list((folder / "fd").iterdir()))


def main() -> int:
    """Soak, and print what was seen."""
    os.nice(_NICENESS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the receiver ends too
    with TemporaryDirectory() as folder:
        print(json.dumps(soak(float(sys.argv[1]), Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
