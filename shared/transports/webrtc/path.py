"""The congestion control of a data channel: a model of the path, from what arrives and when.

aiortc's own is RFC 9260's: a lost packet halves the window. On a long path with chance losses that
leaves most of the link empty (measured: 23 % of 5 Mbit/s at 100 ms and 1 % loss). This one asks how
much the path delivers and how long that takes at best, and lets no more be under way than that
needs; a loss is repaired and says nothing about the rate. The law is BBR's (Cardwell et al.,
"BBR: Congestion-Based Congestion Control", 2016; draft-cardwell-iccrg-bbr-congestion-control):

    STARTUP ----> DRAIN ----> CRUISE <----> LOOK, every ten seconds:
    x 2.77 a      until the   the rate      the path half empty, to see its round trip
    round trip    queue is    times 1.25,
                  gone        0.75, 1 x 6

It differs where thin and mobile links made BBR slow or late (`tests/bench/datachannel.py`):

- A queue that was there for a whole round trip means that the path delivered all it could in it. So
  a rate from before is forgotten after three such rounds, where BBR keeps it for ten.
- Where the rates of such rounds differ by a third, the path is unsteady: more may wait in front of
  it, or its better moments find nothing to carry.
- A probe's queue is let run empty, for up to four round trips: behind a thin link it is what an
  urgent frame waits for.
- Handshakes are delivered in round trips, whatever the path could do: until more has been seen, ten
  packets a round trip may leave. A pace set by them held the first data back for two seconds.
- What was measured across a silence tells of the silence. After an outage the link is full at once.

It is not fair to a halving control on the same bottleneck, and no fairer than BBR.

Pure: no clock, no socket. Sizes are those of user data; seconds are of any one clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

_STARTUP_GAIN = 2.77
_CYCLE_GAINS = (1.25, 0.75, *6 * (1.0,))
_DRAIN_ROUNDS = 4
_PROBE, _DRAINED, _WATCH = 0, 2, 2  # places in the cycle
_STEADY_WINDOW_GAIN, _WINDOW_GAIN = 1.25, 2.0
_UNSTEADY_GAIN = 1.5
_FULL_GROWTH, _FULL_ROUNDS = 1.25, 3
_RISEN = 1.15
"""So much more behind a probe, and no queue: the path has become another one, and is searched."""
_RATE_ROUNDS, _BUSY_ROUNDS, _RATE_WINDOW_S = 10, 3, 0.5
_QUEUE_FACTOR, _QUEUE_SLACK_S = 1.25, 0.010
"""A round trip above the smallest by this is a queue."""
_STEADY_ROUNDS, _STEADY_SHARE = 16, 0.7
_RTT_WINDOW_S, _LOOK_EVERY_S, _LOOK_S = 30.0, 10.0, 0.2
_SEEN_FACTOR = 1.05
"""A round trip as good as the smallest: there is no need to look."""
_FIRST_PACKETS, _LEAST_PACKETS, _SPARE_PACKETS = 10, 4, 3
_MOST_BYTES = 4 << 20


class Phase(Enum):
    """What the model is doing."""

    STARTUP = auto()
    DRAIN = auto()
    CRUISE = auto()
    LOOK = auto()


@dataclass(slots=True)
class Departure:
    """One packet on its way, and how much had been delivered when it left."""

    size_bytes: int
    sent_s: float
    delivered_bytes: int
    delivered_s: float
    first_sent_s: float
    limited: bool
    """There was not enough to send: what it shows of the rate is only that it is no smaller."""


class PathModel:
    """Of one direction of one path."""

    def __init__(self, *, packet_bytes: int) -> None:
        self.phase = Phase.STARTUP
        self._packet_bytes = packet_bytes
        self._delivered_bytes = 0
        self._delivered_s = self._first_sent_s = 0.0
        self._limited_bytes = -1
        self._silence_s = -math.inf
        self._newest: Departure | None = None
        self._rates: deque[tuple[int, float, float]] = deque()  # (round, time, bytes/s), falling
        self._rtts: deque[tuple[float, float]] = deque()  # (time, s), rising
        self._seen_s = 0.0  # when a round trip was last as good as the smallest
        self._round, self._round_s, self._round_end_bytes = 0, 0.0, 0
        self._round_least_s, self._round_most_s = math.inf, 0.0
        self._was_busy = self._was_clear = False  # the last round: a queue throughout, or never
        self._capacities: deque[float] = deque(maxlen=_STEADY_ROUNDS)  # bytes/s of busy rounds
        self._full_rate, self._full_rounds = 0.0, 0
        self._cycle, self._cycle_s, self._probed_rate = 0, 0.0, math.inf
        self._looks_until_s: float | None = None

    # -- what it says -----------------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """What the path delivers, bytes of user data per second; 0 before anything has come."""
        return self._rates[0][2] if self._rates else 0.0

    @property
    def rtt_s(self) -> float:
        """The smallest round trip of half a minute; 0 before the first."""
        return self._rtts[0][1] if self._rtts else 0.0

    @property
    def pace(self) -> float:
        """At how many bytes per second packets may leave; 0 while there is nothing to go by."""
        rate = self.rate
        if self._rtts and self.phase is Phase.STARTUP:
            # What a handshake delivers is delivered in round trips, whatever the path could do.
            rate = max(rate, _FIRST_PACKETS * self._packet_bytes / self.rtt_s)
        return self._gain() * rate

    @property
    def window_bytes(self) -> int:
        """How much may be under way."""
        holds = self.rate * self.rtt_s
        if not holds:
            return _FIRST_PACKETS * self._packet_bytes
        match self.phase:
            case Phase.LOOK:
                wanted, least = holds / 2, _LEAST_PACKETS
            case Phase.STARTUP:
                wanted, least = _STARTUP_GAIN * holds, _FIRST_PACKETS
            case Phase.DRAIN | Phase.CRUISE:
                wanted = (_WINDOW_GAIN if self._is_unsteady else _STEADY_WINDOW_GAIN) * holds
                wanted, least = wanted + _SPARE_PACKETS * self._packet_bytes, _LEAST_PACKETS
        return min(max(int(wanted), least * self._packet_bytes), _MOST_BYTES)

    def _gain(self) -> float:
        match self.phase:
            case Phase.STARTUP:
                return _STARTUP_GAIN
            case Phase.DRAIN:
                return 1 / _STARTUP_GAIN
            case Phase.LOOK:
                return 1.0
            case Phase.CRUISE:
                return _UNSTEADY_GAIN if self._is_unsteady else _CYCLE_GAINS[self._cycle]

    @property
    def _is_limited(self) -> bool:
        return self._delivered_bytes <= self._limited_bytes

    @property
    def _is_unsteady(self) -> bool:
        capacities = self._capacities
        return bool(capacities) and min(capacities) < _STEADY_SHARE * max(capacities)

    # -- what it is told --------------------------------------------------------------------------

    def depart(self, size_bytes: int, now_s: float, in_flight_bytes: int) -> Departure:
        """A packet leaves, for the first time or again; ``in_flight_bytes`` are without it."""
        if not in_flight_bytes:
            self._delivered_s = self._first_sent_s = now_s
        return Departure(
            size_bytes,
            now_s,
            self._delivered_bytes,
            self._delivered_s,
            self._first_sent_s,
            self._is_limited,
        )

    def on_idle(self, in_flight_bytes: int) -> None:
        """There was room, and nothing to send."""
        self._limited_bytes = self._delivered_bytes + in_flight_bytes

    def on_silence(self, now_s: float) -> None:
        """Nothing has come for so long that something is wrong: an outage, or all is lost."""
        self._silence_s = now_s

    def on_arrival(self, departure: Departure, now_s: float, *, again: bool) -> None:
        """The peer has this packet; `settle` follows, once for all of one acknowledgement.

        ``again``: it had been sent more than once, so that nobody knows which one has arrived.
        """
        self._delivered_bytes += departure.size_bytes
        self._delivered_s = now_s
        if self._newest is None or departure.sent_s >= self._newest.sent_s:
            self._newest = departure
        if not again and departure.sent_s > self._silence_s:
            self._note_rtt(now_s - departure.sent_s, now_s)

    def settle(self, now_s: float, in_flight_bytes: int) -> None:
        """Draw the conclusions of one acknowledgement."""
        newest, self._newest = self._newest, None
        if newest is None:
            return
        ends_round = newest.delivered_bytes >= self._round_end_bytes
        if ends_round:
            self._end_round(now_s)
        self._note_rate(newest, now_s)
        match self.phase:
            case Phase.STARTUP:
                if ends_round and newest.sent_s > self._silence_s:
                    self._watch_growth(limited=newest.limited)
            case Phase.DRAIN:
                if in_flight_bytes <= self.rate * self.rtt_s:
                    self._cruise(now_s, _DRAINED)
            case Phase.CRUISE:
                self._turn_cycle(now_s, in_flight_bytes)
            case Phase.LOOK:
                self._look(now_s, in_flight_bytes)

    # -- what it concludes ------------------------------------------------------------------------

    def _note_rtt(self, rtt_s: float, now_s: float) -> None:
        self._round_least_s = min(self._round_least_s, rtt_s)
        self._round_most_s = max(self._round_most_s, rtt_s)
        while self._rtts and self._rtts[-1][1] >= rtt_s:
            self._rtts.pop()
        self._rtts.append((now_s, max(rtt_s, 1e-4)))
        while self._rtts[0][0] < now_s - _RTT_WINDOW_S:
            self._rtts.popleft()
        if rtt_s <= _SEEN_FACTOR * self.rtt_s:
            self._seen_s = now_s

    def _note_rate(self, newest: Departure, now_s: float) -> None:
        # The slower of how it was sent and how it was acknowledged: acknowledgements come in heaps.
        took_s = max(now_s - newest.delivered_s, newest.sent_s - newest.first_sent_s)
        self._first_sent_s = newest.sent_s
        if took_s < self.rtt_s / 2 or took_s <= 0:
            return
        rate = (self._delivered_bytes - newest.delivered_bytes) / took_s
        tells_little = newest.sent_s <= self._silence_s or (newest.limited and not self._was_busy)
        if tells_little and rate <= self.rate:
            return
        while self._rates and self._rates[-1][2] <= rate:
            self._rates.pop()
        self._rates.append((self._round, now_s, rate))
        rounds = _BUSY_ROUNDS if self._was_busy else _RATE_ROUNDS
        while len(self._rates) > 1 and (
            self._rates[0][0] < self._round - rounds and self._rates[0][1] < now_s - _RATE_WINDOW_S
        ):
            self._rates.popleft()

    def _end_round(self, now_s: float) -> None:
        """All that was under way a round trip ago has come."""
        queue_s = _QUEUE_FACTOR * self.rtt_s + _QUEUE_SLACK_S
        self._was_busy = queue_s < self._round_least_s < math.inf
        self._was_clear = self._round_most_s < queue_s
        took_s = now_s - self._round_s
        spans_silence = self._round_s <= self._silence_s
        if self._was_busy and not spans_silence and self.phase is Phase.CRUISE and took_s > 0:
            self._capacities.append((self._delivered_bytes - self._round_end_bytes) / took_s)
        self._round += 1
        self._round_s, self._round_end_bytes = now_s, self._delivered_bytes
        self._round_least_s, self._round_most_s = math.inf, 0.0

    def _watch_growth(self, *, limited: bool) -> None:
        """Leave start-up once there is a queue, or the rate no longer grows by a quarter.

        A queue is one whoever made it; the rate of a sender without work need not grow.
        """
        if self.rate >= self._full_rate * _FULL_GROWTH:
            self._full_rate, self._full_rounds = self.rate, 0
        elif not limited:
            self._full_rounds += 1
        if self._was_busy or self._full_rounds >= _FULL_ROUNDS:
            self.phase = Phase.DRAIN

    def _cruise(self, now_s: float, cycle: int) -> None:
        self.phase, self._cycle, self._cycle_s = Phase.CRUISE, cycle, now_s

    def _turn_cycle(self, now_s: float, in_flight_bytes: int) -> None:
        """The next gain, a round trip later: but the extra is seen first, and drained first."""
        gain, holds, in_cycle_s = (
            _CYCLE_GAINS[self._cycle],
            self.rate * self.rtt_s,
            now_s - self._cycle_s,
        )
        is_over = in_cycle_s > self.rtt_s
        if gain > 1:
            is_seen = in_flight_bytes >= gain * holds or self._is_limited
            is_over = is_over and (is_seen or in_cycle_s > 3 * self.rtt_s)
        elif gain < 1:
            is_over = in_flight_bytes <= holds or in_cycle_s > _DRAIN_ROUNDS * self.rtt_s
        if not is_over:
            return
        has_risen = self.rate > _RISEN * self._probed_rate
        if self._cycle == _WATCH and self._was_clear and has_risen:
            self.phase, self._full_rate, self._full_rounds = Phase.STARTUP, 0.0, 0
        elif now_s - self._seen_s > _LOOK_EVERY_S:
            self.phase, self._looks_until_s = Phase.LOOK, None
        else:
            self._cruise(now_s, (self._cycle + 1) % len(_CYCLE_GAINS))
            if self._cycle == _PROBE:
                self._probed_rate = self.rate

    def _look(self, now_s: float, in_flight_bytes: int) -> None:
        """Stay until the path has been half empty for a round trip."""
        if self._looks_until_s is None:
            if in_flight_bytes <= self.window_bytes:
                self._looks_until_s = now_s + max(_LOOK_S, self.rtt_s)
        elif now_s >= self._looks_until_s:
            self._seen_s = now_s
            self._cruise(now_s, _DRAINED)
