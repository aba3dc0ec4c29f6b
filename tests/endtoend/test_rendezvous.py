"""Two ends that find each other at a rendezvous: real processes over a TUN link, killed at will."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
_LINK = "rate=1M,rtt=50ms"
_END_S = 90.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a key, and 0.9 MB that no codec makes smaller: seven seconds at 1 Mbit/s."""
    study = np.random.default_rng(0).integers(0, 4096, (16, 192, 192), "<i2")
    (tmp_path / "noise.nii").write_bytes(nifti(study))
    subprocess.run(
        command("sender.cli", "--make-key", tmp_path / "key"), check=True, env=environment()
    )
    return tmp_path


class Running:
    """A command in the background; what it says goes to a file."""

    def __init__(self, place: Place, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("a") as said:
            self.process = place.popen(arguments, stdout=said, stderr=said)

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()

    def ends(self) -> int:
        return self.process.wait(_END_S)

    def until_said(self, sentence: str, times: int = 1) -> None:
        limit_s = time.monotonic() + 40
        while self.log.read_text().count(sentence) < times:
            assert time.monotonic() < limit_s, f"not said: {sentence}\n{self.log.read_text()}"
            time.sleep(0.05)


class Scene:
    """A rendezvous and a receiver at the clinic's end of a link, a sender at the other."""

    def __init__(self, link: TunLink, folder: Path) -> None:
        self._link = link
        self._folder = folder
        self._port = 0
        self._running: list[Running] = []
        self.url = ""

    def _start(self, place: Place, arguments: list[str], log: str) -> Running:
        started = Running(place, arguments, self._folder / log)
        self._running.append(started)
        return started

    def rendezvous(self) -> Running:
        """The same one after the first time: identity and port are kept."""
        place = f"{self._link.clinic.address}:{self._port}"
        flags = ("--listen", place, "--identity", self._folder / "identity")
        log = self._folder / "rendezvous.log"
        before = log.read_text().count("listening") if log.exists() else 0
        started = self._start(
            self._link.clinic, command("shared.rendezvous.cli", *flags), "rendezvous.log"
        )
        started.until_said("listening on wss://", before + 1)
        found = re.search(r"wss://\S+:(\d+)/\S+", log.read_text())
        assert found
        self.url, self._port = found[0], int(found[1])
        return started

    def receiver(self, *more: object) -> Running:
        flags = ("--signal", self.url, "--key", self._folder / "key", *(more or ("--once",)))
        arguments = command("receiver.cli", *flags, "--out", self._folder / "out")
        return self._start(self._link.clinic, arguments, "clinic.log")

    def sender(self) -> Running:
        study, report = self._folder / "noise.nii", self._folder / "send.json"
        return self.sends("key", study, "--report", report)

    def sends(self, key: str, *arguments: object) -> Running:
        """A sender with a key and a log of its own."""
        flags = ("--signal", self.url, "--key", self._folder / key)
        kept = ("--spool", self._folder / "spool")
        line = command("sender.cli", *arguments, *flags, *kept)
        return self._start(self._link.site, line, f"{key}.log")

    def until_it_flows(self) -> None:
        """Some fragments are on the receiver's disk."""
        limit_s = time.monotonic() + 40
        while not any(
            log.stat().st_size > 200_000 for log in self._folder.glob("out/*/session.log")
        ):
            said = "\n".join(each.log.read_text() for each in self._running)
            assert time.monotonic() < limit_s, said
            time.sleep(0.05)

    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self._folder / "send.json").read_text())
        return content

    def stop(self) -> None:
        for each in self._running:
            if each.process.poll() is None:
                each.kill()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    with TunLink(_LINK) as link:
        made = Scene(link, folder)
        try:
            yield made
        finally:
            made.stop()


@over_a_link
def test_a_receiver_that_was_killed_is_found_again_and_gets_what_it_lacks(folder: Path) -> None:
    with scene(folder) as made:
        rendezvous = made.rendezvous()
        sending = made.sender()
        time.sleep(1.0)  # the offer is there first
        receiving = made.receiver()
        made.until_it_flows()
        receiving.kill()
        receiving = made.receiver()
        assert sending.ends() == 0, sending.log.read_text()
        assert receiving.ends() == 0, receiving.log.read_text()
        said = rendezvous.log.read_text().splitlines()
    report = made.report()
    assert report["exact"]
    assert report["link"]["transport"] == "webrtc"
    assert report["link"]["connections"] == 2
    assert len(said) == 1  # of those who came nothing is written down


@over_a_link
def test_a_sender_that_was_killed_goes_on_though_the_rendezvous_was_away_meanwhile(
    folder: Path,
) -> None:
    with scene(folder) as made:
        rendezvous = made.rendezvous()
        receiving = made.receiver()
        sending = made.sender()
        made.until_it_flows()
        rendezvous.kill()
        receiving.until_said("no rendezvous: nobody answers at wss://")
        sending.kill()
        sending = made.sender()
        sending.until_said("no line: no rendezvous: nobody answers at wss://")
        made.rendezvous()
        receiving.until_said("waiting at the rendezvous", 2)
        assert sending.ends() == 0, sending.log.read_text()
        assert receiving.ends() == 0, receiving.log.read_text()
    report = made.report()
    assert report["exact"]
    # What the receiver had stored before was not sent again.
    assert report["bytes"]["wire"] < folder.joinpath("noise.nii").stat().st_size * 12 / 16 - 100e3


@over_a_link
def test_several_sites_and_studies_use_one_rendezvous_each_by_its_own_key(folder: Path) -> None:
    subprocess.run(
        command("sender.cli", "--make-key", folder / "other"), check=True, env=environment()
    )
    for seed in range(3):
        voxels = np.random.default_rng(seed).integers(0, 4096, (4, 64, 64), "<i2")
        (folder / f"small-{seed}.nii").write_bytes(nifti(voxels))
    with scene(folder) as made:
        made.rendezvous()
        clinic = made.receiver("--key", folder / "other")
        both = [
            made.sends("key", folder / "small-0.nii", folder / "small-1.nii", "--each"),
            made.sends("other", folder / "small-2.nii"),
        ]
        for each in both:
            assert each.ends() == 0, each.log.read_text()
        clinic.until_said("stored and verified: every voxel is exact", 3)
        said = clinic.log.read_text()
    assert "no use" not in said
    assert "no line" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("sender.cli", "x", "--signal", "http://a:1/", "--key", "k"), 2, "expected paste, or the"),
        (("sender.cli", "x", "--signal", "ws://:1/", "--key", "k"), 2, "expected an address such"),
        (("sender.cli", "x", "--signal", "wss://a:1/", "--key", "k"), 2, "hash is missing; take"),
        (("sender.cli", "x", "--signal", "wss://a:1/#12", "--key", "k"), 2, "64 hex digits, got"),
        (("sender.cli", "x", "--signal", "ws://10.1.2.3:1", "--key", "k"), 2, "plaintext stays on"),
        (("sender.cli", "x", "--signal", "ws://127.0.0.1:1"), 2, "goes with a shared key: --key"),
        (("receiver.cli", "--out", "x", "--signal", "wss://a:1/", "--key", "k"), 2, "is missing"),
        (("shared.rendezvous.cli", "--listen", "here"), 2, "--listen here: HOST:PORT expected"),
        (("shared.rendezvous.cli", "--listen", "192.0.2.1:0"), 2, "cannot listen on 192.0.2.1:0"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), timeout=20
    )
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_rendezvous_that_is_not_there_and_one_that_is_another_are_told(folder: Path) -> None:
    with rendezvous_on_loopback(folder, "--identity", folder / "identity") as url:
        strange = url[:-4] + ("0000" if not url.endswith("0000") else "1111")
        for arguments, code, sentence in (
            (sending(folder, strange), 4, "its certificate is not the one that its address names"),
            (receiving(folder, strange), 4, "its certificate is not the one that its address"),
        ):
            done = subprocess.run(
                arguments, capture_output=True, text=True, env=environment(), timeout=30
            )
            assert done.returncode == code
            assert f"no rendezvous: {url.partition('#')[0]}: {sentence}" in done.stderr
    gone = (*sending(folder, url), "--give-up", "1")
    done = subprocess.run(gone, capture_output=True, text=True, env=environment(), timeout=30)
    assert done.returncode == 5
    assert "medroi-send: no rendezvous: nobody answers at wss://127.0.0.1" in done.stderr


def test_a_rendezvous_on_loopback_is_plaintext_and_ends_in_order(folder: Path) -> None:
    with rendezvous_on_loopback(folder) as url:
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", url)


def sending(folder: Path, url: str) -> list[str]:
    return command("sender.cli", folder / "noise.nii", "--signal", url, "--key", folder / "key")


def receiving(folder: Path, url: str) -> list[str]:
    out = folder / "out"
    return command("receiver.cli", "--signal", url, "--key", folder / "key", "--out", out)


@contextmanager
def rendezvous_on_loopback(folder: Path, *flags: object) -> Iterator[str]:
    with subprocess.Popen(
        command("shared.rendezvous.cli", "--listen", "127.0.0.1:0", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()
            _, complaint = process.communicate(timeout=10)
    assert process.returncode == 0
    assert complaint == "medroi-rendezvous: stopped\n"
