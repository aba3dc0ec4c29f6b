"""The path's model, against a modelled path: one bottleneck, a queue, a delay; virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from shared.transports.webrtc.path import Departure, PathModel, Phase

PACKET = 1160
MBPS = 1e6 / 8
Rate = Callable[[float], float]


@dataclass
class Run:
    """A sender that always has packets, and what became of them."""

    rate: Rate
    rtt_s: float = 0.1
    loss: float = 0.0
    model: PathModel = field(default_factory=lambda: PathModel(packet_bytes=PACKET))
    now_s: float = 5.0
    in_flight_bytes: int = 0
    delivered: list[tuple[float, float]] = field(default_factory=list)
    """When each was sent, and how long it waited in the queue."""
    phases: set[Phase] = field(default_factory=set)
    _is_timed: bool = False
    _free_s: float = 0.0
    _next_s: float = 0.0
    _due: list[tuple[float, int, Departure | None]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def until(self, end_s: float) -> Run:
        self._send()
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, departure = heapq.heappop(self._due)
            if departure is None:
                self._is_timed = False
            else:
                self.in_flight_bytes -= PACKET
                self.model.on_arrival(departure, self.now_s, again=False)
                self.model.settle(self.now_s, self.in_flight_bytes)
                self.phases.add(self.model.phase)
            self._send()
        self.now_s = end_s
        return self

    def share(self, start_s: float, end_s: float) -> float:
        came = sum(PACKET for sent_s, _ in self.delivered if start_s <= sent_s < end_s)
        return came / (end_s - start_s) / self.rate(end_s)

    def queue_s(self, start_s: float) -> float:
        """The median wait of packets that left since then."""
        waits = sorted(wait_s for sent_s, wait_s in self.delivered if sent_s >= start_s)
        return waits[len(waits) // 2]

    def _send(self) -> None:
        model = self.model
        while self.in_flight_bytes < model.window_bytes:
            if model.pace and self._next_s > self.now_s + 1e-9:
                if not self._is_timed:
                    self._is_timed = True
                    heapq.heappush(self._due, (self._next_s, next(self._order), None))
                return
            if model.pace:
                self._next_s = max(self._next_s, self.now_s) + PACKET / model.pace
            departure = model.depart(PACKET, self.now_s, self.in_flight_bytes)
            self.in_flight_bytes += PACKET
            rate = self.rate(max(self.now_s, self._free_s))
            start_s = max(self.now_s, self._free_s)
            self._free_s = start_s + PACKET / rate
            arrives_s = self._free_s + self.rtt_s
            if self._chance.random() < self.loss:
                # Repaired a round trip later: to the model it is a packet that was late.
                arrives_s += self.rtt_s
            else:
                self.delivered.append((self.now_s, start_s - self.now_s))
            heapq.heappush(self._due, (arrives_s, next(self._order), departure))


def steady(rate: float) -> Rate:
    return lambda now_s: rate


@pytest.mark.parametrize("mbps", [0.064, 1, 5, 20, 50])
@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_it_fills_a_steady_path_and_keeps_its_queue_short(mbps: float, loss: float) -> None:
    run = Run(steady(mbps * MBPS), loss=loss).until(25.0)
    assert run.model.phase in (Phase.CRUISE, Phase.LOOK)
    assert run.share(10.0, 24.0) > 0.93 * (1 - loss)
    assert run.queue_s(10.0) < max(0.03, 2.5 * PACKET / (mbps * MBPS))


def test_the_first_packets_leave_in_a_round_trip_whatever_a_handshake_has_shown() -> None:
    model = PathModel(packet_bytes=PACKET)
    assert model.pace == 0
    assert model.window_bytes == 10 * PACKET
    departure = model.depart(33, 1.0, 0)
    model.on_arrival(departure, 1.1, again=False)
    model.settle(1.1, 0)
    assert model.rate < 1000
    assert model.pace >= 10 * PACKET / 0.1


def test_it_finds_a_rate_that_has_risen_and_one_that_has_fallen() -> None:
    def rate(now_s: float) -> float:
        return (2 if now_s < 15 else 10 if now_s < 30 else 1) * MBPS

    run = Run(rate).until(20.0)
    assert run.model.rate == pytest.approx(10 * MBPS, rel=0.1)
    run.until(40.0)  # what waits at a tenth of the rate has to leave first, 1.2 s a round trip
    assert run.model.rate == pytest.approx(1 * MBPS, rel=0.15)


def test_it_looks_for_the_round_trip_when_it_has_not_seen_it_for_long() -> None:
    run = Run(steady(MBPS)).until(6.0)
    run.rtt_s = 0.15
    assert Phase.LOOK not in run.phases
    run.until(45.0)
    assert Phase.LOOK in run.phases
    assert run.model.rtt_s == pytest.approx(0.15, abs=0.02)


def test_where_the_rate_swings_more_may_wait_than_on_a_steady_path() -> None:
    chance = random.Random(3)
    rates = [chance.choice((0.5, 2.0, 6.0)) * MBPS for _ in range(200)]
    swinging = Run(lambda now_s: rates[int(now_s * 3) % 200]).until(30.0)
    calm = Run(steady(3 * MBPS)).until(30.0)
    holds = swinging.model.rate * swinging.model.rtt_s
    assert swinging.model.window_bytes > 1.7 * holds
    assert calm.model.window_bytes < 1.5 * calm.model.rate * calm.model.rtt_s


def test_what_is_measured_across_a_silence_does_not_lower_the_rate() -> None:
    run = Run(steady(5 * MBPS)).until(15.0)
    before = run.model.rate
    model = run.model
    late = model.depart(PACKET, 15.0, 0)
    model.on_silence(16.0)
    model.on_arrival(late, 20.0, again=False)
    model.settle(20.0, 0)
    assert model.rate == before
    assert model.rtt_s < 0.2


def test_a_sender_without_work_does_not_lower_the_rate() -> None:
    run = Run(steady(5 * MBPS)).until(15.0)
    model, before = run.model, run.model.rate
    for tick in range(30):
        now_s = 15.0 + tick * 0.1
        model.on_idle(0)
        departure = model.depart(100, now_s, 0)
        model.on_arrival(departure, now_s + 0.1, again=False)
        model.settle(now_s + 0.1, 0)
    assert model.rate > 0.9 * before


def test_a_queue_ends_the_opening_even_of_a_sender_that_lacks_work_now_and_then() -> None:
    run = Run(steady(5 * MBPS))
    for tick in range(1, 100):
        run.until(5.0 + tick * 0.03)
        run.model.on_idle(run.in_flight_bytes)
    assert run.model.phase is not Phase.STARTUP


def test_the_window_has_its_bounds() -> None:
    assert Run(steady(2000)).until(30.0).model.window_bytes >= 4 * PACKET
    assert Run(steady(500 * MBPS), rtt_s=0.6).until(12.0).model.window_bytes <= 4 << 20
