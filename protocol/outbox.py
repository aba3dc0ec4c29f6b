"""What a sender has on offer: encodings, their order, and what of them is still to be sent.

It outlives connections. Each connection takes from it what its window lets out; when one broke, the
next begins with the receiver's statement (`messages.Standing`), and `rewind` makes of it what is
still to be sent: never a byte that the receiver says it has.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.frames import Fragment
from protocol.ranges import RangeSet
from shared.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from protocol.stages import Priority

_MAX_AGAIN = 64
"""Chunks of one session: a receiver that asks more often is broken, or has us send for ever."""
_HEAP_SLACK = 1024
"""Entries that no longer hold, beside one a layer, before the heap is made anew."""


@dataclass(slots=True)
class Outgoing:
    """One encoding on its way out."""

    offer: m.LayerOffer
    encoding: bytes
    priority: Priority
    todo: RangeSet
    """What has not been handed out, or has to be once more."""
    announced: bool = False
    """The receiver has its offer."""

    @property
    def number(self) -> int:
        """What fragments call it."""
        return self.offer.number

    @property
    def handed_out(self) -> bool:
        """Whether nothing of it waits to be sent."""
        return len(self.todo) == 0


class Outbox:
    """Of one session."""

    def __init__(self) -> None:
        self._layers: dict[int, Outgoing] = {}
        self._heap: list[tuple[Priority, int]] = []
        self._numbers = 0
        self._again = 0

    @property
    def unsettled(self) -> dict[int, int]:
        """Encodings that the receiver has not judged yet: number -> bytes not handed out yet."""
        return {number: out.todo.size() for number, out in self._layers.items()}

    @property
    def count(self) -> int:
        """How many encodings are not settled."""
        return len(self._layers)

    # -- the owner's calls --------------------------------------------------------------------

    def reserve(self) -> int:
        """A number for an encoding, used by none before."""
        self._numbers += 1
        return self._numbers - 1

    def put(self, offer: m.LayerOffer, encoding: bytes, priority: Priority) -> None:
        """Queue an encoding.

        Raises:
            LocalProtocolError: its number is taken, or it is not of the offered size.
        """
        if offer.number in self._layers or len(encoding) != offer.size_bytes:
            raise LocalProtocolError(f"encoding {offer.number} of {len(encoding)} bytes")
        self._numbers = max(self._numbers, offer.number + 1)
        todo = RangeSet.of([(0, offer.size_bytes)])
        self._layers[offer.number] = Outgoing(offer, encoding, priority, todo)
        heapq.heappush(self._heap, (priority, offer.number))

    def reprioritise(self, number: int, priority: Priority) -> None:
        """Move what is unsent of an encoding to another place; nothing if it is gone already."""
        out = self._layers.get(number)
        if out is None or out.handed_out or out.priority == priority:
            return
        out.priority = priority
        heapq.heappush(self._heap, (priority, number))
        if len(self._heap) > len(self._layers) + _HEAP_SLACK:  # a focus that moves to and fro
            self._sort()

    def drop(self, number: int) -> Outgoing | None:
        """Forget an encoding, settled or withdrawn; None if it is gone already."""
        return self._layers.pop(number, None)

    # -- what the receiver says ---------------------------------------------------------------

    def require_offered(self, number: int) -> None:
        """Raise unless an encoding of this number has been offered."""
        if number >= self._numbers:
            raise RemoteProtocolError(f"a message about encoding {number}, which was never offered")

    def repeat(self, ask: m.Again) -> None:
        """A chunk was wrong: send it once more.

        Raises:
            RemoteProtocolError: it is no chunk of an encoding, or too many have been asked for.
        """
        self.require_offered(ask.number)
        self._again += 1
        if self._again > _MAX_AGAIN:
            raise RemoteProtocolError("chunks keep being asked for again")
        out = self._layers.get(ask.number)
        if out is None:
            return
        start, step = ask.offset, limits.CHUNK_BYTES
        end = min(start + step, len(out.encoding))
        if start % step or start >= end or ask.size_bytes != end - start:
            raise RemoteProtocolError(
                f"bytes {start}+{ask.size_bytes} are not a chunk of {ask.number}"
            )
        out.todo.add(start, end)
        heapq.heappush(self._heap, (out.priority, ask.number))

    def from_the_start(self) -> None:
        """The receiver has nothing of anything."""
        for out in self._layers.values():
            out.announced, out.todo = False, RangeSet.of([(0, len(out.encoding))])
        self._sort()

    def rewind(self, standing: m.Standing) -> tuple[list[m.Message], list[m.Message]]:
        """Begin where the receiver stands.

        Returns:
            What it says of encodings, as verdicts and wants, for our owner; and what it must be
            told: encodings that it has of which we know nothing any more.

        Raises:
            RemoteProtocolError: it has more of an encoding than there is.
        """
        self._numbers = max(self._numbers, standing.next_number)
        settled = RangeSet.of(standing.settled)
        heard: list[m.Message] = [
            m.LayerVerdict(number, m.Verdict.VERIFIED)
            for number in list(self._layers)
            if number in settled and self.drop(number)
        ]
        for number in standing.wanted:  # it may have been settled before
            self.drop(number)
            heard.append(m.Want(number))
        under_way = {part.number: part.ranges for part in standing.under_way}
        for out in self._layers.values():
            out.announced = out.number in under_way
            out.todo = RangeSet.of([(0, len(out.encoding))])
            for start, stop in under_way.get(out.number, ()):
                if stop > len(out.encoding):
                    raise RemoteProtocolError(
                        f"{stop} bytes of encoding {out.number}, which has {len(out.encoding)}"
                    )
                out.todo.remove(start, stop)
        self._sort()
        strange = [m.Withdraw(number) for number in under_way if number not in self._layers]
        return heard, list(strange)

    # -- a connection's calls -----------------------------------------------------------------

    def most_urgent(self) -> Outgoing | None:
        """The layer whose turn it is; entries that no longer hold are dropped on the way."""
        while self._heap:
            priority, number = self._heap[0]
            out = self._layers.get(number)
            if out is None or out.handed_out or out.priority != priority:
                heapq.heappop(self._heap)
                continue
            if not out.announced:
                opened = [o for o in self._layers.values() if o.announced and not o.handed_out]
                if len(opened) >= limits.MAX_OPEN_LAYERS:
                    return min(opened, key=lambda o: o.priority)
            return out
        return None

    def cut(self, out: Outgoing, wanted_bytes: int) -> Fragment:
        """The next fragment of a layer; it never crosses from one chunk into the next."""
        span = out.todo.first()
        assert span is not None  # of a layer that is not handed out
        start, stop = span
        chunk_end = start - start % limits.CHUNK_BYTES + limits.CHUNK_BYTES
        stop = min(start + wanted_bytes, chunk_end, stop)
        out.todo.remove(start, stop)
        return Fragment(out.number, start, out.encoding[start:stop])

    def _sort(self) -> None:
        waiting = (out for out in self._layers.values() if not out.handed_out)
        self._heap = [(out.priority, out.number) for out in waiting]
        heapq.heapify(self._heap)
