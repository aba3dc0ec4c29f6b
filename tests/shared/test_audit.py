"""A log that is only ever written on, and shows when somebody did otherwise."""

from __future__ import annotations

import json
import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest

from shared import audit
from shared.audit import AuditLog, records, verify
from shared.audit_command import receiver_audit, sender_audit
from shared.errors import ExitCode, IntegrityError, SettingsError
from shared.folders import state_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog(tmp_path / "state" / "audit.jsonl")
    for number in range(4):
        made.note("stored", {"study": f"{number:064x}", "exact": True, "whole": [{"of": 3}]})
    return made


def test_records_follow_on_each_other_and_the_file_is_private(log: AuditLog) -> None:
    chain = verify(log.path)
    assert chain.count == 4
    found = records(log.path)
    assert [each["n"] for each in found] == [1, 2, 3, 4]
    assert found[0]["before"] == "0" * 64
    assert found[-1]["hash"] == chain.last
    assert found[1]["before"] == found[0]["hash"]
    assert found[2]["whole"] == [{"of": 3}]
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_it_goes_on_where_an_earlier_process_has_stopped(log: AuditLog) -> None:
    AuditLog(log.path).note("ended", {}, sync=False)
    assert verify(log.path).count == 5


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("deed", ["change", "drop", "double", "swap", "reformat", "garble"])
def test_whatever_is_done_to_a_line_is_found(log: AuditLog, at: int, deed: str) -> None:
    lines = log.path.read_text().splitlines(keepends=True)
    match deed:
        case "change":
            lines[at] = lines[at].replace("true", "null")
        case "drop" if at == 3:
            return  # the end: see the next test
        case "drop":
            del lines[at]
        case "double":
            lines.insert(at, lines[at])
        case "swap":
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        case "reformat":
            lines[at] = json.dumps(json.loads(lines[at])) + "\n"
        case _:
            lines[at] = "[]\n"
    log.path.write_text("".join(lines))
    with pytest.raises(IntegrityError, match=r"audit\.jsonl, line \d"):
        verify(log.path)


def test_an_end_that_was_cut_off_is_found_by_who_has_looked_before(log: AuditLog) -> None:
    seen = verify(log.path)
    log.note("ended", {})
    assert verify(log.path, upto=(seen.count, seen.last)).count == 5
    lines = log.path.read_text().splitlines(keepends=True)
    log.path.write_text("".join(lines[:3]))
    assert verify(log.path).count == 3
    with pytest.raises(IntegrityError, match="its end was cut off"):
        verify(log.path, upto=(seen.count, seen.last))


def test_a_line_that_a_crash_has_torn_is_cut_off_and_told(log: AuditLog) -> None:
    whole = log.path.read_bytes()
    for torn in (1, 50):
        log.path.write_bytes(whole + b"x" * torn)
        with pytest.raises(IntegrityError, match="line 5: torn"):
            verify(log.path)
        log.note("ended", {})
        assert verify(log.path).count == 6
        assert records(log.path)[4]["what"] == "cut"
        assert records(log.path)[4]["torn_bytes"] == torn


def test_a_first_line_may_be_torn_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.touch(mode=0o600)
    path.write_text('{"n"')
    AuditLog(path).note("ended", {})
    assert verify(path).count == 2


def test_a_disk_that_is_full_leaves_the_log_as_it_was(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log.path.read_bytes()
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, at: real(handle, content[:9], at))
    with pytest.raises(OSError, match="No space left"):
        log.note("ended", {})
    monkeypatch.undo()
    assert log.path.read_bytes() == before
    log.note("ended", {})
    assert verify(log.path).count == 5


@pytest.mark.parametrize(
    "content", ["hello\n", "[]\n", '{"n": 1}\n', '{"n": true, "before": "", "hash": ""}\n',
                "[" * 5000 + "\n"],
)  # fmt: skip
def test_a_file_that_is_no_log_is_not_written_into(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(SettingsError, match="expected an audit log"):
        AuditLog(path).note("ended", {})
    assert path.read_text() == content
    with pytest.raises(IntegrityError):
        verify(path)


def test_nor_one_without_lines_nor_one_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.touch(mode=0o600)
    path.write_bytes(b"x" * (3 * audit.MAX_LINE_BYTES))
    with pytest.raises(SettingsError, match="expected an audit log"):
        AuditLog(path).note("ended", {})
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="others may use it"):
        AuditLog(path).note("ended", {})
    with pytest.raises(SettingsError, match="No such file"):
        verify(tmp_path / "none")


def test_a_record_has_its_limit(log: AuditLog) -> None:
    with pytest.raises(ValueError, match="expected up to"):
        log.note("ended", {"x": "y" * audit.MAX_LINE_BYTES})
    assert verify(log.path).count == 4


def _write(path: Path) -> None:
    for _ in range(20):
        AuditLog(path).note("ended", {"by": os.getpid()}, sync=False)


def test_processes_take_turns(log: AuditLog) -> None:
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_write, args=(log.path,)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    assert verify(log.path).count == 64


def test_the_commands_show_it_and_prove_it(
    log: AuditLog, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--audit", str(log.path)]
    assert receiver_audit(where) is ExitCode.OK
    assert capsys.readouterr().out == log.path.read_text()
    assert sender_audit(["--verify", *where]) is ExitCode.OK
    said = capsys.readouterr().out
    assert "4 records, none was changed; keep 4:" in said
    kept = said.strip().rpartition(" ")[2]
    assert receiver_audit(["--verify", "--expect", kept, *where]) is ExitCode.OK
    with pytest.raises(IntegrityError):
        receiver_audit(["--verify", "--expect", f"9:{'0' * 64}", *where])
    with pytest.raises(SettingsError, match="N:HASH expected"):
        receiver_audit(["--verify", "--expect", "9", *where])
    with pytest.raises(SettingsError, match="No such file"):
        receiver_audit([])
    AuditLog(state_folder() / "audit-sent.jsonl").note("ended", {})
    assert sender_audit(["--verify"]) is ExitCode.OK
