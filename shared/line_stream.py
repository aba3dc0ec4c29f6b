"""A reliable ordered stream over a line, as TCP makes one: what is lost comes late.

Loss and reordering are stalls here: what is lost comes once more a round trip later, and everything
behind it waits. In an outage nothing comes until TCP tries again: RFC 6298 has it wait twice as
long each time, so that after 5 s of silence it may be another 3 s before it looks. That is what a
session which opens a second connection is ahead of, so each connection has a stream of its own.

What is not modelled: TCP's response to congestion. A real sender slows down after a loss (CUBIC was
measured at 19 % of a 5 Mbit/s link with 100 ms RTT and 1 % loss, BBR at 93 %) and starts slowly
after an outage; here it never does, so on a lossy link this is a sender that keeps the line full.
Nor is a retransmission that waits for a timer because nothing followed it, or one that a long stall
of a recorded link provokes in vain. Packets that arrive twice cost a stream nothing. What an outage
took is sent again beside the line's other traffic, not in its queue: by at most a queue and a
window more than the line would carry.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared.link import SEGMENT_BYTES

if TYPE_CHECKING:
    from shared.line import Line

RTO_MIN_S = 0.2
"""Linux: a retransmission time-out is the round trip and at least so much."""
RTO_MAX_S = 120.0
"""Linux: no time-out doubles beyond it."""
SYN_RTO_S = 1.0
"""RFC 6298, section 2: before a round trip has been measured."""


class LineStream:
    """One direction of one connection."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.profile = line.profile
        self._rto_s = self.profile.rtt_s + RTO_MIN_S
        self._repairs = line.sibling()
        self.resumes_s = -math.inf
        """Until then nothing more is sent: something before it waits to be sent again."""
        self._delivered_s = -math.inf

    def open(self, now_s: float) -> float:
        """When the packet that asks for a connection, sent now, arrives; it weighs nothing."""
        return self._arrive(self._send(now_s, 0, SYN_RTO_S), packets=1, stall_s=0.0)

    def deliver(self, now_s: float, size_bytes: int) -> float:
        """When the last of these bytes, handed over now, arrives at the other end.

        They fill packets of their own: one byte is one packet, and as easily lost.
        """
        sent_s = self._send(now_s, size_bytes, self._rto_s)
        packets = left = float(max(1, math.ceil(size_bytes / SEGMENT_BYTES)))
        stall_s = run_s = 0.0
        while (through := self.line.lost_behind(left)) is not None:
            # The packets before the lost one are through. It is sent again, and may be lost again;
            # losses of different packets recover side by side.
            left -= through
            run_s = self.profile.rtt_s + (run_s if through == 0 else 0.0)
            stall_s = max(stall_s, run_s)
            sent_s = max(sent_s, self._send(now_s, min(size_bytes, SEGMENT_BYTES), self._rto_s))
        return self._arrive(sent_s, packets, stall_s)

    def backlog_bytes(self, now_s: float) -> int:
        """Bytes that have not passed the bottleneck yet, other streams' included."""
        return self.line.backlog_bytes(now_s)

    def ready_s(self, now_s: float, size_bytes: int = SEGMENT_BYTES) -> float:
        """The earliest time, now or later, at which the stream takes so many bytes more.

        When the queue has room for them, and not before what an outage took is sent again.
        """
        return max(self.line.ready_s(now_s, size_bytes), self.resumes_s)

    def _send(self, now_s: float, size_bytes: int, rto_s: float) -> float:
        """When the last of these bytes leaves, for good; what an outage takes leaves again."""
        if now_s < self.resumes_s:  # behind what is lost already
            first_s, sent_s = self.resumes_s, self._repairs.send(self.resumes_s, size_bytes)
        else:
            first_s, sent_s = now_s, self.line.send(now_s, size_bytes)
        while sent_s is None:
            first_s = self.resumes_s = self._next_try_s(first_s, rto_s)
            sent_s = self._repairs.send(first_s, size_bytes)
        return sent_s

    def _next_try_s(self, sent_s: float, rto_s: float) -> float:
        """When a packet gets through that was sent then, and was taken by an outage."""
        outage = next(
            outage
            for outage in self.line.outages
            if outage.stop_s > sent_s  # it is under way, or begins before the packet has left
        )
        try_s, wait_s = max(sent_s, outage.start_s), rto_s
        while self.line.outage_end_s(try_s) is not None:
            try_s += wait_s
            wait_s = min(2 * wait_s, RTO_MAX_S)
        return try_s

    def _arrive(self, sent_s: float, packets: float, stall_s: float) -> float:
        late_s = stall_s + self.line.overtaken_s(packets)
        arrives_s = sent_s + self.line.delay_s(packets) + late_s
        self._delivered_s = max(self._delivered_s, arrives_s)
        return self._delivered_s
