"""The mailboxes of a rendezvous, with ends that are words."""

from __future__ import annotations

import pytest

from shared.errors import RemoteProtocolError, TransportClosed
from shared.rendezvous import mailboxes
from shared.rendezvous.mailboxes import BURST_LINES, MAX_MEMBERS, Mailboxes
from shared.transports.webrtc.sealed import LIFE_S

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def test_a_line_goes_to_everybody_else_at_its_mailbox_by_their_own_numbers() -> None:
    boxes: Mailboxes[str] = Mailboxes()
    boxes.join("sender", [A], 0)
    boxes.join("clinic", [C, A], 0)
    boxes.join("stranger", [B, C], 0)
    assert boxes.put("sender", 0, "offer", 1) == [("clinic", 1)]
    assert boxes.put("clinic", 1, "answer", 1) == [("sender", 0)]
    assert boxes.put("clinic", 0, "else", 1) == [("stranger", 1)]


def test_who_comes_later_finds_the_newest_line_of_each_end_that_still_waits() -> None:
    boxes: Mailboxes[str] = Mailboxes()
    boxes.join("one", [A], 0)
    boxes.join("two", [A], 0)
    boxes.join("gone", [A], 0)
    boxes.put("one", 0, "old", 1)
    boxes.put("two", 0, "of two", 2)
    boxes.put("one", 0, "new", 3)
    boxes.put("gone", 0, "nobody waits behind this", 4)
    boxes.leave("gone")
    assert boxes.join("clinic", [B, A], 5) == [(1, "of two"), (1, "new")]


def test_a_line_is_forgotten_after_ten_minutes_whether_anybody_comes_or_not() -> None:
    boxes: Mailboxes[str] = Mailboxes()
    boxes.join("sender", [A], 0)
    boxes.put("sender", 0, "offer", 0)
    boxes.forget(LIFE_S - 1)
    assert boxes.kept == 1
    assert boxes.join("late", [A], LIFE_S) == []
    boxes.put("sender", 0, "offer", LIFE_S)
    boxes.forget(2 * LIFE_S)
    assert boxes.kept == 0


def test_an_end_that_leaves_leaves_nothing() -> None:
    boxes: Mailboxes[str] = Mailboxes()
    boxes.join("sender", [A, B], 0)
    boxes.put("sender", 0, "offer", 0)
    boxes.put("sender", 1, "offer", 0)
    boxes.leave("sender")
    boxes.leave("never came")
    assert (len(boxes), boxes.kept) == (0, 0)


def test_an_end_that_says_more_than_channels_need_is_refused_until_it_has_waited() -> None:
    boxes: Mailboxes[str] = Mailboxes()
    boxes.join("sender", [A], 0)
    for _ in range(BURST_LINES):
        boxes.put("sender", 0, "offer", 0)
    with pytest.raises(RemoteProtocolError, match="faster than anybody needs"):
        boxes.put("sender", 0, "offer", 0.5)
    assert boxes.put("sender", 0, "offer", 1.5) == []
    assert boxes.kept == 1


def test_a_full_mailbox_and_a_full_rendezvous_take_nobody_and_are_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxes: Mailboxes[int] = Mailboxes()
    for end in range(MAX_MEMBERS):
        boxes.join(end, [A], 0)
    with pytest.raises(TransportClosed, match="no room"):
        boxes.join(99, [B, A], 0)
    assert len(boxes) == 1
    monkeypatch.setattr(mailboxes, "MAX_MAILBOXES", 2)
    with pytest.raises(TransportClosed, match="no room"):
        boxes.join(99, [B, C], 0)
    boxes.leave(99)
    assert boxes.join(99, [B], 0) == []


def test_of_too_many_lines_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAX_KEPT", 2)
    boxes: Mailboxes[str] = Mailboxes()
    for number, end in enumerate(("one", "two", "three")):
        boxes.join(end, [A], 0)
        boxes.put(end, 0, f"of {end}", number)
    assert boxes.join("clinic", [A], 5) == [(0, "of two"), (0, "of three")]
