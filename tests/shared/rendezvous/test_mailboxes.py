"""The mailboxes of a rendezvous, with ends that are words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_ends_do_lines_keep_to_their_mailbox_and_nobody_who_left_is_remembered(
    data: st.DataObject,
) -> None:
    boxes: Mailboxes[int] = Mailboxes()
    joined: dict[int, tuple[bytes, ...]] = {}
    put_s: dict[tuple[int, bytes], float] = {}
    now_s = 0.0
    names = st.lists(st.sampled_from([A, B, C]), min_size=1, unique=True)
    for number in range(data.draw(st.integers(1, 30))):
        now_s += data.draw(st.sampled_from([0.0, 1.0, LIFE_S / 3, LIFE_S]))
        if not joined or (len(joined) < MAX_MEMBERS and data.draw(st.booleans())):
            joined[number] = tuple(data.draw(names))
            for which, line in boxes.join(number, joined[number], now_s):
                maker, name = int(line), joined[number][which]
                assert now_s - put_s[maker, name] < LIFE_S
                assert maker in joined
        elif data.draw(st.booleans()):
            end = data.draw(st.sampled_from(sorted(joined)))
            which = data.draw(st.integers(0, len(joined[end]) - 1))
            name = joined[end][which]
            heard = boxes.put(end, which, str(end), now_s)
            others = {each for each, theirs in joined.items() if name in theirs} - {end}
            assert {other for other, _ in heard} == others
            assert all(joined[other][theirs] == name for other, theirs in heard)
            put_s[end, name] = now_s
        else:
            end = data.draw(st.sampled_from(sorted(joined)))
            boxes.leave(end)
            del joined[end]
        assert len(boxes) == len({name for theirs in joined.values() for name in theirs})
        assert boxes.kept <= sum(len(theirs) for theirs in joined.values())
    for end in joined:
        boxes.leave(end)
    assert (len(boxes), boxes.kept) == (0, 0)
