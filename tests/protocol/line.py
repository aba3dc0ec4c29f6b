"""Two connections over a modelled line, on a clock moved by hand: no loop, no transport.

Each direction has a delay and a rate; events are handled in the order of their time. Good for the
protocol alone; whole transfers run in `tests.endtoend`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.events import Event
    from protocol.inbox import Inbox
    from protocol.outbox import Outbox
    from protocol.receiving import ReceivingConnection
    from protocol.sending import SendingConnection


@dataclass
class Line:
    """A sender and a receiver, and what is on the line between them."""

    sender: SendingConnection
    receiver: ReceivingConnection
    rate_bps: float
    rtt_s: float
    outbox: Outbox
    inbox: Inbox
    now_s: float = 0.0
    on_sender: Callable[[Event], None] = lambda event: None
    on_receiver: Callable[[Event], None] = lambda event: None
    arrived: list[tuple[float, Event]] = field(default_factory=list)
    """Everything the receiver was told, with its time."""
    frames: list[tuple[float, bytes]] = field(default_factory=list)
    """Every frame that reached the receiver, with its time."""
    _due: list[tuple[float, int, str, Any]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _free_s: dict[str, float] = field(default_factory=lambda: {"up": 0.0, "down": 0.0})

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._due, (time_s, next(self._order), "act", act))

    def run(self, until_s: float) -> None:
        """Let time pass."""
        self._pump()
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, what, item = heapq.heappop(self._due)
            if what == "up":
                self.frames.append((self.now_s, item))
                for event in self.receiver.receive_frame(item, self.now_s):
                    self.arrived.append((self.now_s, event))
                    self.on_receiver(event)
            elif what == "down":
                for event in self.sender.receive_frame(item, self.now_s):
                    self.on_sender(event)
            elif what == "act":
                item()
            self._pump()
        self.now_s = until_s

    def _pump(self) -> None:
        for way, end in (("up", self.sender), ("down", self.receiver)):
            while (frame := end.next_frame(self.now_s)) is not None:
                start_s = max(self.now_s, self._free_s[way])
                self._free_s[way] = start_s + len(frame) * 8 / self.rate_bps
                arrives_s = self._free_s[way] + self.rtt_s / 2
                heapq.heappush(self._due, (arrives_s, next(self._order), way, frame))
        for end in (self.sender, self.receiver):
            if (timer_s := end.next_timer_s()) is not None:
                heapq.heappush(self._due, (timer_s, next(self._order), "timer", None))
