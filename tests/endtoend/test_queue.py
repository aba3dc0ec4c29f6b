"""Several studies from one site: a STAT one passes, the others resume; viewers, limits."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from websockets.asyncio.client import connect

from receiver.store import TOKEN_NAME
from tests.commands import Receiver, command, environment, send

if TYPE_CHECKING:
    from pathlib import Path


def noisy(path: Path, slices: int, seed: int) -> Path:
    voxels = np.random.default_rng(seed).integers(0, 4096, (96, 96, slices), dtype=np.int16)
    kind: Any = nibabel.Nifti1Image
    nibabel.save(kind(voxels, np.eye(4)), path)
    return path


def start(url: str, folder: Path, name: str, *arguments: object) -> subprocess.Popen[str]:
    report = folder / f"{name}.json"
    return subprocess.Popen(
        command("sender.cli", *arguments, "--to", url, "--report", report, "--quiet"),
        env=environment(),
        text=True,
    )


def until(happened: Any, seconds: float = 40.0) -> None:
    end_s = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.05)


def test_a_stat_study_passes_a_routine_one_which_resumes_behind_it(tmp_path: Path) -> None:
    long = noisy(tmp_path / "long.nii", 96, 1)
    short = noisy(tmp_path / "short.nii", 8, 2)
    with Receiver(tmp_path / "clinic", ()) as clinic:
        pace = ("--roi", "none", "--bwlimit", "1M")
        routine = start(clinic.url, tmp_path, "routine", long, *pace)
        until(lambda: any("receiving series 1" in line for line in clinic.lines))
        time.sleep(1.0)
        stat = start(clinic.url, tmp_path, "stat", short, *pace, "--priority", "stat")
        assert stat.wait(60) == 0
        assert routine.poll() is None, "the routine study was not held back"
        listed = subprocess.run(
            command("sender.cli", "queue"), env=environment(), capture_output=True, text=True
        )
        assert "routine" in listed.stdout
        assert str(long) in listed.stdout
        assert routine.wait(90) == 0
    reports = {
        name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("stat", "routine")
    }
    assert all(report["exact"] for report in reports.values())
    # 8 slices of noise are 0.1 MB: alone they take a second at 1 Mbit/s.
    times = reports["stat"]["times_s"]
    assert times["whole_exact"] - times["connected"] < 4


def test_each_study_is_sent_after_the_other_and_a_bad_one_keeps_nobody(tmp_path: Path) -> None:
    first, second = (noisy(tmp_path / f"{n}.nii", 4, n) for n in (1, 2))
    wrong = tmp_path / "wrong.nii"
    wrong.write_bytes(b"no scan")
    with Receiver(tmp_path / "clinic", ()) as clinic:
        done = subprocess.run(
            command("sender.cli", first, wrong, second, "--each", "--to", clinic.url),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 3
        assert "wrong.nii" in done.stderr
        until(lambda: len(list(clinic.out.glob("*/series-1.nii"))) == 2, 10)


def test_a_limit_is_kept(tmp_path: Path) -> None:
    scan = noisy(tmp_path / "scan.nii", 24, 3)
    with Receiver(tmp_path / "clinic") as clinic:
        sent = send(clinic.url, scan, "--roi", "none", "--bwlimit", "1M", folder=tmp_path)
        assert sent.code == 0, sent.stderr
    times = sent.report["times_s"]
    seconds = times["whole_exact"] - times["connected"]
    rate_bps = (
        sum(sent.report["bytes"].values())
        if "total" not in sent.report["bytes"]
        else (sent.report["bytes"]["total"])
    )
    assert rate_bps * 8 / seconds < 1.1e6


@pytest.mark.parametrize("bad", ["fast", "25:00,1M"])
def test_a_limit_that_is_none_is_a_sentence(tmp_path: Path, bad: str) -> None:
    scan = noisy(tmp_path / "scan.nii", 4, 3)
    sent = send("ws://127.0.0.1:9", scan, "--bwlimit", bad, folder=tmp_path)
    assert sent.code == 2
    assert "--bwlimit" in sent.stderr


def test_a_viewer_turns_the_order_around(tmp_path: Path) -> None:
    scan = noisy(tmp_path / "scan.nii", 96, 4)
    with Receiver(tmp_path / "clinic", ("--once", "--api", "127.0.0.1:0")) as clinic:
        until(lambda: any(line.startswith("viewers: ") for line in clinic.lines))
        url = next(line for line in clinic.lines if line.startswith("viewers: "))
        url = url.split()[1].rstrip(",")
        sending = start(clinic.url, tmp_path, "sent", scan, "--roi", "none", "--bwlimit", "4M")

        async def look() -> tuple[dict[str, Any], dict[str, Any]]:
            async with connect(url) as viewer:

                async def ask(question: dict[str, Any]) -> dict[str, Any]:
                    await viewer.send(json.dumps(question))
                    answer: dict[str, Any] = json.loads(await viewer.recv())
                    return answer

                await ask({"token": (clinic.out / TOKEN_NAME).read_text()})
                for _ in range(400):
                    studies = (await ask({"do": "studies"}))["studies"]
                    if studies and studies[0]["series"]:
                        break
                    await asyncio.sleep(0.05)
                study = studies[0]
                asked = {"do": "focus", "study": study["study"], "slices": [90, 96]}
                return study, await ask(asked)

        study, answer = asyncio.run(look())
        assert study["series"][0]["shape"] == [96, 96, 96]
        assert answer == {"ok": True}
        assert sending.wait(60) == 0
        assert clinic.wait() == 0
        assert clinic.report()["exact"]
