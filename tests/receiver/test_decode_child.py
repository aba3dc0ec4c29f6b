from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from receiver.decode_child import ANSWER, LENGTH, _answer
from shared.codecs.base import Block
from shared.codecs.registry import CODECS
from shared.codecs.zstd import ZSTD
from tests.commands import ROOT, command, environment

SAMPLES = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
PAYLOAD = ZSTD.encode(Block(SAMPLES, 16), {})
REQUEST = ((3, 4, 5), "<u2", None, [("zstd", [("level", 3)])], 10.0)


def answered(request: tuple[Any, ...], payload: bytes) -> tuple[int, bytes]:
    sink, source = io.BytesIO(), io.BytesIO(LENGTH.pack(len(payload)) + payload)
    _answer(source, sink, msgpack.unpackb(msgpack.packb(request)))
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
        timeout=120,
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
        (((3, 4, 6), "<u2", None, [("zstd", [])], 10.0), PAYLOAD),
        (((3, 4, 5), "<u2", None, [("none", [])], 10.0), PAYLOAD),
        (((3, 4, 5), "<u2", None, [("zstd", [("level", 99)])], 10.0), PAYLOAD),
        (((1 << 20, 1 << 20, 1 << 20), "<u2", None, [("zstd", [])], 10.0), PAYLOAD),
        (((3, 4, 5), "<u2", None, [("x" * 5000, [])], 10.0), PAYLOAD),
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


CONFINED = """
import os, socket
from receiver import decode_child as child

child._load()
child._confine()

def tries():
    yield lambda: open("/etc/hostname").read()
    yield lambda: open("written", "w")
    yield lambda: socket.socket()
    yield lambda: os.pipe()
    yield lambda: os.dup2(0, 5)
    os.close(0)  # its place is of no use
    yield lambda: open("/etc/hostname").read()
for attempt in tries():
    try:
        attempt()
    except OSError as error:
        print(error.errno)
    else:
        print("it can")
"""
unix = pytest.mark.skipif(sys.platform == "win32", reason="limits are a Unix's")


@unix
def test_once_confined_it_opens_no_file_and_no_socket_even_in_the_place_of_another(
    tmp_path: Path,
) -> None:
    done = run_python(CONFINED, tmp_path)
    assert done.stdout.split() == [
        str(each) for each in (*[errno.EMFILE] * 4, errno.EBADF, errno.EMFILE)
    ], done.stderr
    assert not list(tmp_path.iterdir())


@unix
def test_once_confined_it_makes_no_open_file_longer(tmp_path: Path) -> None:
    done = run_python(
        "from receiver import decode_child as child\n"
        "file = open('file', 'wb', 0)\n"
        "child._confine()\n"
        "try: file.write(b'x')\n"
        "except OSError as error: print(error.errno)\n",
        tmp_path,
    )
    assert done.stdout.split() == [str(errno.EFBIG)], done.stderr
    assert (tmp_path / "file").read_bytes() == b""


@unix
def test_the_system_ends_what_takes_longer_than_its_time(tmp_path: Path) -> None:
    spin = "from receiver import decode_child as child\nchild._limit_time(1)\nwhile True: pass\n"
    assert run_python(spin, tmp_path).returncode == -signal.SIGXCPU


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_it_dies_with_a_parent_that_is_killed_whatever_it_is_doing() -> None:
    """Its stdin stays open: in mid-request it would not look there for long."""
    source, sink = os.pipe()
    start = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-P', '-m', 'receiver.decode_child'], "
        f"stdin={source}, stdout=subprocess.PIPE)\n"
        "child.stdout.read(5)\n"  # it is up: it has loaded what it was asked to
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    request = msgpack.packb("zstd")
    os.write(sink, LENGTH.pack(len(request)) + request)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", start],
        stdout=subprocess.PIPE,
        env=environment(),
        pass_fds=[source],
    ) as parent:
        assert parent.stdout is not None
        stat = Path(f"/proc/{int(parent.stdout.readline())}/stat")
        assert is_alive(stat)
        parent.kill()
    end_s = time.monotonic() + 10
    while is_alive(stat) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not is_alive(stat)
    os.close(source)
    os.close(sink)


def is_alive(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_python(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@unix
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_decodes_all_that_it_can_be_given_once_confined(codec: str) -> None:
    """In a child that has not decoded before, so that nothing is loaded that is not meant to be."""
    z, y, x = np.indices((9, 150, 70))
    wave = (1000 + 3 * z + 2 * y + x).astype(np.uint16)
    asked = b""
    expected = b""
    for block in (wave, wave[:1, :3, :1], wave[:, :64, :64] * 0):
        payload = CODECS[codec].encode(Block(block, 12), {})
        shape = tuple(block.shape)
        asked += framed((shape, "<u2", None, [(codec, [])], 60.0), payload)
        decoded = CODECS[codec].decode(payload, block.shape, block.dtype, {})
        expected += ANSWER.pack(0, decoded.nbytes) + decoded.tobytes()
    done = served(asked)
    assert (done.returncode, done.stdout == expected) == (0, True), done.stderr[-2000:]


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
