"""What a session tells its sender: on the disk first, then in the inbox, then said.

Whoever is told that a layer is proven, or is wanted once more, may rely on it: a receiver that dies
right behind the word knows of it when it comes back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from protocol import messages as m

if TYPE_CHECKING:
    from receiver.keeper import Keeper
    from receiver.session import ReceivingSession
    from receiver.watch import Watcher
    from shared.timeline import Timeline
    from shared.workers import Workers


class Answers:
    """Of one session: a `receiver.painting.Teller`."""

    def __init__(
        self,
        session: ReceivingSession,
        keeper: Keeper,
        workers: Workers,
        timeline: Timeline,
        watcher: Watcher,
    ) -> None:
        self.session = session
        self._keeper = keeper
        self._workers = workers
        self._timeline = timeline
        self._watcher = watcher
        self._reached: dict[m.Mark, set[int]] = {mark: set() for mark in m.Mark}

    async def judge(self, number: int, verdict: m.Verdict) -> None:
        """See `receiver.painting.Teller`. What is judged is on the disk first."""
        message = m.LayerVerdict(number, verdict)
        await self._keeper.put_message(message)
        await self._keeper.until_kept()
        self.session.inbox.settle(number)
        self.session.visits.say(message)

    async def want(self, number: int) -> None:
        """See `receiver.painting.Teller`."""
        await self._keeper.put_message(m.Want(number))
        await self._keeper.until_kept()
        self.session.inbox.want(number)
        self.session.visits.say(m.Want(number))

    async def set_aside(self, offer: m.LayerOffer, payload: bytes, why: str) -> None:
        """See `receiver.painting.Teller`."""
        await self.quarantine(payload, why, offer.number, 0)

    async def demoted(self, series: int, layers: int) -> None:
        """See `receiver.painting.Teller`."""
        await self._watcher.demoted(self.session, series, layers)

    async def reach(self, series: int, mark: m.Mark) -> None:
        """See `receiver.painting.Teller`."""
        session, reached = self.session, self._reached[mark]
        session.inbox.reach(series, mark)
        session.visits.say(m.StageReached(series, mark))
        reached.add(series)
        of_roi = mark in (m.Mark.ROI_PREVIEW, m.Mark.ROI_EXACT)
        if series == 0 if of_roi else len(reached) == len(session.volumes):
            self._timeline.mark(mark.value)
        await self._watcher.reached(session, series, mark)

    async def stored(self, offer: m.LayerOffer) -> bytes:
        """See `receiver.painting.Teller`."""
        await self._keeper.until_kept()
        return await self._keeper.read(offer)

    async def quarantine(self, content: bytes, why: str, number: int, offset: int) -> None:
        """Keep bytes of an encoding aside: what proved wrong is to be looked at, not lost."""
        kept = self.session.quarantine
        assert kept is not None  # nothing comes before the folder is there
        put = partial(kept.put, content, why=why, encoding=number, offset=offset)
        await self._workers.run(put)
