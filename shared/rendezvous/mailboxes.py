"""Who waits at which mailbox, and the newest line of each: pure, with time as an argument.

A line goes to everybody else at its mailbox at once, and to whoever joins within ten minutes, but
only while the end that put it there is still connected: an offer is of use as long as who made it
waits. So there is one line for each end and mailbox, a newer one takes its place, and it goes with
its end. Nothing is ever on a disk.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.errors import RemoteProtocolError, TransportClosed
from shared.transports.webrtc.sealed import LIFE_S

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

MAX_MAILBOXES = 8192
MAX_MEMBERS = 16
"""At one mailbox: the two ends of a pair, several studies side by side, and connections of either
that are dead without anybody knowing it yet."""
MAX_KEPT = 4096
"""Lines in all, 16 MB; one more takes the oldest one's place."""
BURST_LINES, LINES_PER_S = 30, 1.0
"""Of one connection. An end puts one line for each channel that is to be made."""

_End = TypeVar("_End", bound="Hashable")


@dataclass(slots=True)
class _Place:
    """Of one end."""

    names: tuple[bytes, ...]
    allowance: float
    counted_s: float


@dataclass(frozen=True, slots=True)
class _Kept:
    line: str
    put_s: float


class Mailboxes(Generic[_End]):
    """All of one rendezvous. ``now_s`` never goes backwards."""

    def __init__(self) -> None:
        self._places: dict[_End, _Place] = {}
        self._members: dict[bytes, list[_End]] = {}
        self._kept: OrderedDict[tuple[bytes, _End], _Kept] = OrderedDict()
        """Oldest first."""

    def __len__(self) -> int:
        """Mailboxes at which somebody waits."""
        return len(self._members)

    @property
    def kept(self) -> int:
        """Lines in memory."""
        return len(self._kept)

    def join(self, end: _End, names: Sequence[bytes], now_s: float) -> list[tuple[int, str]]:
        """Take an end in; the lines that wait for it, oldest first, each with which mailbox.

        Raises:
            TransportClosed: there is no room, now.
        """
        self.forget(now_s)
        fresh = sum(name not in self._members for name in names)
        crowded = any(len(self._members.get(name, ())) >= MAX_MEMBERS for name in names)
        if len(self._members) + fresh > MAX_MAILBOXES or crowded:
            raise TransportClosed("there is no room at the rendezvous")
        self._places[end] = _Place(tuple(names), BURST_LINES, now_s)
        for name in names:
            self._members.setdefault(name, []).append(end)
        which = {name: number for number, name in enumerate(names)}
        return [(which[name], kept.line) for (name, _), kept in self._kept.items() if name in which]

    def put(self, end: _End, which: int, line: str, now_s: float) -> list[tuple[_End, int]]:
        """Leave a line at a mailbox; who is to have it now, each with which mailbox of its own.

        Raises:
            RemoteProtocolError: this end says too much.
        """
        self.forget(now_s)
        place = self._places[end]
        earned = (now_s - place.counted_s) * LINES_PER_S
        place.allowance, place.counted_s = min(BURST_LINES, place.allowance + earned), now_s
        if place.allowance < 1:
            raise RemoteProtocolError("the peer puts lines faster than anybody needs them")
        place.allowance -= 1
        name = place.names[which]
        self._kept.pop((name, end), None)
        self._kept[name, end] = _Kept(line, now_s)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        others = (other for other in self._members[name] if other != end)
        return [(other, self._places[other].names.index(name)) for other in others]

    def leave(self, end: _End) -> None:
        """An end is gone, and its lines with it; nothing happens where it had not joined."""
        place = self._places.pop(end, None)
        for name in place.names if place else ():
            self._kept.pop((name, end), None)
            members = self._members[name]
            members.remove(end)
            if not members:
                del self._members[name]

    def forget(self, now_s: float) -> None:
        """Drop the lines that are too old to be taken."""
        while self._kept:
            oldest = next(iter(self._kept))
            if now_s - self._kept[oldest].put_s < LIFE_S:
                return
            del self._kept[oldest]
