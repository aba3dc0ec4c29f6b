from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from protocol.outbox import Outbox
from sender import beside as beside_module
from sender.beside import Beside
from sender.keeping import Keeping
from sender.ledger import Ledger
from sender.spool import Spooled
from shared.workers import InlineWorkers
from tests.sender.studies import brain, series_of

if TYPE_CHECKING:
    import pytest

    from protocol.messages import LayerOffer
    from sender.prepare import Series

CONTENT = b"what stands in headers " * 40


class Made:
    """Headers of one series on offer, and what was heard of it."""

    def __init__(self) -> None:
        self.outbox, self.woken = Outbox(), 0
        workers = InlineWorkers()
        keeping = Keeping(None, workers)
        self.beside = Beside(self.outbox, Ledger(1, 1), keeping, workers, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def make(self) -> None:
        asyncio.run(self.beside.make(0, with_headers()))

    def taken(self) -> list[tuple[LayerOffer, bytes]]:
        found = []
        while (out := self.outbox.most_urgent()) is not None:
            found.append((out.offer, self.outbox.cut(out, 1 << 20).content))
        return found


def with_headers() -> Series:
    series = series_of(brain())
    return replace(series, volume=replace(series.volume, attachment=lambda: CONTENT))


def test_pieces_are_offered_in_their_order_and_tell_what_they_decode_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside_module, "_PIECE_BYTES", 500)
    made = Made()
    made.make()
    offers = [offer for offer, _ in made.taken()]
    assert [offer.key.block for offer in offers] == [0, 1]
    assert [offer.decoded_bytes for offer in offers] == [500, len(CONTENT) - 500]
    assert offers[0].voxel_digest == hashlib.sha256(CONTENT[:500]).digest()
    assert made.woken == 2


def test_a_piece_that_an_earlier_process_made_is_not_made_again() -> None:
    first, second = Made(), Made()
    first.make()
    ((offer, payload),) = first.taken()
    second.beside.restore(Spooled(offer, payload, None), settled=True)  # type: ignore[arg-type]
    second.make()
    assert second.taken() == []
    third = Made()
    third.beside.restore(Spooled(offer, payload, None), settled=False)  # type: ignore[arg-type]
    third.make()
    assert third.taken() == [(offer, payload)]


def test_a_piece_comes_once_more_under_another_number_until_it_is_settled() -> None:
    made = Made()
    made.make()
    ((offer, payload),) = made.taken()
    made.outbox.drop(offer.number)
    assert made.beside.again(offer.number) == offer
    ((other, same),) = made.taken()
    assert (other.key, same) == (offer.key, payload)
    assert other.number != offer.number
    assert made.beside.again(99) is None


def test_a_piece_that_was_settled_is_made_anew_where_it_did_not_stay_right() -> None:
    made = Made()
    made.make()
    ((offer, payload),) = made.taken()
    made.outbox.drop(offer.number)
    made.beside.settle(offer.number)
    made.beside.is_due = False
    assert made.beside.again(offer.number) == offer
    assert made.beside.is_due
    made.make()
    ((other, same),) = made.taken()
    assert (other.key, same) == (offer.key, payload)
    assert other.number != offer.number
