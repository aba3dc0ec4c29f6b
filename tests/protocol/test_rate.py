"""The send window, fed by acknowledgements from a modelled link; virtual time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest

from protocol.rate import Window

MBPS = 1e6 / 8
PACKET = 1380
MAX_FRAGMENT = 64 << 10


@dataclass
class Sending:
    """A window that always has fragments to send, over a link that acknowledges each."""

    rate: float = MBPS
    rtt_s: float = 0.1
    window: Window = field(default_factory=lambda: Window(max_fragment_bytes=MAX_FRAGMENT))
    now_s: float = 10.0
    _free_s: float = 0.0
    _sent: deque[tuple[float, float, int]] = field(default_factory=deque)
    _total: int = 0
    worst_queue_s: float = 0.0

    def until(self, end_s: float) -> Sending:
        self._fill()
        while self._sent and self._sent[0][0] <= end_s:
            self.now_s, left_s, total = self._sent.popleft()
            self.window.on_ack(total, self.now_s - left_s, self.now_s)
            self._fill()
        self.now_s = end_s
        return self

    def _fill(self) -> None:
        while self.window.has_room(self.now_s):
            size = self.window.fragment_bytes
            self.window.on_sent(size, self.now_s)
            self._total += size
            begins_s = max(self.now_s, self._free_s)
            self.worst_queue_s = max(self.worst_queue_s, begins_s - self.now_s)
            self._free_s = begins_s + size / self.rate
            self._sent.append((self._free_s + self.rtt_s, self.now_s, self._total))


def test_it_finds_the_rate_and_the_round_trip() -> None:
    sending = Sending().until(20.0)
    assert sending.window.rate_bps == pytest.approx(1e6, rel=0.05)
    assert 0.1 <= sending.window.rtt_s < 0.13


def test_the_window_is_what_the_link_holds_and_three_fragments() -> None:
    window = Sending().until(20.0).window
    holds = MBPS * window.rtt_s
    assert holds < window.size_bytes(20.0) < holds + 4 * 0.016 * MBPS * 1.1


def test_what_waits_in_front_of_the_link_stays_short() -> None:
    sending = Sending().until(20.0)
    sending.worst_queue_s = 0.0
    sending.until(40.0)
    assert sending.worst_queue_s < 0.15


@pytest.mark.parametrize("mbps", [0.2, 1, 5])
def test_a_fragment_is_16_ms_of_the_link_in_whole_packets(mbps: float) -> None:
    window = Sending(rate=mbps * MBPS).until(20.0).window
    wanted = mbps * MBPS * 0.016
    if wanted < PACKET:
        assert window.fragment_bytes == pytest.approx(max(1024, wanted), rel=0.1)
    else:
        assert window.fragment_bytes % PACKET == 0
        assert 0 <= wanted * 1.05 - window.fragment_bytes < 1.2 * PACKET


def test_over_a_transport_that_holds_back_the_window_steps_aside() -> None:
    window = Window(max_fragment_bytes=MAX_FRAGMENT)
    window.is_held_below = True
    for _ in range(100):
        assert window.has_room(1.0)
        window.on_sent(10_000, 1.0)
    assert window.size_bytes(1.0) == 4 << 20


def test_opening_grows_faster_than_the_kernel_does() -> None:
    window = Window(max_fragment_bytes=MAX_FRAGMENT)
    first = window.size_bytes(1.0)
    window.on_sent(first, 1.0)
    window.on_ack(first, 0.1, 1.1)
    assert window.size_bytes(1.1) == 3 * first


def test_round_trips_across_a_silence_do_not_end_the_opening_behind_it() -> None:
    sending = Sending(rate=20 * MBPS).until(12.0)
    window = sending.window
    before = window.size_bytes(12.0)
    sent = sending._total
    late = [(size, 12.0 + n * 1e-3) for n, size in enumerate([10_000] * 6)]
    for size, at_s in late:
        window.on_sent(size, at_s)
        sent += size
    done = sent - sum(size for size, _ in late)
    for n, (size, at_s) in enumerate(late):  # a second of silence, then all of it, slowly
        done += size
        now_s = 13.0 + n * 0.05
        window.on_ack(done, now_s - at_s, now_s)
    assert window.size_bytes(13.3) > before


def test_a_sender_without_work_does_not_take_its_small_frames_for_the_rate() -> None:
    sending = Sending(rate=5 * MBPS).until(12.0)
    sending.until(12.0)
    window, total = sending.window, sending._total
    window.on_ack(total, 0.1, 12.2)
    for tick in range(40):
        now_s = 12.2 + tick * 0.2
        window.on_idle()
        window.on_sent(100, now_s)
        total += 100
        window.on_ack(total, 0.1, now_s + 0.1)
    assert window.rate_bps > 4e6
