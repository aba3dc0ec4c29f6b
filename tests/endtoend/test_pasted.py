"""Two lines carried by hand: real processes over a TUN link, neither of which listens."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np
import pytest

from tests.commands import command, environment
from tests.emulator.namespaces import Place, TunLink, missing_for_tun
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

over_a_link = pytest.mark.skipif(
    bool(missing_for_tun()), reason=f"no data channel on loopback alone: {missing_for_tun()}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a study, a key and another one."""
    study = np.random.default_rng(0).integers(0, 4096, (8, 96, 96), "<i2")
    (tmp_path / "noise.nii").write_bytes(nifti(study))
    for name in ("key", "other"):
        subprocess.run(
            command("sender.cli", "--make-key", tmp_path / name), check=True, env=environment()
        )
    return tmp_path


def send_command(folder: Path, key: str = "key") -> list[str]:
    return command(
        *("sender.cli", folder / "noise.nii", "--signal", "paste", "--key", folder / key),
        *("--spool", folder / "spool", "--report", folder / "send.json"),
    )


def receive_command(folder: Path, key: str = "key") -> list[str]:
    return command(
        *("receiver.cli", "--signal", "paste", "--key", folder / key, "--once"),
        *("--out", folder / "out"),
    )


@contextmanager
def running(place: Place, arguments: list[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """A command with a person at it; what it says goes to ``log``."""
    with (
        log.open("w") as said,
        place.popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def printed(process: subprocess.Popen[str]) -> str:
    """The next line to be copied."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith("medroi:"):
            return line
    raise AssertionError("it printed no line")


def paste(process: subprocess.Popen[str], line: str) -> None:
    stdin: IO[str] | None = process.stdin
    assert stdin is not None
    stdin.write(line)
    stdin.flush()


def until_said(log: Path, sentence: str) -> None:
    limit_s = time.monotonic() + 20
    while sentence not in log.read_text():
        assert time.monotonic() < limit_s, log.read_text()
        time.sleep(0.05)


@over_a_link
def test_a_study_goes_over_a_channel_that_two_pasted_lines_led_to(folder: Path) -> None:
    site, clinic = folder / "site.log", folder / "clinic.log"
    with (
        TunLink("rate=5M,rtt=50ms") as link,
        running(link.clinic, receive_command(folder), clinic) as receiving,
        running(link.site, send_command(folder), site) as sending,
    ):
        offer = printed(sending)
        paste(sending, offer)
        until_said(site, "this line is of this end's own kind")
        paste(receiving, offer[:200] + "\n")
        until_said(clinic, "this line is torn")
        paste(receiving, offer)
        answer = printed(receiving)
        paste(receiving, offer)
        until_said(clinic, "this line has been used")
        time.sleep(2.0)  # a person takes longer than two machines
        paste(sending, answer)
        assert sending.wait(60) == 0, site.read_text()
        assert receiving.wait(30) == 0, clinic.read_text()
    report = json.loads((folder / "send.json").read_text())
    assert report["exact"]
    assert report["link"]["transport"] == "webrtc"
    assert report["link"]["connections"] == 1


@over_a_link
def test_a_line_of_another_key_ends_both_commands_in_a_sentence(folder: Path) -> None:
    clinic = folder / "clinic.log"
    with (
        TunLink("rate=5M,rtt=50ms") as link,
        running(link.clinic, receive_command(folder, "other"), clinic) as receiving,
        running(link.site, send_command(folder), folder / "site.log") as sending,
    ):
        paste(receiving, printed(sending))
        until_said(clinic, "this line was not sealed with a key of this end")
        for process in (receiving, sending):
            assert process.stdin is not None
            process.stdin.close()
        assert receiving.wait(20) == 4
        assert sending.wait(20) == 2
    assert "standard input has ended" in (folder / "site.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sender.cli", "x", "--signal", "paste"), "--signal goes with a shared key: --key FILE"),
        (
            ("sender.cli", "x", "--signal", "paste", "--to", "ws://a:1"),
            "--signal does not go with --to",
        ),
        (
            ("receiver.cli", "--out", "x", "--signal", "fax"),
            "--signal fax: expected paste, or the address",
        ),
        (
            ("receiver.cli", "--out", "x", "--signal", "paste", "--transport", "ws"),
            "which --transport ws leaves out",
        ),
    ],
)
def test_what_does_not_go_with_lines_is_told(arguments: tuple[str, ...], sentence: str) -> None:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), timeout=20
    )
    assert done.returncode == 2
    assert sentence in done.stderr
