"""A whole transfer by both commands: what is written down and counted, and no patient's name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.data import get_testdata_file
from websockets.asyncio.client import connect

from shared.audit import records, verify
from tests.commands import command, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = ("--link", "rate=200k,rtt=50ms")


class Running:
    """A command, and all that it has said."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._path = folder / f"said-{arguments[0]}"
        with self._path.open("wb") as said:
            self.process = subprocess.Popen(
                command(str(arguments[0]), *arguments[1:]),
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**environment(), "XDG_STATE_HOME": str(folder / "state")},
            )

    @property
    def said(self) -> str:
        return self._path.read_text()

    def until(self, pattern: str) -> str:
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            if found := re.search(pattern, self.said):
                return found[1]
            time.sleep(0.02)
        raise AssertionError((pattern, self.said))


@contextlib.contextmanager
def running(folder: Path, *arguments: object) -> Iterator[Running]:
    made = Running(folder, *arguments)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.send_signal(signal.SIGTERM)
        made.process.wait(20)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, (name, text)
    return float(found[1])


async def look(url: str, token: str) -> list[dict[str, Any]]:
    """As a viewer: what there is."""
    async with connect(url) as api:
        await api.send(json.dumps({"token": token}))
        await api.recv()
        while True:
            await api.send(json.dumps({"do": "studies"}))
            studies: list[dict[str, Any]] = json.loads(await api.recv())["studies"]
            if studies:
                return studies
            await asyncio.sleep(0.02)


def test_all_is_written_down_and_counted_and_nothing_of_the_patient(tmp_path: Path) -> None:
    scan = Path(str(get_testdata_file("CT_small.dcm")))
    header = pydicom.dcmread(scan)
    study = tmp_path / "study"
    study.mkdir()
    (study / "1.dcm").write_bytes(scan.read_bytes())
    out = tmp_path / "out"
    listen = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--metrics", "0", "--out", out)
    with running(tmp_path, "receiver.cli", *listen) as clinic:
        url = clinic.until(r"listening on (ws://\S+)")
        viewers = clinic.until(r"viewers: (ws://[^,\s]+)")
        monitors = clinic.until(r"monitors: (http://\S+)/metrics")
        assert read(f"{monitors}/healthz") == "ok\n"
        sending = (study, "--to", url, "--roi", "box:0:1,32:96,32:96", "--metrics", "0", *LINK)
        with running(tmp_path, "sender.cli", *sending) as site:
            theirs = site.until(r"monitors: (http://\S+)/metrics")
            seen = asyncio.run(look(viewers, (out / "api.token").read_text()))
            of_sender = read(f"{theirs}/metrics")
            assert read(f"{theirs}/healthz") == "ok\n"
            assert site.process.wait(60) == 0, site.said
        time.sleep(0.5)
        of_clinic = read(f"{monitors}/metrics")
        said = clinic.said + site.said
    assert figure(of_sender, "medroi_sessions") in (0, 1)
    assert figure(of_clinic, "medroi_received_bytes_total") > 10_000
    assert figure(of_clinic, 'medroi_sessions_ended_total{outcome="ok"}') == 1
    assert figure(of_clinic, 'medroi_marks_reached_total{mark="whole_exact"}') == 1
    assert figure(of_clinic, "medroi_disk_free_bytes") > 0
    assert figure(of_clinic, "medroi_loop_lag_seconds_count") > 5
    assert figure(of_clinic, 'medroi_views_total{asked="studies"}') >= 1

    received, sent = (tmp_path / "state" / "medroi" / f"audit-{each}.jsonl" for each in
                      ("received", "sent"))  # fmt: skip
    assert verify(received).count >= 5
    assert verify(sent).count >= 3
    theirs_told, ours_told = records(received), records(sent)
    told = [str(each["what"]) for each in theirs_told if each["what"] != "viewed"]
    assert (told[0], told[-2:]) == ("accepted", ["stored", "ended"])
    assert set(told[1:-2]) == {"reached"}
    assert [ours_told[0]["what"], ours_told[-1]["what"]] == ["sending", "ended"]
    assert (ours_told[-1]["outcome"], ours_told[-1]["exact"]) == ("ok", True)
    assert ours_told[0]["study"] == theirs_told[0]["study"] == seen[0]["study"]
    accepted = next(each for each in theirs_told if each["what"] == "accepted")
    assert ours_told[0]["series"] == accepted["series"]
    views = [each for each in theirs_told if each["what"] == "viewed"]
    assert views
    assert "whole" in views[0]
    stored = next(each for each in theirs_told if each["what"] == "stored")
    assert stored["exact"] is True

    logs = said + of_sender + of_clinic + received.read_text() + sent.read_text()
    for word in (str(header.PatientName), header.PatientID, str(header.PatientName).split("^")[0]):
        assert word
        assert word not in logs
    assert str(header.StudyInstanceUID) not in logs


def test_a_log_that_cannot_be_written_to_is_told_and_keeps_nothing_from_arriving(
    tmp_path: Path,
) -> None:
    scan = Path(str(get_testdata_file("CT_small.dcm")))
    notes = tmp_path / "notes"
    notes.touch(mode=0o600)
    notes.write_text("something else\n")
    flags = ("--out", tmp_path / "out", "--metrics", "0", "--audit", notes, "--once")
    with running(tmp_path, "receiver.cli", "--listen", "127.0.0.1:0", *flags) as clinic:
        url = clinic.until(r"listening on (ws://\S+)")
        with running(tmp_path, "sender.cli", scan, "--to", url, "--audit", notes) as site:
            assert site.process.wait(60) == 0, site.said
        assert clinic.process.wait(30) == 0
    for end in (clinic, site):
        assert end.said.count("nothing is written down in") == 1
    assert notes.read_text() == "something else\n"
