from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import msgpack
import numpy as np
import pytest

from receiver.decode_child import ANSWER, LENGTH, _answer
from shared.codecs.base import Block
from shared.codecs.zstd import ZSTD
from tests.commands import ROOT, command, environment

SAMPLES = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
PAYLOAD = ZSTD.encode(Block(SAMPLES, 16), {})
REQUEST: tuple[Any, ...] = ("zstd", (3, 4, 5), "<u2", [("level", 3)], [])


def answered(request: tuple[Any, ...], payload: bytes) -> tuple[int, bytes]:
    sink = io.BytesIO()
    _answer(sink, msgpack.packb(request), payload)
    status, size = ANSWER.unpack(sink.getvalue()[: ANSWER.size])
    content = sink.getvalue()[ANSWER.size :]
    assert len(content) == size
    return status, content


def served(requests: bytes) -> subprocess.CompletedProcess[bytes]:
    """A child of its own, fed all at once."""
    return subprocess.run(
        command("receiver.decode_child"),
        input=requests,
        capture_output=True,
        env=environment(),
        timeout=30,
        check=False,
    )


def framed(request: tuple[Any, ...], payload: bytes) -> bytes:
    packed: bytes = msgpack.packb(request)
    return LENGTH.pack(len(packed)) + packed + LENGTH.pack(len(payload)) + payload


def test_samples_are_answered_in_c_order() -> None:
    assert answered(REQUEST, PAYLOAD) == (0, SAMPLES.tobytes())


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (REQUEST, b"garbage"),
        (("zstd", (3, 4, 6), "<u2", [], []), PAYLOAD),
        (("none", (3, 4, 5), "<u2", [], []), PAYLOAD),
        (("zstd", (3, 4, 5), "<u2", [("level", 99)], []), PAYLOAD),
        (("zstd", (1 << 20, 1 << 20, 1 << 20), "<u2", [], []), PAYLOAD),
        (("x" * 5000, (3, 4, 5), "<u2", [], []), PAYLOAD),
    ],
    ids=["payload", "shape", "codec", "setting", "memory", "long"],
)
def test_what_does_not_decode_is_answered_in_a_sentence_of_bounded_length(
    request_: tuple[Any, ...], payload: bytes
) -> None:
    status, sentence = answered(request_, payload)
    assert status == 1
    assert 0 < len(sentence) <= 1024


def test_it_serves_until_its_input_ends_and_says_nothing_else() -> None:
    done = served(framed(REQUEST, PAYLOAD) * 2)
    assert done.returncode == 0
    assert done.stdout == (ANSWER.pack(0, SAMPLES.nbytes) + SAMPLES.tobytes()) * 2
    assert done.stderr == b""


def test_it_ends_with_its_parent_wherever_the_request_is_cut_off() -> None:
    assert served(b"").returncode == 0
    assert served(b"\x00").returncode == 0
    assert served(LENGTH.pack(3) + b"x").returncode != 0


def test_it_can_be_started_from_anywhere(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "receiver.decode_child"],
        input=b"",
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == b""
