"""Which packets of an association have come: the receiving half of SCTP's acknowledgements.

aiortc sorts and filters all that waits behind a gap, several times a packet: where a thousand wait,
as at 20 Mbit/s behind a packet that was lost twice, it takes a millisecond for each, and the
machine is what limits the link. Here they are ranges, and a packet costs what one range does.

Pure: numbers are transmission sequence numbers (TSN) of 32 bits, compared as RFC 1982 says.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING

from aiortc.rtcsctptransport import SCTP_TSN_MODULO

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_GAP = 0xFFFF
"""How far beyond the cumulative number a gap block can name: 16 bits (RFC 9260, section 3.3.4)."""
MAX_GAPS = 250
"""In one acknowledgement, which is one packet."""


class Received:
    """Of one association's peer."""

    def __init__(self, last_tsn: int) -> None:
        """``last_tsn``: the one before its first."""
        self.last_tsn = last_tsn
        """All up to this one have come."""
        self._passed = 0
        """How many ``last_tsn`` has passed; places below count from the first of all."""
        self._starts: list[int] = []
        self._ends: list[int] = []  # of ranges beyond a gap, both inclusive, in order

    def add(self, tsn: int) -> bool:
        """Note one; whether it is new."""
        ahead = (tsn - self.last_tsn) % SCTP_TSN_MODULO
        if not 0 < ahead < SCTP_TSN_MODULO // 2:
            return False
        place = self._passed + ahead
        at = bisect_right(self._starts, place)
        if at and place <= self._ends[at - 1]:
            return False
        joins_left = at > 0 and self._ends[at - 1] == place - 1
        joins_right = at < len(self._starts) and self._starts[at] == place + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif joins_left:
            self._ends[at - 1] = place
        elif joins_right:
            self._starts[at] = place
        else:
            self._starts.insert(at, place)
            self._ends.insert(at, place)
        if self._starts[0] == self._passed + 1:
            self._pass_to(self._ends.pop(0))
            del self._starts[0]
        return True

    def __len__(self) -> int:
        """How many gaps there are."""
        return len(self._starts)

    def passed_since(self, tsn: int) -> Iterator[int]:
        """Those behind this one, up to the last that all have come before."""
        for ahead in range(1, (self.last_tsn - tsn) % SCTP_TSN_MODULO + 1):
            yield (tsn + ahead) % SCTP_TSN_MODULO

    def gaps(self) -> list[tuple[int, int]]:
        """The ranges beyond a gap, as an acknowledgement names them: from the last TSN on."""
        ranges = islice(zip(self._starts, self._ends, strict=True), MAX_GAPS)
        passed = self._passed
        return [
            (start - passed, min(end - passed, MAX_GAP))
            for start, end in ranges
            if start - passed <= MAX_GAP
        ]

    def _pass_to(self, place: int) -> None:
        self.last_tsn = (self.last_tsn + place - self._passed) % SCTP_TSN_MODULO
        self._passed = place
