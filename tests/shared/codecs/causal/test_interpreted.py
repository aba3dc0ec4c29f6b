"""Compiled code says what the source says: run by the interpreter, it writes and reads the same.

The model's source is its own reference, written to be read; without the compiler every number in it
is Python's or numpy's, so this also shows that nothing leans on how a machine adds.
"""

from __future__ import annotations

import subprocess
import sys

from tests.commands import ROOT, environment

_CODE = """
import hashlib, os
from dataclasses import replace
import numpy as np
from shared.codecs.base import Block
from shared.codecs.causal3d import CAUSAL_3D, LADDERS
from shared.codecs.given import Given

if "NUMBA_DISABLE_JIT" in os.environ:  # numpy keeps 32 bits where compiled code goes on in 64
    from shared.codecs.causal import bricks
    narrow = bricks.load_table()
    bricks.load_table = lambda: narrow.astype(np.int64)
z, y, x = np.indices((3, 11, 13))
samples = ((z * 9 + y * 5 + x * 3) % 600 + (z * 7 + y * 13 + x * 29) % 11).astype(np.uint16)
samples[:, :3] = 0
owned = (z + y * 3 + x) % 7 > 0
for level in (1, 2, 3):
    alone = CAUSAL_3D.encode(Block(samples, 16), {"level": level})
    assert (CAUSAL_3D.decode(alone, samples.shape, samples.dtype, {}) == samples).all()
    print(level, hashlib.sha256(alone).hexdigest())
    given = Given(owned)
    for rung in range(1, len(LADDERS[1]) + 1):
        settings = {"level": level, "ladder": 1, "rung": rung}
        payload = CAUSAL_3D.encode_given(Block(samples, 16), settings, given)
        coarse = CAUSAL_3D.decode_given(payload, samples.shape, samples.dtype, {}, given)
        given = replace(given, coarse=coarse)
        print(level, rung, hashlib.sha256(payload + coarse.tobytes()).hexdigest())
"""


def said(**more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", _CODE],
        env={**environment(), **more},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_interpreted_and_compiled_write_and_read_the_same() -> None:
    compiled = said()
    assert len(compiled.splitlines()) == 12
    assert said(NUMBA_DISABLE_JIT="1") == compiled
