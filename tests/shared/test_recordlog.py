from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import pytest

from shared import recordlog
from shared.recordlog import Record, RecordLog, read_head

if TYPE_CHECKING:
    from pathlib import Path

HEAD = b"a-test-log-1"
RECORDS = [Record(1, b"one"), Record(2, b""), Record(7, bytes(range(40)))]
OVERHEAD_BYTES = 9
NEXT = Record(3, b"and on")


def written(path: Path) -> bytes:
    log = RecordLog(path, HEAD, RECORDS)
    log.close()
    return path.read_bytes()


def ends() -> list[int]:
    """Where each record ends in the file."""
    places, end = [], len(HEAD)
    for record in RECORDS:
        end += OVERHEAD_BYTES + len(record.content)
        places.append(end)
    return places


def read_back(path: Path, *more: Record) -> list[Record]:
    """What a log holds; then these records are appended to it."""
    log = RecordLog.reopen(path, HEAD)
    found = [record for record, _ in log.replay()]
    if more:
        log.append(more)
    log.close()
    return found


def test_what_is_appended_is_read_back_in_its_order_and_where_it_was_said_to_be(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    log = RecordLog(path, HEAD, RECORDS[:1])
    places = log.append(RECORDS[1:])
    assert log.read(places[1], 40) == bytes(range(40))
    log.close()
    log.close()
    again = RecordLog.reopen(path, HEAD)
    found = list(again.replay())
    assert [record for record, _ in found] == RECORDS
    assert [at for _, at in found][1:] == places
    again.close()


def test_a_log_torn_at_any_byte_gives_the_whole_records_before_it_and_goes_on_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    whole = written(path)
    for size in range(len(HEAD), len(whole)):
        path.write_bytes(whole[:size])
        before = [record for record, end in zip(RECORDS, ends(), strict=True) if end <= size]
        assert read_back(path, NEXT) == before
        assert read_back(path) == [*before, NEXT]


def test_one_flipped_bit_anywhere_costs_its_record_or_those_behind_it_and_never_lies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    whole = written(path)
    for place in range(len(HEAD), len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            before = [record for record, end in zip(RECORDS, ends(), strict=True) if end <= place]
            passed_over = [*before, *RECORDS[len(before) + 1 :]]
            start = (ends()[len(before) - 1]) if before else len(HEAD)
            in_length = 1 <= place - start < 5
            last = len(before) == len(RECORDS) - 1
            assert read_back(path) == (before if in_length or last else passed_over)
            assert read_back(path) == (before if in_length or last else passed_over)
            if in_length or last:
                assert path.stat().st_size == len(HEAD) + sum(
                    OVERHEAD_BYTES + len(record.content) for record in before
                )


def test_what_the_disk_has_spoilt_in_the_middle_is_told_and_the_rest_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    whole = bytearray(written(path))
    start, end = ends()[0], ends()[1]
    whole[end - 1] ^= 1
    path.write_bytes(whole)
    log = RecordLog.reopen(path, HEAD)
    assert [record for record, _ in log.replay()] == [RECORDS[0], *RECORDS[2:]]
    assert log.damaged == [bytes(whole[start:end])]
    log.append([NEXT])
    log.close()
    assert read_back(path) == [RECORDS[0], *RECORDS[2:], NEXT]


def test_zeros_behind_the_last_record_as_a_crashed_disk_leaves_them_are_cut_off(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    whole = written(path)
    path.write_bytes(whole + bytes(4096))
    assert read_back(path) == RECORDS
    assert path.read_bytes() == whole


def test_whoever_stops_reading_early_has_the_rest_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path)
    log = RecordLog.reopen(path, HEAD)
    for record, _ in log.replay():
        if record == RECORDS[1]:
            break
    log.append([NEXT])
    log.close()
    assert read_back(path) == [RECORDS[0], NEXT]


def test_a_record_longer_than_any_of_ours_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    written(path)
    monkeypatch.setattr(recordlog, "MAX_RECORD_BYTES", 39)
    assert read_back(path) == RECORDS[:2]


def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(handle: int, content: bytes, at: int) -> int:
        if len(content) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, content[:20], at)

    path = tmp_path / "log"
    log, real = RecordLog(path, HEAD, RECORDS), os.pwrite
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", torn)
        with pytest.raises(OSError, match="No space"):
            log.append([Record(1, bytes(30))])
    log.append([NEXT])
    log.close()
    assert read_back(path) == [*RECORDS, NEXT]


def test_what_could_not_be_synced_is_not_read_back_behind_what_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old record must not stand behind a shorter one that took its place."""
    path = tmp_path / "log"
    short, long = Record(1, b"abc"), Record(2, b"stays out")

    def fails(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    log = RecordLog(path, b"head")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", fails)
        with pytest.raises(OSError, match="error"):
            log.append([short, long])
    log.append([short])
    log.close()
    again = RecordLog.reopen(path, b"head")
    assert [record for record, _ in again.replay()] == [short]
    again.close()


def test_a_write_that_takes_a_few_bytes_at_a_time_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, at: real(handle, content[:3], at))
    path = tmp_path / "log"
    written(path)
    assert read_back(path) == RECORDS


def test_a_new_log_that_the_disk_does_not_take_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: Path, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "log"
    whole = written(path)
    monkeypatch.setattr(recordlog, "require_room", full)
    with pytest.raises(OSError, match="No space"):
        RecordLog(path, HEAD, [NEXT])
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


def test_a_locked_log_is_nobody_elses_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = RecordLog(path, HEAD)
    assert first.lock()
    second = RecordLog.reopen(path, HEAD)
    assert not second.lock()
    first.close()
    assert second.lock()
    second.close()


def test_a_head_is_read_as_far_as_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path)
    assert read_head(path, len(HEAD)) == HEAD
    assert read_head(tmp_path / "none", 5) == b""
    path.write_bytes(b"ab")
    assert read_head(path, 5) == b"ab"


def test_what_is_not_synced_is_read_back_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = RecordLog(path, HEAD)
    log.append([NEXT], sync=False)
    log.close()
    assert read_back(path) == [NEXT]


def test_where_there_are_no_locks_a_log_is_taken_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    log = RecordLog(tmp_path / "log", HEAD)
    assert log.lock()
    log.close()
