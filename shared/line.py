"""One direction of a link, as a model: what it does with what is handed to it, and when.

Nothing here tells time, draws from a shared source of chance or touches a socket: time is an
argument, chance is a seed, and the same calls give the same answers.

    handed over ->  queue  ->  bottleneck  ->  delay of rtt / 2, jitter  ->  arrived
                  (bounded)  (rate or trace)
                                    ^ lost by chance, when its time on the line is spent;
                                      lost in an outage: all that waits, and all that comes

What travels is a stream (`shared.line_stream`: loss and outages make it late) or datagrams
(`shared.line_datagrams`: loss is loss). The line knows no headers: it counts the bytes that it is
given. Losses are independent of each other; real ones come in bursts.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

from shared.link import SEGMENT_BYTES, Outage
from shared.trace import TracedBottleneck

if TYPE_CHECKING:
    from shared.link import LinkProfile

PACKET_BYTES = 1500
"""A full packet: an Ethernet MTU."""
OVERTAKEN_PACKETS = 8
"""A packet that is overtaken is late by the time of one to so many full packets."""


class Line:
    """One direction of a link, shared by everything that goes over it.

    The times given to the methods never go back. The line refuses nothing: its queue has its bound
    because a stream asks `ready_s` and waits, and because datagrams beyond it are dropped.
    """

    def __init__(self, profile: LinkProfile, seed: int, *, start_s: float = 0.0) -> None:
        """The line comes up at ``start_s``: a trace starts, and outages count, from there."""
        self.profile = profile
        self._start_s = start_s
        self._bottleneck = self._new_bottleneck()
        # Three sources, so that a link with jitter loses the same packets as one without.
        self._losses = random.Random(seed)
        self._delays, self._doubles = random.Random(f"delay {seed}"), random.Random(f"twice {seed}")
        self._packets_to_loss = self._draw_packets_to_loss()
        self.outages = tuple(
            Outage(start_s + outage.start_s, start_s + outage.stop_s) for outage in profile.outages
        )
        """In the time of the line's users."""
        self._begins_s = [outage.start_s for outage in self.outages]
        self._outages_begun = 0

    def send(self, now_s: float, size_bytes: int) -> float | None:
        """When the last of these bytes, handed over now, leaves; None if an outage takes them.

        An outage takes whatever is handed over while it lasts, or still waits when it begins.
        """
        begun = self._settle(now_s)
        if self.outage_end_s(now_s) is not None:
            return None
        sent_s = self._bottleneck.send(now_s, size_bytes)
        next_s = self._begins_s[begun] if begun < len(self._begins_s) else math.inf
        return sent_s if sent_s <= next_s else None

    def outage_end_s(self, now_s: float) -> float | None:
        """When the outage that there is now ends; None if the line is up."""
        begun = bisect_right(self._begins_s, now_s)
        stop_s = self.outages[begun - 1].stop_s if begun else -math.inf
        return stop_s if now_s < stop_s else None

    def lost_behind(self, packets: float) -> float | None:
        """How many of these packets get through before one is lost; None if none is.

        Counted on from the call before, over everything that uses the line.
        """
        if self._packets_to_loss >= packets:
            self._packets_to_loss -= packets
            return None
        through = self._packets_to_loss
        self._packets_to_loss = self._draw_packets_to_loss()
        return through

    def delay_s(self, packets: float = 1) -> float:
        """From leaving to arriving: of so many packets that leave together, the slowest."""
        delay_s = self.profile.rtt_s / 2
        if self.profile.jitter_s:
            delay_s += self.profile.jitter_s * self._delays.random() ** (1 / packets)
        return delay_s

    def overtaken_s(self, packets: float = 1) -> float:
        """How late one of so many packets is because others overtake it; mostly 0."""
        reorder = self.profile.reorder
        if not reorder or self._delays.random() >= 1 - (1 - reorder) ** packets:
            return 0.0
        packet_s = PACKET_BYTES * 8 / self.profile.rate_bps
        return packet_s * self._delays.uniform(1, OVERTAKEN_PACKETS)

    def is_doubled(self) -> bool:
        """Whether a packet arrives twice."""
        return bool(self.profile.duplicate) and self._doubles.random() < self.profile.duplicate

    def backlog_bytes(self, now_s: float) -> int:
        """Bytes that have not passed the bottleneck yet."""
        self._settle(now_s)
        return self._bottleneck.backlog_bytes(now_s)

    def ready_s(self, now_s: float, size_bytes: int = SEGMENT_BYTES) -> float:
        """The earliest time, now or later, at which the queue has room for so many bytes more.

        For what is larger than the whole queue there is room when the queue is empty.
        """
        self._settle(now_s)
        behind_bytes = max(0, self.profile.queue_limit_bytes - size_bytes)
        return max(now_s, self._bottleneck.drained_s(behind_bytes))

    def sibling(self) -> Line:
        """The same line with nobody else on it, and without losses by chance."""
        other = Line(self.profile, 0, start_s=self._start_s)
        other._packets_to_loss = math.inf
        return other

    def _settle(self, now_s: float) -> int:
        """How many outages have begun; what waited when the last one did is gone."""
        begun = bisect_right(self._begins_s, now_s)
        if begun > self._outages_begun:
            self._outages_begun = begun
            self._bottleneck = self._new_bottleneck()
        return begun

    def _new_bottleneck(self) -> _Bottleneck:
        if self.profile.trace:
            return TracedBottleneck(self.profile.trace, self._start_s)
        return _SteadyBottleneck(self.profile.rate_bps)

    def _draw_packets_to_loss(self) -> float:
        """How many packets get through before the next loss: geometric, so one draw a loss."""
        if self.profile.loss == 0:
            return math.inf
        unit = 1.0 - self._losses.random()  # above zero, for the logarithm
        return math.floor(math.log(unit) / math.log1p(-self.profile.loss))


class _Bottleneck(Protocol):
    """Sends bytes in turn; times never go back."""

    def send(self, now_s: float, size_bytes: int) -> float:
        """When the last of these bytes has left, behind those before them."""
        ...

    def backlog_bytes(self, now_s: float) -> int:
        """What has been handed over and has not left."""
        ...

    def drained_s(self, behind_bytes: int) -> float:
        """When no more than so many bytes are left, if none are added."""
        ...


class _SteadyBottleneck:
    """Sends bytes at a fixed rate."""

    def __init__(self, rate_bps: float) -> None:
        self._bytes_per_s = rate_bps / 8
        self._idle_s = -math.inf

    def send(self, now_s: float, size_bytes: int) -> float:
        self._idle_s = max(self._idle_s, now_s) + size_bytes / self._bytes_per_s
        return self._idle_s

    def backlog_bytes(self, now_s: float) -> int:
        return round(max(0.0, self._idle_s - now_s) * self._bytes_per_s)

    def drained_s(self, behind_bytes: int) -> float:
        return self._idle_s - behind_bytes / self._bytes_per_s
