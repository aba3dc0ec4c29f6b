"""``python -m tests.fuzz.child TARGET SECONDS SEED FAILED``: mutants of a corpus, for so long.

Under a limit on memory, and watched: an input that takes 20 s of the clock ends the process with a
traceback. What it was is in the file FAILED, behind its length in four bytes, as is one that made a
target raise what it must not. Prints one line of JSON: how many inputs, the slowest in CPU seconds,
and the largest resident size.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import time
from collections import Counter
from mmap import mmap
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import samples
from tests.fuzz.targets import forget_files, run_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MEMORY_BYTES = 4 << 30
"""Of address space: libraries map much more than they use, which is what is measured."""
_HANG_S = 20.0
_BATCH = 100
_BROOD = 24
_LONGEST = 8192
_EDITS = 6
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFE, 0x20)


Edit = tuple[int, int, int, int]
"""What is done, where, with how many bytes, and with which value."""


def mutate(sample: bytes, other: bytes, edits: Iterable[Edit]) -> bytes:
    """A sample with a few bytes flipped, set, cut out, doubled, or put in from another sample."""
    content = bytearray(sample)
    for what, place, size, value in edits:
        at = place % (len(content) + 1)
        match what:
            case 0 | 1 if at < len(content):
                content[at] ^= 1 << value % 8
            case 2 if at < len(content):
                content[at] = value
            case 3:
                extreme = _EXTREMES[value % len(_EXTREMES)]
                content[at : at + size % 9] = bytes([extreme]) * (size % 9)
            case 4:
                del content[at : at + size]
            case 5:
                content[at:at] = content[at : at + size]
            case 6:
                content[at:at] = other[at : at + size]
            case _:
                del content[at:]
    return bytes(content[:_LONGEST])


def brood(corpus: list[bytes], first: bytes, chance: Random) -> Iterator[bytes]:
    """A mutant, and more of them made around it: cheaper than one drawn by hypothesis each."""
    yield first
    for _ in range(_BROOD):
        parent = chance.choice((first, chance.choice(corpus)))
        edits = [
            (chance.randrange(8), chance.randrange(1 << 16), chance.randrange(1, 64), value)
            for value in chance.randbytes(chance.randrange(1, _EDITS))
        ]
        yield mutate(parent, chance.choice(corpus), edits)


def mutants(corpus: list[bytes]) -> st.SearchStrategy[bytes]:
    """Mutants of samples as hypothesis makes them, and bytes that are near to nothing."""
    edit = st.tuples(
        st.integers(0, 7),
        st.integers(0, max(map(len, corpus))),
        st.integers(1, 64),
        st.integers(0, 255),
    )
    edits = st.lists(edit, min_size=1, max_size=_EDITS)
    near = st.builds(mutate, st.sampled_from(corpus), st.sampled_from(corpus), edits)
    return near | st.binary(max_size=200)


def largest_bytes() -> int:
    """The largest resident size of this process; ``ru_maxrss`` would be its parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def main() -> int:
    """Run."""
    name, seconds, first, failed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    corpus = samples(name)
    for content in corpus:
        run_target(name, content)  # imports and compiles: not what is measured
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    Path(failed).write_bytes(bytes(_LONGEST + 4))
    with Path(failed).open("r+b") as file:
        held = mmap(file.fileno(), 0)
    outcomes: Counter[str] = Counter()
    slowest_s, end_s = 0.0, time.monotonic() + seconds

    def look(first: bytes, chance: int) -> None:
        nonlocal slowest_s
        for content in brood(corpus, first, Random(chance)):
            held[: len(content) + 4] = len(content).to_bytes(4, "big") + content
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            began_s = time.process_time()
            outcomes[run_target(name, content)] += 1
            slowest_s = max(slowest_s, time.process_time() - began_s)
            faulthandler.cancel_dump_traceback_later()
            if time.monotonic() > end_s:
                return

    batch = 0
    while time.monotonic() < end_s:
        run = given(mutants(corpus), st.integers(0, 1 << 62))(look)
        run = settings(
            max_examples=_BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(run)
        seed(first + batch)(run)()
        batch += 1
    held.close()
    Path(failed).unlink(missing_ok=True)
    forget_files()
    told = {
        "target": name,
        "inputs": sum(outcomes.values()),
        "outcomes": dict(outcomes),
        "slowest_cpu_s": round(slowest_s, 4),
        "rss_bytes": largest_bytes(),
    }
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
