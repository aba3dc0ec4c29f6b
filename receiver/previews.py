"""What is shown of a series as a preview, written down so that it is shown after a restart as well.

A JSON line that names the boot of this machine, then one for each preview: its box and its largest
error. A preview has no digest that its voxels could be held against later, for exact ones are
painted over them. What a killed process has painted is in the kernel's hands and cannot be lost; a
power cut loses pages in any order, and may leave a voxel marked that holds nothing. So previews of
another boot are MISSING, and come again.
"""

from __future__ import annotations

import json
from math import inf, isfinite
from pathlib import Path

from shared.geometry import Box

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MAX_BYTES = 16 << 20

Preview = tuple[Box, float]
"""Where it is, and its largest error; infinite where a voxel is not a finite number."""


def boot_name() -> str:
    """What this boot of the machine is called; empty where that is not known."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def begin_previews(path: Path, previews: list[Preview]) -> None:
    """Have the file say these previews and nothing else, under this boot."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"boot": boot_name()}) + "\n" + "".join(map(_line, previews)))
    part.replace(path)


def append_preview(path: Path, preview: Preview) -> None:
    """Write a preview down, before it is painted."""
    if not path.exists():
        begin_previews(path, [])
    with path.open("a") as file:
        file.write(_line(preview))


def read_previews(path: Path) -> list[Preview] | None:
    """The previews of this boot, up to a torn line; None where there are none to be believed."""
    boot = boot_name()
    if not boot or not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return None
    first, *lines = path.read_text(errors="replace").splitlines() or [""]
    try:
        if json.loads(first)["boot"] != boot:
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    previews: list[Preview] = []
    for line in lines:
        try:
            fields = json.loads(line)
            (z0, y0, x0), (z1, y1, x1) = fields["box"]
            box = Box((int(z0), int(y0), int(x0)), (int(z1), int(y1), int(x1)))
            error = fields["max_error"]
            previews.append((box, inf if error is None else float(error)))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            break
    return previews


def _line(preview: Preview) -> str:
    box, error = preview
    fields = {"box": [box.start, box.stop], "max_error": error if isfinite(error) else None}
    return json.dumps(fields) + "\n"
