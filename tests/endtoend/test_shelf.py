"""The clinic's disk, by both commands: its quota, its retention, and when it is full."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.commands import Receiver, command, environment, send
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_S = 86400


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """1.3 MB that no codec makes smaller."""
    path = tmp_path / "noise.nii"
    path.write_bytes(nifti(np.random.default_rng(0).integers(0, 4096, (24, 192, 192), "<i2")))
    return path


def listed(out: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        command("receiver.cli", "ls", "--out", out, "--json"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_study_beyond_the_quota_is_refused_and_its_sender_hears_why(
    noise: Path, tmp_path: Path
) -> None:
    with Receiver(tmp_path / "clinic", ("--quota", "3M")) as receiver:
        sent = send(receiver.url, noise, "--roi", "none", folder=tmp_path)
        assert sent.code == 0, sent.stderr
        other = tmp_path / "other.nii"
        other.write_bytes(noise.read_bytes()[:-2] + b"\1\1")
        sent = send(receiver.url, other, "--roi", "none", folder=tmp_path)
        assert sent.code == 4
        said = sent.stderr.strip().splitlines()[-1]
        assert "the clinic's disk does not take it: its quota of 3.00 MB is used up" in said
        sent = send(receiver.url, noise, "--roi", "none", folder=tmp_path)
        assert sent.code == 0, sent.stderr  # it is there already, and needs no room
        (study,) = listed(receiver.out)
    assert (study["state"], study["voxels"]) == ("exact", {"verified": 1.0})


def test_what_has_had_its_time_goes_and_the_log_says_so(noise: Path, tmp_path: Path) -> None:
    with Receiver(tmp_path / "clinic") as receiver:
        assert send(receiver.url, noise, "--roi", "none", folder=tmp_path).code == 0
    (folder,) = receiver.out.iterdir()
    for path in folder.iterdir():
        os.utime(path, (time.time() - 31 * DAY_S,) * 2)
    audit = tmp_path / "audit.jsonl"
    flags = ("--keep", "30d", "--once", "--audit", str(audit))
    with Receiver(tmp_path / "clinic", flags) as receiver:
        end_s = time.monotonic() + 20
        said = f"deleted {folder}: exact, unchanged for 31.0 days"
        while (folder.exists() or said not in receiver.lines) and time.monotonic() < end_s:
            time.sleep(0.05)
        assert said in receiver.lines
        assert listed(receiver.out) == []
    assert json.loads(audit.read_text().splitlines()[0])["what"] == "deleted"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with some 300 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m,mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no disk of its own can be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def test_a_disk_that_fills_in_mid_study_loses_nothing_of_it(
    noise: Path, tmp_path: Path, small_disk: Path
) -> None:
    """Somebody else takes the last byte; the same command goes on once there is room again."""
    fill = small_disk / "others"
    seen: list[dict[str, Any]] = []
    with Receiver(small_disk, ()) as receiver:

        def take_the_rest_for_a_while() -> None:
            log = None
            while log is None or log.stat().st_size < 300_000:
                time.sleep(0.02)
                log = next(receiver.out.glob("*/session.log"), None)
            for size in (1 << 20, 512):
                with contextlib.suppress(OSError), fill.open("ab", buffering=0) as file:
                    while file.write(bytes(size)):
                        pass
            time.sleep(4)
            seen.extend(listed(receiver.out))
            fill.unlink()

        thief = threading.Thread(target=take_the_rest_for_a_while)
        thief.start()
        sent = send(
            receiver.url, noise, "--roi", "none", "--link", "rate=2M,rtt=20ms", folder=tmp_path
        )
        thief.join(30)
        assert sent.code == 0, sent.stderr
        (study,) = listed(receiver.out)
    assert [(each["state"], each["resumable"]) for each in seen] == [("unfinished", True)]
    assert "its disk does not take the study: No space left on device; trying on" in sent.stderr
    assert sent.stderr.count("\n") < 40  # it does not hammer on the door meanwhile
    assert study["state"] == "exact"
    assert (next(receiver.out.glob("*/series-1.nii"))).read_bytes() == noise.read_bytes()
    # What was stored did not come again: a window and a group do, for each try.
    assert sent.report["bytes"]["total"] < 2 * noise.stat().st_size * 12 / 16
