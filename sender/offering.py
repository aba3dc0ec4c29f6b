"""What a study has on offer: layers become encodings, most urgent first, until all are settled.

schedule ─> encode (workers) ─> spool ─> outbox ─> (connections)
    ^                                        │
    └────────── focus, want, held <──────────┘

Nothing here knows of connections: they take from the outbox, whichever is there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from protocol import messages as m
from protocol.outbox import Outbox
from protocol.stages import STAGES, UNFOCUSED, Priority
from sender.encode import (
    AFTER_SECOND_CODEC,
    PLAIN_CODEC,
    SECOND_CODEC,
    encode_bytes,
    encode_exact,
    encode_lossy,
    exact_digests,
)
from sender.ledger import Ledger
from sender.offers import layer_offer, piece_offer
from sender.prepare import with_plan
from sender.preview import FIRST_CRF
from sender.schedule import Link, Schedule
from sender.settings import AUTO
from sender.spool import Grown, Outcome, Spooled
from shared.errors import IntegrityError, RemoteProtocolError
from shared.layer import LayerKey, Quality
from shared.ownership import owned_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from sender.encode import Encoded
    from sender.growing import Step
    from sender.layering import LayerJob
    from sender.prepare import Series, Study
    from sender.settings import SendSettings
    from sender.spool import Spool
    from shared.workers import Workers

_HEADERS_PIECE_BYTES = 8 << 20
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
        self._spool = spool
        self._rate_bps = rate_bps
        self._wake = wake
        self._changed = asyncio.Event()
        self._spooling = asyncio.Lock()
        self._jobs = {job.key: job for series in study.series for job in series.jobs}
        self._encoding: set[LayerKey] = set()
        self._crf: dict[tuple[int, str], int] = {}
        self._failed: dict[LayerKey, list[str]] = {}
        """Codecs of layers that did not prove right at the receiver: another one is next, and then
        the plainest there is."""
        self.start_over()

    def start_over(self) -> None:
        """Everything is to be offered from the start: the receiver knows nothing of it."""
        series = self.series
        self.outbox = Outbox()
        self.schedule = Schedule(
            job for key, job in self._jobs.items() if key not in self._encoding
        )
        self.ledger = Ledger(
            sum(each.kept_voxels for each in series), sum(each.roi_voxels for each in series)
        )
        self.offered: dict[int, Offered] = {}
        self._headers: dict[int, tuple[m.LayerOffer, bytes]] = {}
        """Pieces of headers layers that are offered: they may be asked for once more."""
        self._settled_pieces: dict[int, m.LayerOffer] = {}
        self._pieces: set[LayerKey] = set()
        """Those that need not be made any more."""
        self._headers_due = True
        self._judged: dict[int, Offered] = {}
        """Exact layers that are settled: should they not stay right, they are asked for again."""
        self._answered: set[int] = set()
        """What was asked for again, which a receiver repeats to a new connection."""
        self._finished = False
        self._any_settled = False
        self._held_digests: tuple[bytes, ...] = ()
        self._held: frozenset[LayerKey] = frozenset()
        """Layers that the receiver has from an earlier session."""
        self._spared: set[int] = set()
        """Encodings of such layers that were offered before we heard of it: whatever becomes of
        what was sent of them does not matter."""
        self._changed.set()

    async def run(self) -> None:
        """Until every layer is settled."""
        while self.has_work:
            await self._encode_pending()
            if self.is_growing:
                await self._until(lambda: len(self.schedule) > 0 or not self.is_growing)
                continue
            if self._headers_due:
                self._headers_due = False
                await self._offer_headers()
            await self._until(lambda: len(self.schedule) > 0 or not self.outbox.count)

    @property
    def has_work(self) -> bool:
        """Whether anything is to be made, or is not settled."""
        waiting = len(self.schedule) or self.outbox.count or self._encoding
        return self.is_growing or self._headers_due or bool(waiting)

    async def until_more(self, over: Callable[[], bool]) -> None:
        """Until something has to be made once more, or until it is over."""
        await self._until(lambda: over() or self.has_work)

    def finish(self) -> None:
        """The receiver has everything: nothing need be made or sent any more."""
        self._finished, self._headers_due = True, False
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
        if self._spool is None:
            return
        spooled, outcomes, plans = await self._workers.run(_read_back, self._spool)
        for grown in plans:
            self._restore_plan(grown)
        for number, each in spooled.items():
            outcome = outcomes.get(number)
            if outcome is not None and not outcome.settled:
                self._failed.setdefault(each.offer.key, []).append(each.offer.codec)
                self._answered.add(number)
            elif each.offer.box is None:
                self._restore_piece(each, settled=outcome is not None)
            elif (job := self._jobs.get(each.offer.key)) is not None and job.box == each.offer.box:
                self._restore_layer(job, each, settled=outcome is not None)

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
        async with self._spooling:
            if self._spool is not None:
                await self._workers.run(self._spool.put_plan, _grown(series))
            self.series[number] = series
        self._jobs |= {job.key: job for job in (*step.new, *step.moved)}
        self._count_voxels()
        await self._find_held()
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
        async with self._spooling:
            if self._spool is not None:
                plans = [_grown(each) for each in self.series if each.plan.version > 1]
                await self._workers.run(self._spool.start_over, session, plans)
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
            previews = sum(key.quality < Quality.EXACT for key in self._encoding)
            job = self.schedule.next_job(link, spare_core=previews < most)
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
        voxels, entry, run = series.volume.voxels, series.entry, self._workers.run
        stage = (job.key.series, job.stage.name)
        if job.key.quality < Quality.EXACT:
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
        codec = self._exact_codec(job.key, link)
        return await run(encode_exact, voxels, job, entry, codec, self.schedule.effort(link))

    def _exact_codec(self, key: LayerKey, link: Link) -> str:
        failed = self._failed.get(key, [])
        if len(failed) > 1:
            return PLAIN_CODEC
        if failed:
            return SECOND_CODEC if failed[0] != SECOND_CODEC else AFTER_SECOND_CODEC
        chosen = self._settings.exact_codec
        return self.schedule.codec(link) if chosen == AUTO else chosen

    async def _offer(self, job: LayerJob, encoded: Encoded) -> None:
        outbox, promoted = (
            self.outbox,
            self.schedule.promotes(job, len(encoded.payload), self.link()),
        )
        offer = layer_offer(outbox.reserve(), job, encoded)
        await self._keep(offer, encoded)
        if outbox is not self.outbox:  # the receiver has forgotten everything, or has it all
            if not self._finished:
                self.schedule.put_back(job)
            return
        outbox.put(offer, encoded.payload, self.schedule.priority(job, promoted=promoted))
        self.offered[offer.number] = Offered(job, encoded.owned_voxels, encoded.codec)
        self.ledger.encoded(job, offer, encoded.fidelity)
        self._wake()

    async def _keep(self, offer: m.LayerOffer, encoded: Encoded) -> None:
        if self._spool is not None:
            async with self._spooling:
                await self._workers.run(self._spool.put, offer, encoded.payload, encoded.fidelity)

    def _restore_layer(self, job: LayerJob, each: Spooled, *, settled: bool) -> None:
        if job.key in self._encoding or not self.schedule.take(job.key):
            return  # there already, in another form
        owned = owned_count(job.box, job.holes)
        self.ledger.encoded(job, each.offer, each.fidelity)
        offered = Offered(job, owned, each.offer.codec)
        if settled:
            self._any_settled = True
            self.ledger.verified(job, owned)
            self._remember(each.offer.number, offered)
        else:
            self.outbox.put(each.offer, each.payload, self.schedule.priority(job))
            self.offered[each.offer.number] = offered

    # -- what the files held beside the voxels, last of all -----------------------------------

    async def _offer_headers(self) -> None:
        for number, series in enumerate(self.series):
            content = await self._workers.run(series.volume.attachment)
            for block, start in enumerate(range(0, len(content), _HEADERS_PIECE_BYTES)):
                key = LayerKey(number, m.HEADERS_REGION, Quality.EXACT, block)
                if key in self._pieces:
                    continue
                piece = content[start : start + _HEADERS_PIECE_BYTES]
                encoded = await self._workers.run(encode_bytes, piece)
                offer = piece_offer(self.outbox.reserve(), key, encoded, len(piece))
                self.ledger.headers_encoded(offer)
                await self._keep(offer, encoded)
                self._offer_piece(offer, encoded.payload)

    def _offer_piece(self, offer: m.LayerOffer, payload: bytes) -> None:
        self._headers[offer.number] = offer, payload
        self._pieces.add(offer.key)
        place = len(STAGES) - 1
        priority = Priority(UNFOCUSED, offer.key.series, place, 0, 0, offer.key.block)
        self.outbox.put(offer, payload, priority)
        self._wake()

    def _restore_piece(self, each: Spooled, *, settled: bool) -> None:
        self._pieces.add(each.offer.key)
        self.ledger.headers_encoded(each.offer)
        if settled:
            self._any_settled = True
            self._settled_pieces[each.offer.number] = each.offer
        else:
            self._offer_piece(each.offer, each.payload)

    # -- what the receiver says ---------------------------------------------------------------

    async def on_verdict(self, said: m.LayerVerdict) -> None:
        """An encoding is settled."""
        number = said.number
        self._any_settled = True
        piece = self._headers.pop(number, None)
        if piece is not None:
            self._settled_pieces[number] = piece[0]
        offered = self.offered.pop(number, None)
        if said.verdict is m.Verdict.HELD:
            self._spared.add(number)
        if offered is not None and said.verdict in (m.Verdict.VERIFIED, m.Verdict.HELD):
            self.ledger.verified(offered.job, offered.owned_voxels)
            self._remember(number, offered)
        await self._note(Outcome(number, True))
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
        offered, piece = self.offered.pop(number, None), self._headers.pop(number, None)
        judged = self._judged.pop(number, None)
        if judged is not None:
            self.ledger.demoted(judged.job, judged.owned_voxels)
        if again := offered or judged:
            self._note_failed(again.job.key, again.codec)
            self.schedule.put_back(again.job)
        elif piece is not None:
            offer, payload = piece
            self._note_failed(offer.key, offer.codec)
            self._offer_piece(replace(offer, number=self.outbox.reserve()), payload)
        elif lost := self._settled_pieces.pop(number, None):
            self._note_failed(lost.key, lost.codec)
            self._pieces.discard(lost.key)
            self._headers_due = True
        elif number not in self._spared:
            raise RemoteProtocolError(f"encoding {number} is asked for again, but it is settled")
        self._answered.add(number)
        await self._note(Outcome(number, False))
        self._changed.set()

    async def on_held(self, held: tuple[bytes, ...]) -> list[int]:
        """What the receiver has from an earlier session is not sent, or no further.

        A digest does not say where its voxels lie, and layers may be alike: those are spared only
        where the receiver has as many of them as there are.

        Returns:
            The numbers of encodings to withdraw.
        """
        if not held:
            return []
        self._held_digests = held
        await self._find_held()
        unsent = self.outbox.unsettled
        spared = [n for n, offered in self.offered.items() if offered.job.key in self._held]
        for number in spared:
            offered = self.offered.pop(number)
            self._spared.add(number)
            self.ledger.spared(offered.job, unsent.get(number, 0))
            self.ledger.verified(offered.job, offered.owned_voxels)
        self._changed.set()
        return spared

    async def _find_held(self) -> None:
        """Which layers of the plans as they are now the receiver has."""
        if self._held_digests:
            digests = await self._workers.run(exact_digests, tuple(self.series))
            there, here = Counter(self._held_digests), Counter(digests.values())
            self._held = frozenset(k for k in digests if there[digests[k]] >= here[digests[k]])

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

    async def _note(self, outcome: Outcome) -> None:
        if self._spool is not None:
            async with self._spooling:
                await self._workers.run(self._spool.note, outcome)

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


def _grown(series: Series) -> Grown:
    return Grown(series.plan, series.segmentation.reason, series.thinking is None)


def _read_back(spool: Spool) -> tuple[dict[int, Spooled], dict[int, Outcome], list[Grown]]:
    """Encodings and outcomes by number; of what is settled only the offer is kept."""
    spooled: dict[int, Spooled] = {}
    plans: list[Grown] = []
    outcomes: dict[int, Outcome] = {}
    for item in spool.replay():
        if isinstance(item, Spooled):
            spooled[item.offer.number] = item
        elif isinstance(item, Grown):
            plans.append(item)
        elif item.number in spooled:
            outcomes[item.number] = item
            spooled[item.number] = replace(spooled[item.number], payload=b"")
    return spooled, outcomes, plans
