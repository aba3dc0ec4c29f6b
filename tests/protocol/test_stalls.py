"""What acknowledgements tell of lost packets and of a rate that swings."""

from __future__ import annotations

import pytest

from protocol.stalls import Stalls, Swings

RATE = 125_000.0
"""Bytes a second, of 1 Mbit/s."""
RTT_S = 0.1


def stalled(*, gap_s: float = 0.2, share: float = 1.0, losses: int | None = 1) -> Stalls:
    """After one silence, behind which so much of what the link carries came at once."""
    stalls = Stalls()
    stalls.on_ack(0.016, 2000, 2000, 0 if losses is not None else None, 1.0)
    held = int(RATE * gap_s)
    stalls.on_ack(gap_s, int(held * share), held, losses, 1.0 + gap_s)
    return stalls


def test_a_silence_with_a_loss_and_a_burst_behind_it_is_a_stall() -> None:
    assert stalled().longest_s(RTT_S) == pytest.approx(1.3 * 0.2)


def test_where_the_transport_cannot_tell_the_burst_is_enough() -> None:
    assert stalled(losses=None).longest_s(RTT_S) > 0.2


@pytest.mark.parametrize(
    "stalls",
    [
        pytest.param(stalled(losses=0), id="nothing was sent again"),
        pytest.param(stalled(share=0.5), id="little came behind it"),
        pytest.param(stalled(gap_s=0.05), id="a busy machine"),
    ],
)
def test_other_silences_are_none(stalls: Stalls) -> None:
    assert stalls.longest_s(RTT_S) == 0


def test_a_burst_may_come_in_pieces_but_not_late() -> None:
    for pause_s, counts in ((0.004, True), (0.030, False)):
        stalls = Stalls()
        stalls.on_ack(0.2, 9000, 25_000, None, 1.0)
        stalls.on_ack(pause_s, 15_000, 500, None, 1.0 + pause_s)
        assert (stalls.longest_s(RTT_S) > 0) is counts


def test_a_stall_is_forgotten_after_ten_seconds_and_never_counts_for_too_much() -> None:
    stalls = stalled(gap_s=3.0)
    assert stalls.longest_s(RTT_S) == pytest.approx(3.5 * RTT_S + 0.05)
    stalls.on_ack(0.016, 2000, 2000, 1, 20.0)
    assert stalls.longest_s(RTT_S) == 0


def swung(*spans: float, idle: bool = False) -> float:
    """The slack after ten seconds of these shares of the rate, in turn, fifth by fifth."""
    swings, now_s = Swings(), 0.0
    while now_s < 10.0:
        for share in spans:
            for _ in range(10):
                now_s += 0.02
                swings.on_ack(int(RATE * 0.02 * share), now_s)
                if idle and share < 1:
                    swings.on_idle()
    return swings.slack_s(RATE)


def test_a_rate_that_swings_is_given_slack_and_a_steady_one_none() -> None:
    # What may wait is what leaves in 0.35 s at the mean rate, here 0.77 of the best.
    assert swung(1.0, 1.0, 0.3) == pytest.approx(0.35 * 2.3 / 3, rel=0.05)
    assert swung(1.0, 0.9, 0.7) == 0
    assert swung(*[1.0] * 9, 0.0) == 0  # one in ten is a hiccup


def test_a_line_without_work_does_not_swing() -> None:
    assert swung(1.0, 1.0, 0.1, idle=True) == 0


def test_nothing_is_said_before_enough_was_seen() -> None:
    swings = Swings()
    for tick in range(100):
        swings.on_ack(10, tick * 0.02)
    assert swings.slack_s(RATE) == 0
