"""``python -m tests.bench NAME [option ...], NAME ...``: benchmarks, one after the other.

Each is run whatever became of those before it; the status is 1 where any missed a figure. Options
behind a name are that benchmark's.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.commands import command, environment

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run them; the worst status."""
    worst = 0
    for words in split(arguments):
        module = f"tests.bench.{words[0]}"
        status = subprocess.run(command(module, *words[1:]), env=environment(), check=False)
        worst = max(worst, abs(status.returncode))
    return worst


def split(arguments: Sequence[str]) -> list[list[str]]:
    """The words of each benchmark: a comma ends one."""
    groups: list[list[str]] = [[]]
    for word in arguments:
        groups[-1].append(word.removesuffix(","))
        if word.endswith(","):
            groups.append([])
    return [group for group in groups if group and group[0]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
