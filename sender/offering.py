"""What a study has on offer: layers become encodings, most urgent first, until all are settled.

schedule ─> encode (workers) ─> spool ─> outbox ─> (connections)
    ^                                        │
    └────────── focus, want, held <──────────┘

Nothing here knows of connections: they take from the outbox, whichever is there.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from protocol import messages as m
from protocol.outbox import Outbox
from sender.beside import Beside
from sender.encode import (
    AFTER_SECOND_CODEC,
    PLAIN_CODEC,
    SECOND_CODEC,
    Base,
    encode_bounded,
    encode_exact,
    encode_lossy,
)
from sender.held import Held
from sender.keeping import Keeping
from sender.ledger import Ledger
from sender.offers import layer_offer
from sender.prepare import with_plan
from sender.preview import FIRST_CRF
from sender.schedule import Link, Schedule
from sender.settings import LADDER_CODEC
from sender.spool import Outcome
from shared.errors import IntegrityError, RemoteProtocolError
from shared.layer import LayerKey, Quality, exact_key
from shared.ownership import owned_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from sender.encode import Encoded
    from sender.growing import Step
    from sender.layering import LayerJob
    from sender.prepare import Series, Study
    from sender.settings import SendSettings
    from sender.spool import Grown, Spool, Spooled
    from shared.workers import Workers

_MOST_FORMS = 3
"""Of one layer: as scheduled, by another codec, and as plainly as can be."""
_LOW_S = 0.3
"""Of link still to be sent: so much before it stands still, a slab more is encoded."""


class Offered(NamedTuple):
    """A layer that is encoded and not yet settled."""

    job: LayerJob
    owned_voxels: int
    codec: str


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
    ) -> None:
        """
        Args:
            rate_bps: the link's measured rate, 0 while it is unknown.
            wake: there is something new in the outbox.
            on_plan: a plan has grown, and is to be sent.
        """
        self.series = list(study.series)
        """As far as their plans have grown."""
        self._on_plan = on_plan
        self._settings = settings
        self._workers = workers
        self._keeping = Keeping(spool, workers)
        self._rate_bps = rate_bps
        self._wake = wake
        self._changed = asyncio.Event()
        self._jobs = {job.key: job for series in study.series for job in series.jobs}
        self._encoding: set[LayerKey] = set()
        self._crf: dict[tuple[int, str], int] = {}
        self._steps: dict[int, int] = {}
        """Of bounded layers by series; 0 where they are not worth it."""
        self._failed: dict[LayerKey, list[str]] = {}
        """Codecs of layers that did not prove right at the receiver: another one is next, and then
        the plainest there is."""
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
        self._beside_due = True
        self._judged: dict[int, Offered] = {}
        """Exact layers that are settled: should they not stay right, they are asked for again."""
        self._answered: set[int] = set()
        """What was asked for again, which a receiver repeats to a new connection."""
        self._finished = False
        self._any_settled = False
        self._held = Held()
        self._bases: dict[LayerKey, Base] = {}
        """By the exact layers that build on them."""
        self._changed.set()

    async def run(self) -> None:
        """Until every layer is settled."""
        while self.is_growing or self._beside_due or len(self.schedule) or self.outbox.count:
            await self._encode_pending()
            if self.is_growing:
                await self._until(lambda: len(self.schedule) > 0 or not self.is_growing)
                continue
            if self._beside_due:
                self._beside_due = False
                for number, series in enumerate(self.series):
                    await self._beside.make(number, series)
            await self._until(lambda: len(self.schedule) > 0 or not self.outbox.count)

    def finish(self) -> None:
        """The receiver has everything: nothing need be made or sent any more."""
        self._finished, self._beside_due = True, False
        self.outbox = Outbox()
        self.schedule = Schedule(())
        self.offered.clear()
        self.ledger.finish()
        self._changed.set()

    @property
    def has_settled(self) -> bool:
        """Whether anything need not be sent any more."""
        return self._any_settled

    async def restore(self) -> None:
        """Take up what an earlier process has encoded.

        Raises:
            OSError: the disk does not give it back.
        """
        kept = await self._keeping.read_back()
        for grown in kept.plans:
            self._restore_plan(grown)
        for number, each in kept.encodings.items():
            outcome = kept.outcomes.get(number)
            if outcome is not None and not outcome.settled:
                self._failed.setdefault(each.offer.key, []).append(each.offer.codec)
                self._answered.add(number)
                continue
            settled = outcome is not None
            self._any_settled |= settled
            if each.offer.box is None:
                self._beside.restore(each, settled=settled)
            elif (job := self._jobs.get(each.offer.key)) is not None and job.box == each.offer.box:
                self._restore_layer(job, each, settled=settled)

    # -- plans that grow ----------------------------------------------------------------------

    @property
    def is_growing(self) -> bool:
        """Whether a segmenter is still thinking."""
        return not self._finished and any(each.thinking is not None for each in self.series)

    async def grow(self, number: int, series: Series, step: Step) -> None:
        """A series has a plan that asks for more. It is kept before anybody hears of it.

        Raises:
            OSError: the disk does not take it.
        """
        await self._keeping.put_plan(series)
        self.series[number] = series
        self._jobs |= {job.key: job for job in (*step.new, *step.moved)}
        self._count_voxels()
        await self._held.look(self.series, self._workers)
        if not self._finished:
            self._on_plan(series.plan)
            self.schedule.add(step.new)
            self.schedule.move(step.moved)
        self._changed.set()

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
        """The receiver has lost the session: everything is offered in another one.

        Raises:
            OSError: the disk does not take it.
        """
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
        while len(self.schedule):
            link = self.link()
            most = max(1, self._workers.count - 1)
            previews = sum(key.quality is Quality.PREVIEW for key in self._encoding)
            job = self.schedule.next_job(link, self._encoding, spare_core=previews < most)
            if job is None:
                await self._until_changed()
                continue
            self._encoding.add(job.key)
            try:
                encoded = await self._encode(job, link)
            finally:
                self._encoding.discard(job.key)
            if encoded is not None:
                await self._offer(job, encoded)
            self._changed.set()

    async def _encode(self, job: LayerJob, link: Link) -> Encoded | None:
        """One layer, off the loop; None where the receiver holds its voxels already."""
        series = self._series(job)
        voxels, entry = series.volume.voxels, series.entry
        # Whoever looks for the ROI goes before what merely keeps the link busy until it is found.
        run = self._workers.run_patiently if self.is_growing else self._workers.run
        stage = (job.key.series, job.stage.name)
        if job.key.quality is Quality.BOUNDED:
            return await self._encode_bounded(job)
        if job.key.quality is Quality.PREVIEW:
            target = self._settings.preview_target(job.stage.kind)
            crf = self._crf.get(stage, FIRST_CRF)
            encoded = await run(
                encode_lossy, voxels, job, entry, self._settings.preview_codec, target, crf
            )
            self._crf[stage] = dict(encoded.settings).get("crf", crf)
            return encoded
        if job.key in self._held and job.key not in self._failed:
            self.ledger.verified(job, owned_count(job.box, job.holes))
            return None
        base = self._bases.get(job.key) if job.key not in self._failed else None
        codec = base.codec if base else self._exact_codec(job.key, link)
        effort = self.schedule.effort(codec, link)
        return await run(encode_exact, voxels, job, entry, codec, effort, base)

    async def _encode_bounded(self, job: LayerJob) -> Encoded | None:
        """A layer that the exact one is to build on; None where none is worth it."""
        series, step = self._series(job), self._steps.get(job.key.series)
        if step == 0 or exact_key(job.key) in self._held:
            return None
        encoded = await self._workers.run(
            encode_bounded, series.volume.voxels, job, series.entry, LADDER_CODEC, step
        )
        self._steps.setdefault(
            job.key.series, dict(encoded.settings)["step"] if encoded is not None else 0
        )
        return encoded

    def _exact_codec(self, key: LayerKey, link: Link) -> str:
        failed = self._failed.get(key, [])
        if len(failed) > 1:
            return PLAIN_CODEC
        if failed:
            return SECOND_CODEC if failed[0] != SECOND_CODEC else AFTER_SECOND_CODEC
        return self.schedule.codec(link)

    async def _offer(self, job: LayerJob, encoded: Encoded) -> None:
        outbox, promoted = (
            self.outbox,
            self.schedule.promotes(job, len(encoded.payload), self.link()),
        )
        base = self._bases.get(job.key) if "base_step" in dict(encoded.settings) else None
        offer = layer_offer(outbox.reserve(), job, encoded, base.number if base else None)
        await self._keeping.put(offer, encoded)
        if outbox is not self.outbox:  # the receiver has forgotten everything, or has it all
            if not self._finished:
                self.schedule.put_back(job)
            return
        outbox.put(offer, encoded.payload, self.schedule.priority(job, promoted=promoted))
        self.offered[offer.number] = Offered(job, encoded.owned_voxels, encoded.codec)
        self._note_base(offer, encoded.payload)
        self.ledger.encoded(job, offer, encoded.fidelity)
        self._wake()

    def _restore_layer(self, job: LayerJob, each: Spooled, *, settled: bool) -> None:
        if job.key in self._encoding or not self.schedule.take(job.key):
            return  # there already, in another form
        owned = owned_count(job.box, job.holes)
        self._note_base(each.offer, each.payload)
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
            self._bases.pop(exact_key(offered.job.key), None)
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
            self._note_failed(again.job.key, again.codec)
            self.schedule.put_back(again.job)
        elif (piece := self._beside.again(number)) is not None:
            self._note_failed(piece.key, piece.codec)
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

    def _note_base(self, offer: m.LayerOffer, payload: bytes) -> None:
        """An exact layer may build on this one, if it is a bounded one."""
        if offer.key.quality is Quality.BOUNDED:
            self._bases[exact_key(offer.key)] = Base(
                offer.number, payload, offer.codec, offer.settings
            )

    def _remember(self, number: int, offered: Offered) -> None:
        if offered.job.key.quality is Quality.EXACT:
            self._judged[number] = offered

    def _note_failed(self, key: LayerKey, codec: str) -> None:
        failed = self._failed.setdefault(key, [])
        if len(failed) == _MOST_FORMS - 1:
            raise IntegrityError(f"{key} does not prove right at the receiver, coded plainly")
        failed.append(codec)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._until_changed()

    async def _until_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()
