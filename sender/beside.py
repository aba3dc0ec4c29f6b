"""What the files held beside the voxels: it goes last, in pieces, proven like everything else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.stages import STAGES, UNFOCUSED, Priority
from sender.encode import encode_bytes
from sender.offers import piece_offer
from shared.layer import LayerKey, Quality

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.outbox import Outbox
    from sender.keeping import Keeping
    from sender.ledger import Ledger
    from sender.prepare import Series
    from sender.spool import Spooled
    from shared.workers import Workers

_PIECE_BYTES = 8 << 20


class Beside:
    """The headers layers of one study, offered through one outbox."""

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        keeping: Keeping,
        workers: Workers,
        wake: Callable[[], None],
    ) -> None:
        """
        Args:
            wake: there is something new in the outbox.
        """
        self._outbox = outbox
        self._ledger = ledger
        self._keeping = keeping
        self._workers = workers
        self._wake = wake
        self._offered: dict[int, tuple[m.LayerOffer, bytes]] = {}
        """They may be asked for once more."""
        self._settled: dict[int, m.LayerOffer] = {}
        """They too, should they not stay right at the receiver."""
        self._made: set[LayerKey] = set()
        self.is_due = True
        """Some may not be made; whoever makes them says that they are."""

    async def make(self, number: int, series: Series) -> None:
        """Encode, keep and offer the pieces of a series that are not made yet."""
        content = await self._workers.run(series.volume.attachment)
        for block, start in enumerate(range(0, len(content), _PIECE_BYTES)):
            key = LayerKey(number, m.HEADERS_REGION, Quality.EXACT, block)
            if key in self._made:
                continue
            piece = content[start : start + _PIECE_BYTES]
            encoded = await self._workers.run(encode_bytes, piece)
            offer = piece_offer(self._outbox.reserve(), key, encoded, len(piece))
            self._ledger.headers_encoded(offer)
            await self._keeping.put(offer, encoded)
            self._offer(offer, encoded.payload)

    def restore(self, each: Spooled, *, settled: bool) -> None:
        """A piece that an earlier process has made."""
        self._made.add(each.offer.key)
        self._ledger.headers_encoded(each.offer)
        if settled:
            self._settled[each.offer.number] = each.offer
        else:
            self._offer(each.offer, each.payload)

    def settle(self, number: int) -> None:
        """The receiver has a piece, if the number is one's."""
        if number in self._offered:
            self._settled[number], _ = self._offered.pop(number)

    def again(self, number: int) -> m.LayerOffer | None:
        """A piece is to come once more, under another number; the former offer, or None where the
        number is not one's. One that was settled is made anew."""
        if number in self._settled:
            lost = self._settled.pop(number)
            self._made.discard(lost.key)
            self.is_due = True
            return lost
        if number not in self._offered:
            return None
        offer, payload = self._offered.pop(number)
        self._offer(replace(offer, number=self._outbox.reserve()), payload)
        return offer

    def _offer(self, offer: m.LayerOffer, payload: bytes) -> None:
        self._offered[offer.number] = offer, payload
        self._made.add(offer.key)
        place = len(STAGES) - 1
        priority = Priority(UNFOCUSED, offer.key.series, place, 0, 0, offer.key.block)
        self._outbox.put(offer, payload, priority)
        self._wake()
