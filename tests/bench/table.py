"""A benchmark's rows: printed as a table, and written to out/bench/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def publish(
    name: str, title: str, rows: list[Row], more: Mapping[str, object] | None = None
) -> bool:
    """Print the rows, write them down with what more there is, and say whether all are met."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    machine = f"{cores} cores, load {load:.1f}, Python {platform.python_version()}"
    print(f"\n{title} ({machine})")
    wide = max(len(row.what) for row in rows)
    asked = max(len(row.asked) for row in rows)
    for row in rows:
        mark = {True: "met", False: "MISSED", None: ""}[row.good]
        print(f"  {row.what:<{wide}}  {row.asked:<{asked}}  {row.got:<44}  {mark}")
    content = {"title": title, "machine": machine, "rows": [asdict(row) for row in rows]}
    text = json.dumps({**content, **(more or {})}, indent=2, allow_nan=False)
    (bench_folder() / f"{name}.json").write_text(text + "\n")
    return all(row.good is not False for row in rows)


def bench_folder() -> Path:
    """Where benchmarks leave what they found."""
    folder = ROOT / "out" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scans() -> Path | None:
    """The folder of real scans, or None where this machine has none."""
    folder = Path(os.environ.get("MEDROI_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "README.md").is_file() else None
