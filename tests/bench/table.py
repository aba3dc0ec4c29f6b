"""A benchmark's rows: printed as a table, and written to out/bench/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    asked: str
    """The figure to meet, as words; empty for a figure that is only told."""
    got: str
    good: bool | None = None
    """Whether it is met; None where none is asked."""


def publish(name: str, title: str, rows: list[Row]) -> bool:
    """Print the rows, write them down, and say whether every asked figure is met."""
    machine = f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    print(f"\n{title} ({machine})")
    wide = max(len(row.what) for row in rows)
    asked = max(len(row.asked) for row in rows)
    for row in rows:
        mark = {True: "met", False: "MISSED", None: ""}[row.good]
        print(f"  {row.what:<{wide}}  {row.asked:<{asked}}  {row.got:<44}  {mark}")
    folder = ROOT / "out" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "machine": machine, "rows": [asdict(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return all(row.good is not False for row in rows)


def scans() -> Path | None:
    """The folder of real scans, or None where this machine has none."""
    folder = Path(os.environ.get("MEDROI_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "README.md").is_file() else None
