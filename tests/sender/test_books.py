"""What a sender writes down and counts of its transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol.messages import Mark
from sender.books import Books
from sender.prepare import prepare_study
from sender.settings import SendSettings
from shared.audit import AuditLog, records, verify
from shared.errors import ExitCode, TransportClosed
from shared.role import Role
from shared.trust.credentials import Credentials
from shared.trust.keys import SharedKey
from shared.trust.proof import Claim
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from pathlib import Path

    from sender.prepare import Study

WHERE = "wss://clinic.example:8765/#" + "ab" * 32
LAB = Credentials(Claim(Role.SENDER, 1), (SharedKey("lab", b"k" * 32),))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    import numpy as np

    path = tmp_path / "Doe^Jane.nii"
    path.write_bytes(nifti(np.arange(24 * 20 * 16, dtype="<i2").reshape(24, 20, 16)))
    return prepare_study([path], SendSettings(roi="none").checked(), series=None, volume=None)


def test_a_study_is_its_digest_and_a_clinic_its_name(study: Study, tmp_path: Path) -> None:
    books = Books(AuditLog(tmp_path / "audit"), WHERE, LAB, lambda _: None)
    books.reached(Mark.CONNECTED)  # before the study is read
    books.began(study)
    books.reached(Mark.ROI_EXACT)
    books.ended(ExitCode.OK)
    told = records(tmp_path / "audit")
    assert [each["what"] for each in told] == ["sending", "reached", "ended"]
    assert {each["study"] for each in told} == {study.manifest.study.hex()}
    assert (told[0]["to"], told[0]["peers"]) == ("clinic.example:8765", ["lab"])
    assert told[0]["series"] == [entry.digest.hex() for entry in study.manifest.series]
    assert (told[1]["mark"], told[2]["outcome"]) == ("roi_exact", "ok")
    assert verify(tmp_path / "audit").count == 3
    text = (tmp_path / "audit").read_text() + books.metrics.text()
    assert "Doe" not in text
    assert "ab" * 32 not in text
    assert "medroi_sessions 1\n" in text
    assert "medroi_connected 0\n" in text
    assert 'medroi_marks_reached_total{mark="roi_exact"} 1\n' in text


def test_what_is_wrong_is_shown_until_it_is_right(tmp_path: Path) -> None:
    books = Books(AuditLog(tmp_path / "audit"), "ws://127.0.0.1:1", None, lambda _: None)
    assert books.ills() == []
    books.troubled(TransportClosed("gone"))
    assert books.ills() == ["there is no line to the clinic"]
    books.troubled(None)
    assert books.ills() == []
    assert 'medroi_errors_total{kind="TransportClosed"} 1\n' in books.metrics.text()


def test_a_log_that_fails_is_told_once(study: Study, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "audit").mkdir()
    books = Books(AuditLog(tmp_path / "audit"), "ws://127.0.0.1:1", None, said.append)
    books.began(study)
    books.ended(ExitCode.INTERRUPTED)
    assert len(said) == 1
    assert "nothing is written down in" in said[0]
    assert books.ills() == ["the audit log cannot be written to"]
