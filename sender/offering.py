"""What a study has on offer: layers become encodings, most urgent first, until all are settled.

schedule ─> encode (workers) ─> spool ─> outbox ─> (connections)
    ^                                        │
    └────────── focus, want, held <──────────┘

Nothing here knows of connections: they take from the outbox, whichever is there.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.outbox import Outbox
from sender.beside import Beside
from sender.forms import Forms
from sender.held import Held
from sender.improving import Improving
from sender.keeping import Keeping
from sender.ledger import Ledger
from sender.offers import Offered, layer_offer
from sender.prepare import with_plan
from sender.schedule import Link, Schedule
from sender.spool import Outcome
from shared.errors import RemoteProtocolError
from shared.layer import LayerKey, Quality, exact_key
from shared.ownership import owned_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sender.encode import Encoded
    from sender.growing import Step
    from sender.improving import Waiting
    from sender.layering import LayerJob
    from sender.prepare import Series, Study
    from sender.settings import SendSettings
    from sender.spool import Grown, Spool, Spooled
    from shared.workers import Workers

_LOW_S = 0.3
"""Of link still to be sent: so much before it stands still, a slab more is encoded."""


class Offering:
    """Of one study. `run` it once a connection has been there."""

    def __init__(
        self,
        study: Study,
        settings: SendSettings,
        workers: Workers,
        spool: Spool | None,
        rate_bps: Callable[[], float],
        wake: Callable[[], None],
        on_plan: Callable[[m.Plan], None] = lambda plan: None,
        on_withdraw: Callable[[int], None] | None = None,
        on_spool_lost: Callable[[OSError], None] = lambda why: None,
    ) -> None:
        """
        Args:
            rate_bps: the link's measured rate, 0 while it is unknown.
            wake: there is something new in the outbox.
            on_plan: a plan has grown, and is to be sent.
            on_withdraw: of an encoding nothing more is to be sent.
            on_spool_lost: the spool's disk has failed, and nothing is kept any more.
        """
        self.series = list(study.series)
        """As far as their plans have grown."""
        self._on_plan = on_plan
        self._on_withdraw = on_withdraw or self._drop
        self._settings = settings
        self._workers = workers
        self._keeping = Keeping(spool, workers, on_spool_lost)
        self._rate_bps = rate_bps
        self._wake = wake
        self._changed = asyncio.Event()
        self._jobs = {job.key: job for series in study.series for job in series.jobs}
        self._encoding: set[LayerKey] = set()
        """Layers that are neither in the schedule nor on offer yet."""
        self._in_hand = 0
        """Other work of which nothing is to be seen before it is done."""
        self._forms = Forms(settings, workers)
        self.start_over()

    def start_over(self) -> None:
        """Everything is to be offered from the start: the receiver knows nothing of it."""
        series = self.series
        self.outbox = Outbox()
        self.schedule = Schedule(
            (job for key, job in self._jobs.items() if key not in self._encoding),
            self._settings.exact_codec,
        )
        self.ledger = Ledger(
            sum(each.kept_voxels for each in series), sum(each.roi_voxels for each in series)
        )
        self.offered: dict[int, Offered] = {}
        self._beside = Beside(self.outbox, self.ledger, self._keeping, self._workers, self._wake)
        self._judged: dict[int, Offered] = {}
        """Exact layers that are settled: should they not stay right, they are asked for again."""
        self._answered: set[int] = set()
        """What was asked for again, which a receiver repeats to a new connection, or withdrawn."""
        self._improving = Improving(self.schedule, self.outbox, self.offered, self._forms)
        self._finished = False
        self._any_settled = False
        self._held = Held()
        self._forms.start_over()
        self._changed.set()

    async def run(self) -> None:
        """Until every layer is settled."""
        while self.has_work:
            await self._encode_pending()
            if self.is_growing:
                await self._until(lambda: len(self.schedule) > 0 or not self.is_growing)
                continue
            if self._beside.is_due:
                with self._working():
                    self._beside.is_due = False
                    for number, series in enumerate(self.series):
                        await self._beside.make(number, series)
            await self._until(
                lambda: (
                    len(self.schedule) > 0
                    or not (self.outbox.count or self._in_hand)
                    or self._improvable() is not None
                )
            )

    @property
    def has_work(self) -> bool:
        """Whether anything is to be made, or is not settled."""
        waiting = len(self.schedule) or self.outbox.count or self._encoding or self._in_hand
        return self.is_growing or self._beside.is_due or bool(waiting)

    async def until_more(self, over: Callable[[], bool]) -> None:
        """Until something has to be made once more, or until it is over."""
        await self._until(lambda: over() or self.has_work)

    def finish(self) -> None:
        """The receiver has everything: nothing need be made or sent any more."""
        self.stop()
        self.ledger.finish()

    async def forget_kept(self) -> None:
        """No other process need go on with this.

        Raises:
            OSError: the spool cannot be taken away.
        """
        await self._keeping.remove()

    def stop(self) -> None:
        """Nothing is made or sent any more, whatever the receiver has."""
        self._finished, self._beside.is_due = True, False
        self.outbox = Outbox()
        self.schedule = Schedule(())
        self.offered.clear()
        self._changed.set()

    @property
    def has_settled(self) -> bool:
        """Whether anything need not be sent any more."""
        return self._any_settled

    async def restore(self) -> bool:
        """Take up what an earlier process has encoded; False where it cannot be read back."""
        kept = await self._keeping.read_back()
        if kept is None:
            return False
        for grown in kept.plans:
            self._restore_plan(grown)
        wrong = {number for number, outcome in kept.outcomes.items() if not outcome.settled}
        newest = {
            each.offer.key: number for number, each in kept.encodings.items() if number not in wrong
        }
        for number, each in kept.encodings.items():
            outcome = kept.outcomes.get(number)
            if number in wrong:
                self._forms.note_failed(each.offer.key, each.offer.codec)
            if newest.get(each.offer.key) != number:  # wrong, or withdrawn for a smaller one
                self._answered.add(number)
                continue
            settled = outcome is not None
            self._any_settled |= settled
            if each.offer.box is None:
                self._beside.restore(each, settled=settled)
            elif (job := self._jobs.get(each.offer.key)) is not None and job.box == each.offer.box:
                self._restore_layer(job, each, settled=settled)
        return True

    # -- plans that grow ----------------------------------------------------------------------

    @property
    def is_growing(self) -> bool:
        """Whether a segmenter is still thinking."""
        return not self._finished and any(each.thinking is not None for each in self.series)

    async def grow(self, number: int, series: Series, step: Step) -> None:
        """A series has a plan that asks for more. It is kept before anybody hears of it."""
        with self._working():  # a last plan ends growing before its layers are in the schedule
            await self._keeping.put_plan(series)
            self.series[number] = series
            self._jobs |= {job.key: job for job in (*step.new, *step.moved)}
            self._count_voxels()
            await self._held.look(self.series, self._workers)
            if not self._finished:
                self._on_plan(series.plan)
                self.schedule.add(step.new)
                self.schedule.move(step.moved)

    async def until_idle(self, over: Callable[[], bool]) -> None:
        """Until there is nothing to encode and almost nothing to send, or until it is over."""

        def idle() -> bool:
            link = self.link()
            low = link.unsent_bytes == 0 or 0 < link.lead_s < _LOW_S
            return low and not len(self.schedule) and not self._encoding

        await self._until(lambda: over() or idle())

    def look_again(self) -> None:
        """Have whoever waits for a condition look at it once more."""
        self._changed.set()

    async def forget(self, session: bytes) -> None:
        """The receiver has lost the session: everything is offered in another one."""
        await self._keeping.start_over(session, self.series)
        self.start_over()

    def _restore_plan(self, grown: Grown) -> None:
        number = grown.plan.series
        if number < len(self.series) and self.series[number].plan.version < grown.plan.version:
            before = self.series[number]
            segmentation = replace(before.segmentation, reason=grown.reason)
            thinking = None if grown.last else before.thinking
            before = replace(before, segmentation=segmentation, thinking=thinking)
            self.series[number] = series = with_plan(before, grown.plan)
            new = [job for job in series.jobs if job.key not in self._jobs]
            self._jobs |= {job.key: job for job in new}
            self.schedule.add(new)
            self._count_voxels()

    def _count_voxels(self) -> None:
        self.ledger.kept_voxels = sum(each.kept_voxels for each in self.series)
        self.ledger.roi_voxels = sum(each.roi_voxels for each in self.series)

    # -- encoding -----------------------------------------------------------------------------

    async def _encode_pending(self) -> None:
        """Encode until the schedule is empty, as many layers at once as there are cores."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers.count):
                group.create_task(self._encode_loop())

    async def _encode_loop(self) -> None:
        while len(self.schedule) or self._improvable() is not None:
            link = self.link()
            most = max(1, self._workers.count - 1)
            previews = sum(key.quality is Quality.PREVIEW for key in self._encoding)
            job = self.schedule.next_job(link, self._encoding, spare_core=previews < most)
            if job is None:
                if (waiting := self._improvable()) is not None:
                    await self._improve(waiting)
                else:
                    await self._until_changed()
                continue
            self._encoding.add(job.key)
            try:
                encoded = await self._encode(job, link)
                if encoded is not None and not self._is_late(job):
                    await self._offer(job, encoded)
            finally:
                self._encoding.discard(job.key)
            self._changed.set()

    async def _encode(self, job: LayerJob, link: Link) -> Encoded | None:
        """One layer, off the loop; None where the receiver holds its voxels already."""
        exact = exact_key(job.key)
        if exact in self._held and not self._forms.has_failed(exact):
            if job.key == exact:
                self.ledger.verified(job, owned_count(job.box, job.holes))
                return None
            if job.key.quality is Quality.BOUNDED:
                return None
        # Whoever looks for the ROI goes before what merely keeps the link busy until it is found.
        return await self._forms.encode(
            self._series(job), job, self.schedule, link, patiently=self.is_growing
        )

    def _is_late(self, job: LayerJob) -> bool:
        """Whether a layer would not be encoded any more, now that it is: the rate is known."""
        unsent = self.outbox.unsettled
        exact = sum(
            unsent.get(number, 0)
            for number, other in self.offered.items()
            if exact_key(other.job.key) == other.job.key
            and (other.job.key.series, other.job.key.region) == (job.key.series, job.key.region)
        )
        return self.schedule.skips(job, self.link(), exact)

    def _improvable(self) -> Waiting | None:
        return self._improving.next(self.link())

    async def _improve(self, waiting: Waiting) -> None:
        """Put a smaller encoding in the place of one that waits."""
        improving, number = self._improving, waiting.number
        encoded = await improving.smaller(self._series(waiting.job), waiting)
        if encoded is None or improving is not self._improving:
            return
        old = self.offered.pop(number)
        self._answered.add(number)
        self.ledger.spared(old.job, improving.unsent_bytes(waiting))
        self._on_withdraw(number)
        self._encoding.add(waiting.job.key)
        try:
            await self._offer(waiting.job, encoded)
        finally:
            self._encoding.discard(waiting.job.key)
        self._changed.set()

    async def _offer(self, job: LayerJob, encoded: Encoded) -> None:
        """Keep an encoding and have it sent; until then the layer is in `_encoding`."""
        if self._finished:
            return
        outbox, promoted = (
            self.outbox,
            self.schedule.promotes(job, len(encoded.payload), self.link()),
        )
        offer = layer_offer(outbox.reserve(), job, encoded, self._forms.base_of(job, encoded))
        await self._keeping.put(offer, encoded)
        if outbox is not self.outbox:  # the receiver has forgotten everything, or has it all
            if not self._finished:
                self.schedule.put_back(job)
            return
        outbox.put(offer, encoded.payload, self.schedule.priority(job, promoted=promoted))
        self.offered[offer.number] = Offered(job, encoded.owned_voxels, encoded.codec)
        self._forms.note_offered(offer, encoded.payload)
        self.ledger.encoded(job, offer, encoded.fidelity)
        self._wake()

    def _restore_layer(self, job: LayerJob, each: Spooled, *, settled: bool) -> None:
        if job.key in self._encoding or not self.schedule.take(job.key):
            return  # there already, in another form
        owned = owned_count(job.box, job.holes)
        self._forms.note_offered(each.offer, each.payload)
        self.ledger.encoded(job, each.offer, each.fidelity)
        offered = Offered(job, owned, each.offer.codec)
        if settled:
            self.ledger.verified(job, owned)
            self._remember(each.offer.number, offered)
        else:
            self.outbox.put(each.offer, each.payload, self.schedule.priority(job))
            self.offered[each.offer.number] = offered

    # -- what the receiver says ---------------------------------------------------------------

    async def on_verdict(self, said: m.LayerVerdict) -> None:
        """An encoding is settled."""
        number = said.number
        self._any_settled = True
        self._beside.settle(number)
        offered = self.offered.pop(number, None)
        if said.verdict is m.Verdict.HELD:
            self._held.spared.add(number)
        if offered is not None and said.verdict is not m.Verdict.SHOWN:
            self._forms.note_useless(offered.job.key)
        if offered is not None and said.verdict in (m.Verdict.VERIFIED, m.Verdict.HELD):
            self.ledger.verified(offered.job, offered.owned_voxels)
            self._remember(number, offered)
        await self._keeping.note(Outcome(number, True))
        self._changed.set()

    async def on_want(self, number: int) -> None:
        """The receiver has other voxels than we declared: once more, in another form.

        A layer that was settled may be asked for too: what lay on the receiver's disk was not what
        it had proven any more.

        Raises:
            IntegrityError: it was coded plainly already.
            RemoteProtocolError: it is settled, and none of the exact layers.
        """
        if number in self._answered:
            return
        offered, judged = self.offered.pop(number, None), self._judged.pop(number, None)
        if judged is not None:
            self.ledger.demoted(judged.job, judged.owned_voxels)
        if again := offered or judged:
            self._forms.note_failed(again.job.key, again.codec)
            self.schedule.put_back(again.job)
        elif (piece := self._beside.again(number)) is not None:
            self._forms.note_failed(piece.key, piece.codec)
        elif number not in self._held.spared:
            raise RemoteProtocolError(f"encoding {number} is asked for again, but it is settled")
        self._answered.add(number)
        await self._keeping.note(Outcome(number, False))
        self._changed.set()

    async def on_held(self, held: tuple[bytes, ...]) -> list[int]:
        """What the receiver has from an earlier session is not sent, or no further.

        Returns:
            The numbers of encodings to withdraw.
        """
        if not held:
            return []
        await self._held.hear(held, self.series, self._workers)
        unsent = self.outbox.unsettled
        spared = [n for n, offered in self.offered.items() if offered.job.key in self._held]
        for number in spared:
            offered = self.offered.pop(number)
            self._held.spared.add(number)
            self.ledger.spared(offered.job, unsent.get(number, 0))
            self.ledger.verified(offered.job, offered.owned_voxels)
        self._changed.set()
        return spared

    def on_focus(self, focus: m.Focus) -> None:
        """The reader looks somewhere: what is not sent yet is put in another order."""
        self.schedule.focus(focus)
        for number, offered in self.offered.items():
            self.outbox.reprioritise(number, self.schedule.priority(offered.job))
        self._changed.set()

    def on_sent(self) -> None:
        """A frame has left: there may be room to encode ahead."""
        self._changed.set()

    def link(self) -> Link:
        """The link as the schedule wants to know it."""
        return Link(self._rate_bps(), sum(self.outbox.unsettled.values()))

    # -- inside -------------------------------------------------------------------------------

    def _series(self, job: LayerJob) -> Series:
        return self.series[job.key.series]

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Something is made that is not in the outbox before the end, or in the schedule."""
        self._in_hand += 1
        try:
            yield
        finally:
            self._in_hand -= 1
            self._changed.set()

    def _drop(self, number: int) -> None:
        self.outbox.drop(number)

    def _remember(self, number: int, offered: Offered) -> None:
        if offered.job.key.quality is Quality.EXACT:
            self._judged[number] = offered

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._until_changed()

    async def _until_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()
