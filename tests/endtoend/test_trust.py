"""A real use beyond loopback, by both commands as real processes, and what is refused there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import pytest

from tests.commands import command, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCAN = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
STUDY = (SCAN, "--volume", "1", "--roi", "box:9:15,34:56,70:96")
ELSEWHERE = "10.9.8.7"
"""An address of the namespace's own, not of loopback."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Where two keys lie, made by the command."""
    for name in ("site.key", "other.key"):
        done = run(command("receiver.cli", "--make-key", tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
    return tmp_path


@pytest.fixture
def namespace() -> Iterator[tuple[str, ...]]:
    """What runs a command in a network of its own, which has an address beyond loopback."""
    name = f"medroi-trust-{os.getpid()}"
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("takes root and iproute2 to make a network namespace")
    made = run(["ip", "netns", "add", name])
    if made.returncode:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    inside = ("ip", "netns", "exec", name)
    try:
        for setting in (
            ["link", "set", "lo", "up"],
            ["addr", "add", f"{ELSEWHERE}/32", "dev", "lo"],
        ):
            subprocess.run([*inside, "ip", *setting], check=True, timeout=10)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, timeout=10)


def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, env=environment(), timeout=60, check=False
    )


@contextlib.contextmanager
def receiving(
    folder: Path, *flags: object, listen: str = "127.0.0.1:0", inside: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``medroi-recv`` and the address that it printed."""
    where = ("--listen", listen, "--out", folder / "out", "--identity", folder / "identity")
    process = subprocess.Popen(
        [*inside, *command("receiver.cli", *where, *flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (wss://\S+:\d+/#[0-9a-f]{64})\n", line)
        assert found, (line, process.stderr and process.stderr.read())
        yield found[1], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def sending(url: str, *flags: object, inside: Sequence[str] = ()) -> tuple[int, str]:
    """How ``medroi-send`` ended, and its last line."""
    done = run([*inside, *command("sender.cli", *STUDY, "--to", url, "-q", *flags)])
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().rpartition("\n")[2]


def stored(folder: Path) -> list[Path]:
    return list((folder / "out").glob("*/series-1.nii"))


def test_a_study_crosses_beyond_loopback(keys: Path, namespace: tuple[str, ...]) -> None:
    key = ("--key", keys / "site.key")
    with receiving(keys, *key, "--once", listen="0.0.0.0:0", inside=namespace) as (url, process):
        here = re.sub(r"//[^:]+:", f"//{ELSEWHERE}:", url)
        plain = here.replace("wss", "ws").partition("/#")[0]
        code, said = sending(plain, *key, inside=namespace)
        assert (code, "plaintext does not go further" in said) == (2, True)
        code, said = sending(here, inside=namespace)
        assert (code, "TLS goes with a shared key" in said) == (2, True)
        assert sending(here, *key, inside=namespace) == (0, "")
        assert process.wait(20) == 0
    assert len(stored(keys)) == 1


def test_beyond_loopback_nobody_listens_without_a_key(tmp_path: Path) -> None:
    done = run(command("receiver.cli", "--listen", "0.0.0.0:0", "--out", tmp_path))
    assert done.returncode == 2
    assert "plaintext does not go further, TLS with a shared key does" in done.stderr


def test_on_loopback_it_is_the_same_and_an_identity_stays(keys: Path) -> None:
    key = ("--key", keys / "site.key")
    with receiving(keys, *key, "--once") as (url, process):
        assert sending(url, *key, "--link", "rate=20M,rtt=20ms") == (0, "")
        assert process.wait(20) == 0
    assert len(stored(keys)) == 1
    with receiving(keys, *key) as (again, _):
        assert again.partition("#")[2] == url.partition("#")[2]
        bare, _, pin = again.partition("#")
        assert sending(bare, *key, "--pin", pin) == (0, "")


def test_who_is_refused_hears_why_and_the_receiver_waits_on(keys: Path) -> None:
    key, other = keys / "site.key", keys / "other.key"
    readable = keys / "readable.key"
    readable.write_text(key.read_text())
    readable.chmod(0o644)
    with receiving(keys, "--key", key, "--once") as (url, process):
        bare = url.partition("#")[0]
        for address, flags, code, sentence in (
            (url, ("--key", other), 4, "hung up without an answer, as who does not know our key"),
            (f"{bare}#{'0' * 64}", ("--key", key), 4, "its certificate is not the one"),
            (bare, ("--key", key), 2, "its certificate's hash is missing; take the whole address"),
            (url, ("--key", readable), 2, "others may use it; chmod 600 makes it private"),
            (url, ("--key", key, "--key", other), 2, "to dial takes one --key"),
            (url, ("--key", key, "--pin", "0" * 64), 2, "its hash and --pin are not the same"),
            (bare.replace("wss", "ws"), ("--give-up", "0"), 5, "did not answer as a WebSocket"),
        ):
            ended, said = sending(address, *flags)
            assert ended == code, said
            assert sentence in said
        assert not (keys / "out").exists() or not list((keys / "out").iterdir())
        assert sending(url, "--key", key) == (0, "")
        assert process.wait(20) == 0
    readable.unlink()
    assert len(stored(keys)) == 1


def test_a_receiver_whose_key_others_may_read_does_not_start(keys: Path) -> None:
    (keys / "site.key").chmod(0o640)
    done = run(
        command(
            "receiver.cli", "--listen", "127.0.0.1:0", "--out", keys, "--key", keys / "site.key"
        )
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "site.key: others may use it; chmod 600 makes it private" in done.stderr
