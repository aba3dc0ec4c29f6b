"""The connections of one session: which of them has it, and what all of them have brought.

A line that stalls is not closed at once: the sender tries another beside it. The session goes with
the newest generation that has brought anything; those before it are retired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol import messages as m
    from receiver.visit import Visit
    from shared.errors import MedroiError
    from shared.transports.base import TransportStats
    from shared.trust.proof import Proven


class Visits:
    """Of one session."""

    def __init__(self) -> None:
        self.there: list[Visit] = []
        """Those that are open, the newest last."""
        self._generation = 0
        """The one that has the session."""
        self._left_bytes = 0
        self.stats: TransportStats | None = None
        """Of the newest connection."""
        self.peer: str | None = None
        """What the key is called that the newest WebSocket has proven; None where there is none."""

    @property
    def received_bytes(self) -> int:
        """All frame bytes of all connections so far."""
        return self._left_bytes + sum(each.connection.received_bytes for each in self.there)

    def join(self, visit: Visit) -> None:
        """A connection is there; it is the newest."""
        self.there.append(visit)
        self.stats = visit.transport.stats()
        proven: Proven | None = getattr(visit.transport, "proven", None)  # not of a data channel
        self.peer = proven.key_name if proven else self.peer

    def leave(self, visit: Visit) -> None:
        """A connection is over, or belongs to another session now."""
        self.there.remove(visit)
        self._left_bytes += visit.connection.received_bytes
        self.stats = visit.transport.stats()

    def is_late(self, visit: Visit) -> bool:
        """Whether a newer connection than this one has the session."""
        return visit.generation < self._generation

    def go_with(self, visit: Visit) -> None:
        """A connection has brought something: if it is a newer one, those before it are retired."""
        if visit.generation > self._generation:
            self._generation = visit.generation
            for other in self.there:
                if other is not visit:
                    other.retire()

    def say(self, message: m.Answer) -> None:
        """Tell the sender, over every connection."""
        for visit in self.there:
            visit.say(message)

    async def part(self, error: MedroiError | None) -> None:
        """End all connections, for that reason if there is one.

        All of them have it to say before any is waited for: one that is dead takes its time.
        """
        there = list(self.there)
        for visit in there:
            visit.leave(error)
        for visit in there:
            await visit.last_words()
