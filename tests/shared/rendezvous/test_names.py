from __future__ import annotations

import pytest

from shared.rendezvous.names import MOST_NAMES, NAME_BYTES, mailbox_names, names_last_s
from shared.transports.webrtc.sealed import SKEW_S
from shared.trust.keys import SharedKey

KEY, OTHER = SharedKey("ours", bytes(range(32))), SharedKey("theirs", bytes(32))
MIDNIGHT_S = 20_000 * 86_400


def test_a_name_is_what_was_written_down_once() -> None:
    """Ends of two versions must meet."""
    assert [name.hex() for name in mailbox_names(KEY, MIDNIGHT_S + 43_200)] == [
        "890024ae92347034ffb4a3a2aeb908e63df57730c79d0a6a0efdb533a9ee71c1"
    ]


def test_names_change_with_the_day_and_the_key_but_not_with_what_it_is_called() -> None:
    noon_s = MIDNIGHT_S + 43_200
    renamed = SharedKey("elsewhere", KEY.secret)
    names = [mailbox_names(KEY, noon_s + day * 86_400)[0] for day in range(3)]
    assert len({*names, *mailbox_names(OTHER, noon_s)}) == 4
    assert mailbox_names(renamed, noon_s) == (names[0],)
    assert all(len(name) == NAME_BYTES for name in names)


@pytest.mark.parametrize("apart_s", [0, SKEW_S, 2 * SKEW_S])
def test_two_ends_whose_clocks_differ_always_have_a_mailbox_in_common(apart_s: int) -> None:
    for at_s in range(MIDNIGHT_S - 3 * SKEW_S, MIDNIGHT_S + 3 * SKEW_S, 20):
        near, far = mailbox_names(KEY, at_s), mailbox_names(KEY, at_s + apart_s)
        assert set(near) & set(far)
        assert len(near) <= MOST_NAMES


def test_names_are_good_until_they_change_and_not_a_second_longer() -> None:
    now_s = MIDNIGHT_S + 43_200.0
    seen = []
    for _ in range(4):
        last_s = names_last_s(now_s)
        assert last_s > 0
        assert mailbox_names(KEY, now_s + last_s - 1) == mailbox_names(KEY, now_s)
        now_s += last_s
        seen.append(len(mailbox_names(KEY, now_s)))
    assert seen == [2, 1, 2, 1]
