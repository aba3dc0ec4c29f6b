from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.frames import Fragment
from protocol.inbox import Inbox
from receiver.log import NAME, SessionLog, fragment_record, message_record, session_of
from receiver.replay import Stored, replay
from tests.protocol import examples

if TYPE_CHECKING:
    from pathlib import Path

    from shared.recordlog import Record

SESSION = bytes(range(16))
OFFER, ENCODING = examples.offer(), examples.ENCODING
BEGUN = [message_record(each) for each in (examples.MANIFEST, examples.PLAN, OFFER)]


def piece(start: int, stop: int, number: int = 0) -> Record:
    return fragment_record(Fragment(number, start, ENCODING[start:stop]))


def replayed(folder: Path, *more: Record) -> tuple[SessionLog, Inbox, Stored]:
    """A log of this begun session and these records, read back; the log is open."""
    SessionLog.create(folder, SESSION, [*BEGUN, *more]).close()
    log, inbox = SessionLog.reopen(folder, SESSION), Inbox(SESSION)
    return log, inbox, replay(log, inbox)


def test_what_has_come_is_known_again_and_what_has_not_is_all_that_is_missing(
    tmp_path: Path,
) -> None:
    log, inbox, stored = replayed(tmp_path, piece(0, 100), piece(200, 300))
    log.close()
    assert stored.plans == [examples.PLAN]
    assert not stored.whole
    assert stored.exact is None
    assert inbox.manifest == examples.MANIFEST
    assert inbox.standing().under_way == (m.Received(0, ((0, 100), (200, 300))),)


def test_a_whole_encoding_is_given_back_as_it_came(tmp_path: Path) -> None:
    log, _, stored = replayed(tmp_path, piece(100, 512), piece(0, 200))
    assert stored.whole == {0: OFFER}
    assert log.payload(0, len(ENCODING)) == ENCODING
    log.close()


def test_verdicts_wants_and_the_receipt_hold_in_another_process(tmp_path: Path) -> None:
    verdict = message_record(m.LayerVerdict(0, m.Verdict.VERIFIED))
    log, inbox, _ = replayed(tmp_path, piece(0, 512), verdict)
    log.close()
    assert inbox.is_settled(0)
    log, inbox, stored = replayed(tmp_path, piece(0, 512), message_record(m.Want(0)))
    log.close()
    assert stored.wanted == {OFFER.key: 1}
    assert not stored.whole
    assert inbox.standing().wanted == (0,)
    done = message_record(m.Done(examples.MANIFEST.study, True))
    log, inbox, stored = replayed(tmp_path, done)
    log.close()
    assert stored.exact
    assert inbox.finished


def test_a_log_torn_at_any_byte_tells_no_more_than_is_there(tmp_path: Path) -> None:
    log, _, _ = replayed(tmp_path, piece(0, 100), piece(100, 512))
    log.close()
    path = tmp_path / NAME
    whole = path.read_bytes()
    for size in range(len(whole) - 1, 27, -7):
        path.write_bytes(whole[:size])
        log, inbox = SessionLog.reopen(tmp_path, SESSION), Inbox(SESSION)
        stored = replay(log, inbox)
        assert not stored.whole
        if inbox.standing().under_way:
            # What is missing comes again, behind the tear, and the encoding is whole.
            log.append([piece(0, 512)])
            assert log.payload(0, 512) == ENCODING
        log.close()


def test_a_log_that_contradicts_itself_is_believed_up_to_there(tmp_path: Path) -> None:
    for lie in (message_record(m.Want(7)), piece(0, 512, number=7), BEGUN[0]._replace(content=b"")):
        log, inbox, stored = replayed(tmp_path, piece(0, 100), lie, piece(100, 512))
        log.close()
        assert not stored.whole
        assert inbox.standing().under_way == (m.Received(0, ((0, 100),)),)


def test_a_receipt_whose_manifest_the_disk_has_spoilt_is_none(tmp_path: Path) -> None:
    """Or a session would be over that knows nothing, and answer a new study as if it had it."""
    done = message_record(m.Done(examples.MANIFEST.study, True))
    SessionLog.create(tmp_path, SESSION, [BEGUN[0], done]).close()
    path = tmp_path / NAME
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    log, inbox = SessionLog.reopen(tmp_path, SESSION), Inbox(SESSION)
    stored = replay(log, inbox)
    log.close()
    assert len(log.damaged) == 1
    assert stored.exact is None
    assert not inbox.finished


def test_a_refused_fragment_is_no_part_of_what_is_put_together_later(tmp_path: Path) -> None:
    beyond = fragment_record(Fragment(0, 500, bytes(100)))
    log, _, _ = replayed(tmp_path, piece(0, 100), beyond)
    log.append([piece(100, 512)])
    assert log.payload(0, len(ENCODING)) == ENCODING
    log.close()


def test_a_concluded_log_keeps_the_receipt_alone(tmp_path: Path) -> None:
    log, _, _ = replayed(tmp_path, piece(0, 512))
    log.conclude([message_record(m.Done(examples.MANIFEST.study, True))])
    again = SessionLog.reopen(tmp_path, SESSION)
    assert list(again.replay()) == [m.Done(examples.MANIFEST.study, True)]
    assert again.is_empty
    again.close()


def test_a_log_says_of_which_session_it_is_and_a_foreign_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / NAME
    assert session_of(path) is None
    SessionLog.create(tmp_path, SESSION).close()
    assert session_of(path) == SESSION
    whole = path.read_bytes()
    for foreign in (whole[:-1], b"x" + whole[1:], b""):
        path.write_bytes(foreign)
        assert session_of(path) is None


def test_a_piece_that_the_disk_has_spoilt_is_missing_and_nothing_behind_it_is(
    tmp_path: Path,
) -> None:
    pieces = piece(0, 100), piece(100, 200), piece(200, 512)
    SessionLog.create(tmp_path, SESSION, [*BEGUN, *pieces]).close()
    path = tmp_path / NAME
    spoilt = bytearray(path.read_bytes())
    spoilt[spoilt.index(pieces[1].content) + 50] ^= 16
    path.write_bytes(spoilt)
    log, inbox = SessionLog.reopen(tmp_path, SESSION), Inbox(SESSION)
    stored = replay(log, inbox)
    assert len(log.damaged) == 1
    assert not stored.whole
    assert inbox.standing().under_way == (m.Received(0, ((0, 100), (200, 512))),)
    log.append([pieces[1]])
    assert log.payload(0, len(ENCODING)) == ENCODING
    log.close()


def test_what_a_log_says_twice_or_of_nothing_changes_nothing(tmp_path: Path) -> None:
    again = message_record(examples.PLAN)
    strange = message_record(m.LayerVerdict(7, m.Verdict.SHOWN))
    log, _, stored = replayed(tmp_path, again, strange, message_record(m.Pause()), piece(0, 512))
    log.close()
    assert stored.plans == [examples.PLAN]
    assert stored.whole == {0: OFFER}
    assert not stored.judged


def test_a_proven_layer_is_known_whether_its_bytes_are_there_or_not(tmp_path: Path) -> None:
    verdict = message_record(m.LayerVerdict(0, m.Verdict.VERIFIED))
    log, _, stored = replayed(tmp_path, piece(0, 100), verdict)
    log.close()
    assert stored.judged == {0: OFFER}
    assert not stored.whole
    log, _, stored = replayed(tmp_path, piece(0, 512), verdict, message_record(m.Want(0)))
    log.close()
    assert not stored.judged
