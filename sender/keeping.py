"""A spool as the event loop meets it: off the loop, one write at a time, or none at all.

The order of what is kept is the order of what was asked; see `sender.spool` for what lies there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sender.spool import Grown, Outcome, Spooled
from shared.layer import Quality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from protocol.messages import LayerOffer
    from sender.encode import Encoded
    from sender.prepare import Series
    from sender.spool import Spool
    from shared.workers import Workers


class Kept(NamedTuple):
    """What an earlier process has left."""

    encodings: dict[int, Spooled]
    """By number; of one that is settled, and that nothing builds on, only the offer is there."""
    outcomes: dict[int, Outcome]
    plans: list[Grown]


class Keeping:
    """Of one study. Where the disk does not take it, the spool is removed and nothing kept any
    more: a restarted process must not go on with a part of what the receiver has heard of."""

    def __init__(
        self,
        spool: Spool | None,
        workers: Workers,
        on_lost: Callable[[OSError], None] = lambda why: None,
    ) -> None:
        """``on_lost``: there is no spool from now on; said once at most."""
        self._spool = spool
        self._workers = workers
        self._on_lost = on_lost
        self._writing = asyncio.Lock()

    async def put(self, offer: LayerOffer, encoded: Encoded) -> None:
        """An encoding, before anybody hears of it."""
        await self._write(lambda spool: spool.put(offer, encoded.payload, encoded.fidelity))

    async def put_plan(self, series: Series) -> None:
        """A plan that has grown, before anybody hears of it."""
        await self._write(lambda spool: spool.put_plan(_grown(series)))

    async def note(self, outcome: Outcome) -> None:
        """What became of an encoding."""
        await self._write(lambda spool: spool.note(outcome))

    async def start_over(self, session: bytes, study: Iterable[Series]) -> None:
        """Forget every encoding, and keep the plans: the receiver has lost the session."""
        plans = [_grown(each) for each in study if each.plan.version > 1]
        await self._write(lambda spool: spool.start_over(session, plans))

    async def remove(self) -> None:
        """Nothing need be kept any more."""
        async with self._writing:
            await self._remove()

    async def read_back(self) -> Kept | None:
        """Whatever is there; None where the disk does not give it back."""
        if self._spool is None:
            return Kept({}, {}, [])
        try:
            return await self._workers.run(_read_back, self._spool)
        except OSError as error:
            await self._lose(error)
            return None

    async def _write(self, write: Callable[[Spool], None]) -> None:
        async with self._writing:
            if self._spool is not None:
                try:
                    await self._workers.run(write, self._spool)
                except OSError as error:
                    await self._lose(error)

    async def _lose(self, why: OSError) -> None:
        with suppress(OSError):  # it is empty at least, or nobody can go on with it either
            await self._remove()
        self._on_lost(why)

    async def _remove(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            await self._workers.run(spool.remove)


def _grown(series: Series) -> Grown:
    return Grown(series.plan, series.segmentation.reason, series.thinking is None)


def _read_back(spool: Spool) -> Kept:
    kept = Kept({}, {}, [])
    for item in spool.replay():
        if isinstance(item, Spooled):
            kept.encodings[item.offer.number] = item
        elif isinstance(item, Grown):
            kept.plans.append(item)
        elif item.number in kept.encodings:
            kept.outcomes[item.number] = item
            settled = kept.encodings[item.number]
            if settled.offer.key.quality is not Quality.BOUNDED:
                kept.encodings[item.number] = replace(settled, payload=b"")
    return kept
