"""What a clinic writes down and counts of its sessions."""

from __future__ import annotations

import shutil
from collections import namedtuple
from typing import TYPE_CHECKING

import pytest

from receiver.books import Books
from receiver.watch import Both
from shared.audit import AuditLog, records, verify
from shared.errors import ExitCode, TransportClosed
from shared.workers import InlineWorkers
from tests.receiver.studies import honest, study

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.session import ReceivingSession

FIRST = study()
Usage = namedtuple("Usage", "total used free")


class Clinic:
    def __init__(self, folder: Path) -> None:
        self.log = AuditLog(folder / "audit.jsonl")
        self.said: list[str] = []
        self.books = Books(self.log, InlineWorkers(), folder, self.said.append)

    def told(self) -> list[str]:
        return [str(each["what"]) for each in records(self.log.path)]


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path)


def whole_session(clinic: Clinic, out: Path) -> ReceivingSession:
    return honest(out, FIRST, watcher=clinic.books).session


def test_a_whole_session_is_written_down_with_its_digests(clinic: Clinic, tmp_path: Path) -> None:
    session = whole_session(clinic, tmp_path / "out")
    clinic.books.follow(lambda: [session])
    clinic.books.viewed("focus", session, "viewer-1")
    text = clinic.books.metrics.text()
    clinic.books.follow(tuple)
    clinic.books.concluded(session, ExitCode.OK)
    told = clinic.told()
    assert (told[0], told[-3:]) == ("accepted", ["stored", "viewed", "ended"])
    assert set(told[1:-3]) == {"reached"}
    assert verify(clinic.log.path).count == len(told)
    first = records(clinic.log.path)[0]
    assert first["study"] == FIRST.manifest.study.hex()
    assert first["series"] == [FIRST.entry.digest.hex()]
    assert first["peer"] is None
    voxels = session.volumes[0].whole.total
    assert f'medroi_voxels{{quality="verified"}} {voxels}\n' in text
    assert "medroi_sessions 1\n" in text
    after = clinic.books.metrics.text()
    assert "medroi_sessions 0\n" in after
    assert f"medroi_received_bytes_total {session.visits.received_bytes}\n" in after
    assert 'medroi_sessions_ended_total{outcome="ok"} 1\n' in after
    assert clinic.books.ills() == []


def test_refusals_and_troubles_are_counted(clinic: Clinic) -> None:
    clinic.books.refused("refused a connection from 10.0.0.1: it knows no key")
    clinic.books.troubled(TransportClosed("gone"))
    clinic.books.deleted("0" * 16, "exact, unchanged for 31.0 days")
    assert clinic.told() == ["refused", "deleted"]
    assert clinic.said == ["refused a connection from 10.0.0.1: it knows no key"]
    text = clinic.books.metrics.text()
    assert "medroi_refused_connections_total 1\n" in text
    assert 'medroi_errors_total{kind="TransportClosed"} 1\n' in text


def test_a_log_that_fails_is_told_once_and_shown_until_it_is_well(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.log.path.mkdir()
    session = whole_session(clinic, tmp_path / "out")
    assert session.exact is True
    clinic.books.deleted("0" * 16, "why")
    assert len(clinic.said) == 1
    assert clinic.books.ills() == ["the audit log cannot be written to"]
    clinic.log.path.rmdir()
    clinic.books.deleted("0" * 16, "why")
    assert clinic.books.ills() == []


def test_a_full_disk_is_an_ill(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 30, 1 << 30, 1000))
    assert clinic.books.ills() == ["the disk is full: no study is taken"]
    assert "medroi_disk_free_bytes 1000\n" in clinic.books.metrics.text()


def test_two_may_look_on(clinic: Clinic, tmp_path: Path) -> None:
    honest(tmp_path / "out", FIRST, watcher=Both(clinic.books, clinic.books))
    assert clinic.told()[:2] == ["accepted", "accepted"]


def test_a_viewer_that_looks_all_the_time_does_not_fill_the_log(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = whole_session(clinic, tmp_path / "out")
    now_s = 1000.0
    monkeypatch.setattr("receiver.books.time.monotonic", lambda: now_s)
    session.exact = None

    def views() -> int:
        return clinic.told().count("viewed")

    for _ in range(5):
        clinic.books.viewed("studies", session, "one")
    assert views() == 1
    clinic.books.viewed("studies", session, "two")
    assert views() == 2
    clinic.books.viewed("focus", session, "one")  # a deed is always written down
    assert views() == 3
    now_s += 60
    clinic.books.viewed("studies", session, "one")  # it has not changed
    assert views() == 3
    session.exact = True
    clinic.books.viewed("studies", session, "one")
    assert views() == 4
    monkeypatch.setattr("receiver.books._MOST_SEEN", 1)
    clinic.books.viewed("studies", session, "three")
    assert views() == 5
