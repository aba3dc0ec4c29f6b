"""The listening and the dialling end changed over: real processes, a sender that is dialled."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.commands import command, environment
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("keyed", [False, True])
def test_a_sender_that_listens_is_dialled_and_a_line_that_breaks_is_dialled_anew(
    keyed: bool, tmp_path: Path
) -> None:
    study = tmp_path / "noise.nii"
    study.write_bytes(nifti(np.random.default_rng(0).integers(0, 4096, (8, 96, 96), "<i2")))
    trust: tuple[object, ...] = ()
    if keyed:
        trust = ("--key", tmp_path / "key")
        subprocess.run(
            command("sender.cli", "--make-key", tmp_path / "key"), check=True, env=environment()
        )
    identity = ("--identity", tmp_path / "identity") if keyed else ()
    report = tmp_path / "send.json"
    sending = subprocess.Popen(
        command(
            *("sender.cli", study, "--listen", "127.0.0.1:0", "--report", report),
            *("--spool", tmp_path / "spool", "--transport", "ws", *trust, *identity),
        ),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with sending:
        try:
            assert sending.stdout
            url = ""
            while not url:
                found = re.search(r"wss?://\S+", sending.stdout.readline())
                url = found[0] if found else ""
            assert url.startswith("wss" if keyed else "ws:")
            target = re.sub(r"^wss?://|/#.*$", "", url)
            relay = subprocess.Popen(
                command(
                    *("shared.transports.relay", "--to", target, "--link", "rate=300k,rtt=50ms")
                ),
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            with relay:
                assert relay.stdout
                near = url.replace(target, f"127.0.0.1:{int(relay.stdout.readline())}")
                receiving = subprocess.Popen(
                    command(
                        *("receiver.cli", "--dial", near, "--out", tmp_path / "out", "--once"),
                        *trust,
                    ),
                    stdout=subprocess.DEVNULL,
                    env=environment(),
                )
                try:
                    time.sleep(3.0)
                    relay.send_signal(signal.SIGUSR1)  # resets every connection
                    assert sending.wait(40) == 0
                    assert receiving.wait(20) == 0
                finally:
                    receiving.kill()
                    receiving.wait()
                    relay.kill()
        finally:
            sending.kill()
    content = json.loads(report.read_text())
    assert content["exact"]
    assert content["link"]["connections"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("receiver.cli", "--out", "x"), "either --listen HOST:PORT or --dial URL"),
        (("sender.cli", "x", "--to", "ws://a:1", "--listen", "a:1"), "without --to and --link"),
    ],
)
def test_what_contradicts_itself_is_told(arguments: tuple[str, ...], sentence: str) -> None:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), timeout=20
    )
    assert done.returncode == 2
    assert sentence in done.stderr
