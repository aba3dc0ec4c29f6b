"""``medroi-recv ls``: which studies are in a folder, how good they are, and what they take."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.shelf import Shelved


def ls(words: Sequence[str]) -> ExitCode:
    """Run it.

    Raises:
        SettingsError: no folder is named, or there is none of that name.
    """
    from receiver.shelf import Shelf

    parser = argparse.ArgumentParser(
        prog="medroi-recv ls", description="The studies in a folder, the newest first."
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="where they are")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the same, as medroi-recv has it")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(words)
    out: Path | None = options.out or options.folder
    if out is None or (options.out and options.folder):
        raise SettingsError("which folder? medroi-recv ls DIR")
    if not out.is_dir():
        raise SettingsError(f"{out}: there is no such folder")
    studies = Shelf(out).studies()
    if options.json:
        print(json.dumps([asdict(study) for study in studies], indent=1))
        return ExitCode.OK
    for study in studies:
        print(_line(study))
    if not studies:
        print(f"no studies in {out}")
    return ExitCode.OK


def _line(study: Shelved) -> str:
    quality = ", ".join(f"{_percent(share)} {name}" for name, share in study.voxels.items())
    state = study.state + (" (resumable)" if study.resumable else "")
    return (
        f"{study.name}  {state:22} {_age(study.age_s):>5}  {study.bytes / 1e6:10.1f} MB  "
        f"{study.series} series  {quality}"
    )


def _percent(share: float) -> str:
    """Rounded towards what is worse: 100 % is said of all only, and 0 % of none."""
    return f"{min(max(100 * share, 0.1), 99.9 if share < 1 else 100.0):.1f} %"


def _age(seconds: float) -> str:
    for unit, size_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size_s:
            return f"{int(seconds // size_s)}{unit}"
    return f"{int(seconds)}s"
