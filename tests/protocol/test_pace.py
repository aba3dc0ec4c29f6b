"""A site's own limit, and whose turn it is; virtual time."""

from __future__ import annotations

import pytest

from protocol import limits
from protocol.pace import Pace


def test_without_a_limit_everything_may_leave_at_once() -> None:
    pace = Pace()
    pace.on_sent(1 << 20, 1.0)
    assert pace.has_room(1.0)
    assert pace.opens_s() is None
    assert pace.fragment_bytes == limits.MAX_FRAGMENT_BYTES


def test_frames_leave_as_if_over_a_line_of_that_rate() -> None:
    pace, now_s, sent = Pace(256e3), 5.0, 0
    while now_s < 65.0:
        while pace.has_room(now_s):
            pace.on_sent(2000, now_s)
            sent += 2000
        opens_s = pace.opens_s()
        assert opens_s is not None
        assert opens_s > now_s
        now_s = opens_s
    assert sent * 8 / 60 == pytest.approx(256e3, rel=0.01)


def test_time_without_work_is_not_saved_up() -> None:
    pace = Pace(80e3)
    assert pace.has_room(100.0)
    pace.on_sent(10_000, 100.0)
    assert not pace.has_room(100.9)
    assert pace.opens_s() == pytest.approx(101.0)
    assert pace.has_room(101.0)


def test_whoever_is_held_sends_nothing_and_time_alone_does_not_change_that() -> None:
    pace = Pace(1e6)
    pace.held = True
    assert not pace.has_room(1.0)
    assert pace.opens_s() is None
    pace.on_sent(10_000, 1.0)
    assert not pace.has_room(1.01)
    assert pace.opens_s() is None
    pace.held = False
    assert pace.has_room(2.0)


def test_a_limit_that_is_lifted_holds_nobody_up() -> None:
    pace = Pace(64e3)
    pace.on_sent(80_000, 1.0)
    assert not pace.has_room(2.0)
    pace.rate_bps = None
    assert pace.has_room(2.0)
    assert pace.opens_s() is None


@pytest.mark.parametrize(("rate_bps", "fragment"), [(8e3, 1024), (1e6, 2000), (8e6, 16_000)])
def test_a_fragment_is_16_ms_of_the_rate_and_a_kilobyte_at_least(
    rate_bps: float, fragment: int
) -> None:
    assert Pace(rate_bps).fragment_bytes == fragment
