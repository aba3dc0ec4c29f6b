"""How long a lost packet holds up what is behind it, from what acknowledgements tell.

On an ordered stream a lost packet stops delivery for a round trip or more; then all that came
behind it is delivered at once. A window of what the link holds is empty long before that, and the
line idles: at 1 % loss such a window was measured to fill 40-70 % of a link that the kernel's BBR
fills to 93 %. So the window has to hold as much more as the link carries during a stall. Where no
packet is lost it must not, for it would stand in the link's queue.

A stall is a silence, followed within 15 ms by more than two thirds of what the link carries in it
or of all that was under way, and a retransmission by the transport meanwhile where it can tell.
"""

from __future__ import annotations

from collections import deque
from math import inf

_USUAL_S = 0.060
"""Between two acknowledgements: 20 ms of delay, two fragments of 16 ms, a busy machine."""
_TRAIN_S = 0.015
_TRAIN_SHARE = 0.7
_KEPT_S = 10.0
"""A longest stall counts for so long: a thin link at 1 % loss has one a second."""
_GAIN = 1.3
"""The next one may be longer."""
_MOST_RTTS, _MOST_MORE_S = 3.5, 0.050


_SPAN_S, _SPANS, _LEAST_SPANS = 0.2, 50, 10
_SLOW_SHARE = 0.5
_UNEVEN_SHARE = 0.15
_SWINGS_KEPT_S = 60.0
"""A window that was cut down to a slow moment delivers evenly, and hides what the link could do."""
_UNEVEN_S = 0.35
"""What the window holds beside a round trip on a link whose rate swings."""


class Swings:
    """Whether a link's rate swings, as that of a moving telephone does, from what was delivered.

    A window of the best rate and one round trip is empty before such a link is fast again: on the
    LTE recordings it filled 55-67 % of them. A link swings if in more than a seventh of the last
    ten seconds it delivered less than half of what it can, and for a minute from then on.
    """

    def __init__(self) -> None:
        self._spans: deque[int] = deque(maxlen=_SPANS)
        self._start_s = 0.0
        self._bytes = 0
        self._idle = True
        self._swung_s = -inf

    def on_idle(self) -> None:
        """There is nothing to send: what is delivered now says nothing of the link."""
        self._idle = True

    def on_ack(self, acked_bytes: int, now_s: float) -> None:
        """Bytes were acknowledged."""
        if self._idle or now_s - self._start_s > _SPAN_S * _SPANS:
            self._start_s, self._bytes, self._idle = now_s, 0, False
        while now_s - self._start_s >= _SPAN_S:
            self._spans.append(self._bytes)
            self._start_s += _SPAN_S
            self._bytes = 0
        self._bytes += acked_bytes

    def slack_s(self, rate: float) -> float:
        """What the window should hold beside a round trip, in seconds of the rate, bytes/s."""
        if len(self._spans) >= _LEAST_SPANS:
            slow = sum(span < _SLOW_SHARE * rate * _SPAN_S for span in self._spans)
            if slow > _UNEVEN_SHARE * len(self._spans):
                self._swung_s = self._start_s
        if self._start_s - self._swung_s >= _SWINGS_KEPT_S or rate <= 0:
            return 0.0
        # What waits leaves at the mean rate, so it is the mean that says how much may wait.
        mean = sum(self._spans) / (len(self._spans) * _SPAN_S)
        return _UNEVEN_S * min(1.0, mean / rate)


class Stalls:
    """Of one connection. Time is an argument."""

    def __init__(self) -> None:
        self._gaps: deque[tuple[float, float]] = deque()  # (time, s), falling
        self._train_s = self._train_gap_s = 0.0
        self._train_bytes = self._held_bytes = 0
        self._losses = 0

    def on_ack(
        self, gap_s: float, acked_bytes: int, held_bytes: int, losses: int | None, now_s: float
    ) -> None:
        """Bytes were acknowledged, so long after the ones before them.

        Args:
            held_bytes: what the link carries in that time, or all that was under way if less.
            losses: retransmissions of the transport so far; None where it cannot tell.
        """
        if gap_s > _USUAL_S:
            self._train_s, self._train_gap_s = now_s, gap_s
            self._train_bytes, self._held_bytes = 0, held_bytes
        if self._train_gap_s and now_s - self._train_s <= _TRAIN_S:
            self._train_bytes += acked_bytes
            lost = losses is None or losses > self._losses
            if lost and self._train_bytes >= _TRAIN_SHARE * self._held_bytes:
                self._push(self._train_gap_s, now_s)
                self._train_gap_s = 0.0
        else:
            self._train_gap_s = 0.0
            self._losses = losses or 0
        while self._gaps and self._gaps[0][0] < now_s - _KEPT_S:
            self._gaps.popleft()

    def longest_s(self, rtt_s: float) -> float:
        """What the window should hold beside a round trip, in seconds of the link's rate."""
        if not self._gaps:
            return 0.0
        return min(_GAIN * self._gaps[0][1], _MOST_RTTS * rtt_s + _MOST_MORE_S)

    def _push(self, gap_s: float, now_s: float) -> None:
        while self._gaps and self._gaps[-1][1] <= gap_s:
            self._gaps.pop()
        self._gaps.append((now_s, gap_s))
