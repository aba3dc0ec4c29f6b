"""The send window: how many bytes may be under way, from what acknowledgements tell.

Why the window is ours: kernels and data channels buffer seconds of a slow link, and what they hold
cannot be recalled, so an urgent layer would wait behind it. Whatever this window lets out is the
whole price of a change of mind.

The law is BBR's (Cardwell et al., 2016), cut down to a window: the best delivery rate of the last
eight round trips times the smallest round trip of the last ten seconds is what the link itself
holds. One round trip in eight the window is a quarter larger, to notice a link that became faster;
every ten seconds it is halved for one round trip, to see the round trip without our own queue.
Where packets are lost the window holds what the link carries during a stall as well (`stalls`);
after a silence it opens as at first, for a link that comes back may be another one. A transport
with a model of the path lets out no more than that takes: above it the window steps aside.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from protocol.stalls import Stalls, Swings

if TYPE_CHECKING:
    from collections.abc import Callable

_RATE_ROUNDS = 8
_RATE_WINDOW_MIN_S, _RATE_WINDOW_SWINGS_S = 0.5, 3.0
_RTT_WINDOW_S, _RTT_WINDOW_SWINGS_S = 10.0, 60.0
_PROBE_GAIN = 1.25
_STARTUP_RTT_FACTOR, _STARTUP_RTT_SLACK_S = 1.5, 0.010
_STARTUP_QUEUED_RTTS = 0.25
_STARTUP_GROWTH = 2
"""Of the window by what was acknowledged: faster than the kernel's own opening, which would else
find too little to send and take that for the link's rate."""
_FULL_RATE_GROWTH, _FULL_RATE_ROUNDS = 1.25, 3
_SILENCE_S, _SILENCE_RTTS = 0.5, 4.0
"""Without an acknowledgement for this long, whichever is more, the link may have changed."""
_FRAGMENT_S = 0.016
_PACKET_BYTES = 1380
"""Of a fragment in an Ethernet packet, behind the headers of IP, TCP, TLS, WebSocket and frame: a
little more would take a packet of its own, 2 % of a line of 1 Mbit/s."""
_FRAGMENT_MIN_BYTES, _FRAGMENT_PLAIN_BYTES = 1 << 10, 16 << 10
_FRAGMENT_SHARE = 8
"""Beyond 16 KiB a fragment is at most an eighth of what the link holds, or the window moves in
steps too coarse to keep the link full."""
_FIRST_FRAGMENT_BYTES = 2 << 10
_FIRST_WINDOW_BYTES = 16 << 10
TELLING_BYTES = 8 << 10
"""Greetings and manifests alone are delivered in round trips, whatever the link's rate."""
_SLACK_FRAGMENTS = 2.5
"""One is being put on the line, and two wait to be acknowledged together, of whole packets and thus
a little smaller than wanted. With fewer, the window
starves its own rate samples: two fill 88 % of a 1 Mbit/s link, one 60-80 %."""
_WINDOW_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _Sent:
    """A frame under way, and what had been delivered when it left."""

    end_bytes: int
    sent_s: float
    delivered_bytes: int
    delivered_s: float
    first_sent_s: float
    limited: bool
    """We had nothing more to send: its delivery says little of the link."""


class Window:
    """Of one sending session. Time is an argument; seconds on any one clock."""

    def __init__(self, *, max_fragment_bytes: int) -> None:
        self._max_fragment = max_fragment_bytes
        self._flight: deque[_Sent] = deque()
        self._sent_bytes = 0
        self._delivered_bytes = 0
        self._delivered_s = 0.0
        self._first_sent_s = 0.0
        self._limited_bytes = -1
        self._rates: deque[tuple[float, float]] = deque()  # (time, bytes/s), falling
        self._rtts: deque[tuple[float, float]] = deque()  # (time, s), rising
        self._stalls = Stalls()
        self._swings = Swings()
        self._anew_s = -inf
        """When it was last opened after a silence; what left before tells of the silence."""
        self._queued_s = inf
        """Since when round trips have shown a queue, while opening."""
        self._opened_bytes = 0
        self._startup_bytes: int | None = _FIRST_WINDOW_BYTES
        self._full_rate, self._full_rounds, self._round_end = 0.0, 0, 0
        self._cycle_s = 0.0
        self._drained_s = 0.0
        self.losses: Callable[[], int | None] = lambda: None
        """Retransmissions of the transport so far, where it can tell."""
        self.is_held_below = False
        """The transport itself lets out no more than the path takes; set once, at the start."""

    @property
    def in_flight_bytes(self) -> int:
        """Sent and not yet acknowledged."""
        return self._sent_bytes - self._delivered_bytes

    @property
    def is_telling(self) -> bool:
        """Whether enough has been delivered for the rate to say something of the link."""
        return self._delivered_bytes >= TELLING_BYTES

    @property
    def waiting_since_s(self) -> float | None:
        """When the oldest frame that is not acknowledged left; None where there is none."""
        return self._flight[0].sent_s if self._flight else None

    @property
    def rate_bps(self) -> float:
        """The best recent delivery rate in bits per second; 0 before the first acknowledgement."""
        return self._rates[0][1] * 8 if self._rates else 0.0

    @property
    def rtt_s(self) -> float:
        """The smallest recent round trip; 0 before the first acknowledgement."""
        return self._rtts[0][1] if self._rtts else 0.0

    @property
    def fragment_bytes(self) -> int:
        """How large the next fragment's content may be: 16 ms of the link, whole packets."""
        wanted = self._wanted_bytes
        whole = wanted >= _PACKET_BYTES and not self.is_held_below
        return wanted - wanted % _PACKET_BYTES if whole else wanted

    @property
    def _wanted_bytes(self) -> int:
        rate = self.rate_bps / 8
        share = max(_FRAGMENT_PLAIN_BYTES, int(rate * self.rtt_s / _FRAGMENT_SHARE))
        wanted = min(int(rate * _FRAGMENT_S), share, self._max_fragment)
        least = _FRAGMENT_MIN_BYTES if self._startup_bytes is None else _FIRST_FRAGMENT_BYTES
        return max(least, wanted)

    def size_bytes(self, now_s: float) -> int:
        """How many bytes may be under way now."""
        if self.is_held_below:
            return _WINDOW_MAX_BYTES
        if self._startup_bytes is not None:
            return self._startup_bytes
        rtt = self.rtt_s
        slack = int(_SLACK_FRAGMENTS * self._wanted_bytes) + int(self.rate_bps / 8 * self.stall_s)
        holds = self.rate_bps / 8 * rtt
        if self._draining(now_s):
            return int(max(holds / 2, slack))
        phase = int((now_s - self._cycle_s) / max(rtt, 1e-3)) % _RATE_ROUNDS
        if phase == 0:
            # The slack is a probe in itself: on a short or slow link it is all there need be.
            slack = max(slack, int((_PROBE_GAIN - 1) * holds) + self.fragment_bytes)
        return min(int(holds) + slack, _WINDOW_MAX_BYTES)

    @property
    def stall_s(self) -> float:
        """What the window holds beside a round trip, against stalls."""
        return max(self._stalls.longest_s(self.rtt_s), self._swings_s)

    @property
    def _swings_s(self) -> float:
        return self._swings.slack_s(self.rate_bps / 8)

    def has_room(self, now_s: float) -> bool:
        """Whether another fragment may leave."""
        return self.in_flight_bytes + self.fragment_bytes <= self.size_bytes(now_s)

    def on_sent(self, size_bytes: int, now_s: float) -> None:
        """A frame of this size leaves."""
        if not self._flight:
            self._delivered_s = self._first_sent_s = now_s
        self._sent_bytes += size_bytes
        self._flight.append(
            _Sent(
                self._sent_bytes,
                now_s,
                self._delivered_bytes,
                self._delivered_s,
                self._first_sent_s,
                self._delivered_bytes <= self._limited_bytes,
            )
        )

    def on_idle(self) -> None:
        """There was room and nothing to send: what is under way now will not fill the link."""
        self._limited_bytes = self._sent_bytes
        self._swings.on_idle()

    def on_ack(self, received_bytes: int, rtt_s: float, now_s: float) -> None:
        """The peer has received this many frame bytes in all; its newest took ``rtt_s``.

        The caller has checked that no more is acknowledged than was sent.
        """
        if received_bytes <= self._delivered_bytes:
            return
        acked = received_bytes - self._delivered_bytes
        gap_s = self._gap_s(now_s)
        if self._startup_bytes is None and self._delivered_bytes >= self._opened_bytes:
            # Opening may well have filled the link's queue: what was lost then says nothing.
            self._swings.on_ack(acked, now_s)
            held = min(int(self.rate_bps / 8 * gap_s), self.in_flight_bytes)
            self._stalls.on_ack(gap_s, acked, held, self.losses(), now_s)
        if gap_s > max(_SILENCE_S, _SILENCE_RTTS * self.rtt_s):
            self._begin_anew(gap_s, now_s)
        newest: _Sent | None = None
        while self._flight and self._flight[0].end_bytes <= received_bytes:
            newest = self._flight.popleft()
        self._delivered_bytes, self._delivered_s = received_bytes, now_s
        self._push_rtt(rtt_s, now_s)
        if newest is None:
            return
        self._first_sent_s = newest.sent_s
        elapsed = max(now_s - newest.delivered_s, newest.sent_s - newest.first_sent_s, 1e-6)
        rate = (received_bytes - newest.delivered_bytes) / elapsed
        if not newest.limited or rate * 8 > self.rate_bps:
            self._push_rate(rate, now_s)
        if self._startup_bytes is not None:
            if not self._shows_queue(rtt_s):
                grown = self._startup_bytes + _STARTUP_GROWTH * acked
                self._startup_bytes = min(grown, _WINDOW_MAX_BYTES)
            self._leave_startup(newest, rtt_s, now_s)

    def _shows_queue(self, rtt_s: float) -> bool:
        return rtt_s > _STARTUP_RTT_FACTOR * self.rtt_s + _STARTUP_RTT_SLACK_S

    def _leave_startup(self, newest: _Sent, rtt_s: float, now_s: float) -> None:
        """Stop doubling once a queue shows, or once the rate no longer grows."""
        has_queue = self._shows_queue(rtt_s)
        if not has_queue or newest.sent_s <= self._anew_s:
            self._queued_s = inf
            if has_queue:
                return
        self._queued_s = min(self._queued_s, now_s)
        # For a while: a single slow one may have waited behind a lost packet.
        queued = now_s - self._queued_s > _STARTUP_QUEUED_RTTS * self.rtt_s
        if newest.end_bytes > self._round_end:
            self._round_end = self._sent_bytes
            if self.rate_bps > self._full_rate * _FULL_RATE_GROWTH:
                self._full_rate, self._full_rounds = self.rate_bps, 0
            elif not newest.limited:
                self._full_rounds += 1
        if queued or self._full_rounds >= _FULL_RATE_ROUNDS:
            self._startup_bytes = None
            self._opened_bytes = self._sent_bytes
            self._cycle_s = now_s - self.rtt_s  # begin behind the probing phase
            self._drained_s = now_s

    def _gap_s(self, now_s: float) -> float:
        """How long nothing has been acknowledged while something was under way."""
        return now_s - self._delivered_s

    def _begin_anew(self, gap_s: float, now_s: float) -> None:
        """After a silence: open from here as at first; what was seen before it has not aged."""
        if self._startup_bytes is None:
            self._startup_bytes = self.size_bytes(now_s)
            self._full_rate, self._full_rounds, self._round_end = 0.0, 0, self._sent_bytes
            self._queued_s = inf
        self._anew_s = now_s
        self._rates = deque((at_s + gap_s, rate) for at_s, rate in self._rates)

    def _draining(self, now_s: float) -> bool:
        """Every ten seconds, for one round trip: let our own queue run empty."""
        if now_s - self._drained_s > _RTT_WINDOW_S + self.rtt_s:
            self._drained_s = now_s
        return self._drained_s > 0 and now_s - self._drained_s < self.rtt_s

    def _push_rate(self, rate: float, now_s: float) -> None:
        round_s = self.rtt_s + self.stall_s
        least_s = _RATE_WINDOW_SWINGS_S if self._swings_s else _RATE_WINDOW_MIN_S
        window_s = max(_RATE_ROUNDS * round_s, least_s)
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((now_s, rate))
        while self._rates[0][0] < now_s - window_s:
            self._rates.popleft()

    def _push_rtt(self, rtt_s: float, now_s: float) -> None:
        while self._rtts and self._rtts[-1][1] >= rtt_s:
            self._rtts.pop()
        self._rtts.append((now_s, rtt_s))
        # A link that swings is seldom seen without a queue, which must not pass for its length.
        window_s = _RTT_WINDOW_SWINGS_S if self._swings_s else _RTT_WINDOW_S
        while self._rtts[0][0] < now_s - window_s:
            self._rtts.popleft()
