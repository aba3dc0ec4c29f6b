"""Files and messages that have hung or burst somebody: refused here, at once and in little room."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.commands import command, environment
from tests.fuzz.hostile import HOSTILE

MOST_CPU_S = 2.0
MOST_RSS_BYTES = 256 << 20


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_at_once_and_in_little_room(name: str) -> None:
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 6000000; exec "$@"', "-", *command("tests.fuzz.hostile", name)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["said"].split(":")[0] in ("InputError", "CodecError", "RemoteProtocolError"), told
    assert told["cpu_s"] < MOST_CPU_S, told
    assert told["rss_bytes"] < MOST_RSS_BYTES, told
