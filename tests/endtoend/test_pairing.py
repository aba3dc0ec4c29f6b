"""Pairing by both commands as real processes, and what they do with it afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel

from shared.audit import records
from tests.commands import command, environment
from tests.shared.transports.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

SCAN = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
STUDY = (SCAN, "--volume", "1", "--roi", "box:9:15,34:56,70:96", "-q")


def at(folder: Path, end: str) -> dict[str, str]:
    """The environment of one end: a state folder of its own."""
    return {**environment(), "XDG_STATE_HOME": str(folder / end)}


@contextlib.contextmanager
def started(folder: Path, *arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``medroi-recv`` and the first line that it printed."""
    process = subprocess.Popen(
        command("receiver.cli", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=at(folder, "clinic"),
    )
    try:
        assert process.stdout
        yield process.stdout.readline().strip(), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def sender(
    folder: Path, *arguments: object, given: str = "", end: str = "site"
) -> tuple[int, str, str]:
    """Status, standard output, and the last line of the other one."""
    done = subprocess.run(
        command("sender.cli", *arguments),
        input=given,
        capture_output=True,
        text=True,
        env=at(folder, end),
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.strip(), done.stderr.strip().rpartition("\n")[2]


def test_two_ends_are_paired_once_and_then_know_each_other_by_name(tmp_path: Path) -> None:
    place = ("--listen", "127.0.0.1:0", "--serve", "127.0.0.1:1")
    with started(tmp_path, "pair", "--name", "lab", *place) as (text, process):
        assert re.fullmatch(r"medroi-pair:[A-Za-z0-9_-]+", text)
        code, _, said = sender(tmp_path, "pair", text)
        assert (code, "does not go on the command line" in said) == (2, True)
        code, said, _ = sender(tmp_path, "pair", given=text + "\n")
        assert (code, said) == (0, "paired with lab: medroi-send STUDY --to lab")
        assert process.wait(20) == 0
    code, _, said = sender(tmp_path, "pair", given=text)
    assert (code, "was used here already, for lab" in said) == (2, True)
    code, _, said = sender(tmp_path, "pair", given=text, end="other")
    assert (code, "a pairing string is good once" in said) == (5, True)
    files = [path for end in ("clinic", "site") for path in (tmp_path / end).rglob("*.site")]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]

    with started(tmp_path, "--listen", "127.0.0.1:0", "--out", tmp_path / "out", "--once") as (
        line,
        process,
    ):
        url = line.removeprefix("listening on ")
        assert url.startswith("wss://")
        # The site's address was made for a port that is not this one: as its file has it.
        kept = next((tmp_path / "site").rglob("*.site"))
        port = re.search(r":(\d+)/", url)
        assert port
        kept.write_text(kept.read_text().replace("127.0.0.1:1/", f"127.0.0.1:{port[1]}/"))
        kept.chmod(0o644)
        code, _, said = sender(tmp_path, *STUDY, "--to", "lab")
        assert (code, "others may use it; chmod 600" in said) == (2, True)
        kept.chmod(0o600)
        code, _, said = sender(tmp_path, *STUDY, "--to", "hill")
        assert (code, "no site is called hill here (there are: lab)" in said) == (2, True)
        assert sender(tmp_path, *STUDY, "--to", "lab") == (0, "", "")
        assert process.wait(20) == 0
    assert len(list((tmp_path / "out").glob("*/series-1.nii"))) == 1
    code, said, _ = sender(tmp_path, "sites")
    assert (code, said.split()[0]) == (0, "lab")
    assert sender(tmp_path, "sites", "--forget", "lab")[0] == 0
    told = records(tmp_path / "site" / "medroi" / "audit-sent.jsonl")
    assert (told[0]["what"], told[0]["site"], told[-1]["what"]) == ("paired", "lab", "forgotten")
    theirs = records(tmp_path / "clinic" / "medroi" / "audit-received.jsonl")
    assert (theirs[0]["what"], theirs[0]["invitation"]) == ("paired", told[0]["invitation"])
    assert [each["peer"] for each in theirs if each["what"] == "stored"] == ["lab"]
    assert sender(tmp_path, *STUDY, "--to", "lab")[0] == 2


def test_a_string_comes_from_a_private_file_and_no_other(tmp_path: Path) -> None:
    place = ("--listen", "127.0.0.1:0")
    with started(tmp_path, "pair", "--name", "lab", *place) as (text, process):
        path = tmp_path / "string"
        path.write_text(text)
        path.chmod(0o644)
        code, _, said = sender(tmp_path, "pair", path)
        assert (code, "others may use it" in said) == (2, True)
        path.chmod(0o600)
        assert sender(tmp_path, "pair", path, "--name", "clinic")[0] == 0
        assert process.wait(20) == 0
    assert os.listdir(tmp_path / "site" / "medroi" / "sites") == ["clinic.site"]


def test_a_receiver_takes_a_pairing_up_without_being_started_anew(tmp_path: Path) -> None:
    with started(tmp_path, "pair", "--name", "one", "--listen", "127.0.0.1:0") as (text, _):
        assert sender(tmp_path, "pair", given=text, end="one")[0] == 0
    with started(tmp_path, "--listen", "127.0.0.1:0", "--out", tmp_path / "out") as (line, _):
        port = line.partition("/#")[0].rpartition(":")[2]
        pairing = ("--listen", "127.0.0.1:0", "--serve", f"127.0.0.1:{port}")
        with started(tmp_path, "pair", "--name", "two", *pairing) as (text, _):
            assert sender(tmp_path, "pair", given=text, end="two")[0] == 0
        assert sender(tmp_path, *STUDY, "--to", "two", end="two") == (0, "", "")


def test_certificates_of_a_hospitals_authority_take_the_place_of_a_pairing(tmp_path: Path) -> None:
    hospital = Authority(tmp_path / "hospital")

    def files(name: str) -> tuple[object, ...]:
        certificate, key = hospital.issue(name)
        return ("--pki-ca", hospital.path, "--pki-cert", certificate, "--pki-key", key)

    place = ("--listen", "127.0.0.1:0", "--out", tmp_path / "out", "--once")
    peer = ("--pki-peer", "lab.example")
    with started(tmp_path, *place, *files("127.0.0.1"), *peer) as (line, process):
        url = line.removeprefix("listening on ")
        assert re.fullmatch(r"wss://127\.0\.0\.1:\d+/", url)
        code, _, said = sender(tmp_path, *STUDY, "--to", url, *files("hill.example"))
        assert (code, "certificate" in said) == (4, True), said
        link = ("--link", "rate=20M,rtt=10ms")
        assert sender(tmp_path, *STUDY, "--to", url, *files("lab.example"), *link) == (0, "", "")
        assert process.wait(20) == 0
