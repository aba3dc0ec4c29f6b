"""The log of a session on a real disk; what a replay makes of it is in `test_replay`."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

import pytest

from protocol.frames import Fragment
from receiver.log import NAME, SessionLog, fragment_record, message_record, session_of
from tests.protocol import examples

if TYPE_CHECKING:
    from pathlib import Path

    from shared.recordlog import Record

SESSION, OTHER = bytes(range(16)), bytes(16)
BEGUN = [message_record(each) for each in (examples.MANIFEST, examples.PLAN, examples.offer())]


def piece(start: int, content: bytes, number: int = 0) -> Record:
    return fragment_record(Fragment(number, start, content))


def test_a_new_log_takes_the_place_of_another_sessions_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SessionLog.create(tmp_path, OTHER, BEGUN).close()
    before = (tmp_path / NAME).read_bytes()

    class Full:
        free = 0

    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: Full)
        with pytest.raises(OSError, match="No space left") as caught:
            SessionLog.create(tmp_path, SESSION, BEGUN)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / NAME).read_bytes() == before
    SessionLog.create(tmp_path, SESSION).close()
    assert session_of(tmp_path / NAME) == SESSION
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_an_encoding_is_put_together_from_pieces_in_any_order_the_later_one_counting(
    tmp_path: Path,
) -> None:
    log = SessionLog.create(tmp_path, SESSION, BEGUN)
    empty = [log.is_empty]
    log.append([piece(4, b"late"), piece(0, b"wron"), piece(0, b"ab", number=1)])
    log.append([piece(0, b"righ")])
    assert [*empty, log.is_empty] == [True, False]
    assert log.payload(0, 8) == b"righ" + b"late"
    assert log.payload(1, 2) == b"ab"
    log.close()


def test_a_reopened_log_goes_on_where_it_was(tmp_path: Path) -> None:
    log = SessionLog.create(tmp_path, SESSION, BEGUN)
    log.append([piece(0, b"before ")])
    log.close()
    again = SessionLog.reopen(tmp_path, SESSION)
    assert again.is_empty  # until it has been replayed
    assert len(list(again.replay())) == len(BEGUN) + 1
    again.append([piece(7, b"and after")])
    assert again.payload(0, 16) == b"before and after"
    again.close()


def test_a_receipt_takes_the_place_of_everything_and_closes_the_log(tmp_path: Path) -> None:
    log = SessionLog.create(tmp_path, SESSION, BEGUN)
    log.append([piece(0, bytes(10_000))])
    log.conclude([message_record(examples.MESSAGES["done"])])
    assert (tmp_path / NAME).stat().st_size < 200
    assert session_of(tmp_path / NAME) == SESSION
    with pytest.raises((OSError, ValueError)):
        log.append([piece(0, b"x")])


def test_a_removed_log_leaves_nothing_and_may_be_removed_twice(tmp_path: Path) -> None:
    log = SessionLog.create(tmp_path, SESSION, BEGUN)
    log.remove()
    log.remove()
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert session_of(tmp_path / NAME) is None
