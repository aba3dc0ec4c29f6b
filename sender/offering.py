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
    PLAIN_CODEC,
    encode_bytes,
    encode_exact,
    encode_lossy,
    exact_digests,
)
from sender.ledger import Ledger
from sender.offers import layer_offer, piece_offer
from sender.preview import FIRST_CRF
from sender.schedule import Link, Schedule
from sender.spool import Outcome, Spooled
from shared.errors import IntegrityError, RemoteProtocolError
from shared.layer import LayerKey, Quality
from shared.ownership import owned_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from sender.encode import Encoded
    from sender.layering import LayerJob
    from sender.prepare import Series, Study
    from sender.settings import SendSettings
    from sender.spool import Spool
    from shared.workers import Workers

_HEADERS_PIECE_BYTES = 8 << 20


class Offered(NamedTuple):
    """A layer that is encoded and not yet settled."""

    job: LayerJob
    owned_voxels: int


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
    ) -> None:
        """
        Args:
            rate_bps: the link's measured rate, 0 while it is unknown.
            wake: there is something new in the outbox.
        """
        self._study = study
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
        self._plain: set[LayerKey] = set()
        """Layers that did not prove right at the receiver and are coded plainly."""
        self.start_over()

    def start_over(self) -> None:
        """Everything is to be offered from the start: the receiver knows nothing of it."""
        series = self._study.series
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
        self._pieces: set[LayerKey] = set()
        """Those that need not be made any more."""
        self._headers_due = True
        self._finished = False
        self._any_settled = False
        self._held: frozenset[LayerKey] = frozenset()
        """Layers that the receiver has from an earlier session."""
        self._spared: set[int] = set()
        """Encodings of such layers that were offered before we heard of it: whatever becomes of
        what was sent of them does not matter."""
        self._changed.set()

    async def run(self) -> None:
        """Until every layer is settled."""
        while self._headers_due or len(self.schedule) or self.outbox.count:
            await self._encode_pending()
            if self._headers_due:
                self._headers_due = False
                await self._offer_headers()
            await self._until(lambda: len(self.schedule) > 0 or not self.outbox.count)

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
        spooled, outcomes = await self._workers.run(_read_back, self._spool)
        for number, each in spooled.items():
            outcome = outcomes.get(number)
            if outcome is not None and not outcome.settled:
                self._plain.add(each.offer.key)
            elif each.offer.box is None:
                self._restore_piece(each, settled=outcome is not None)
            elif (job := self._jobs.get(each.offer.key)) is not None and job.box == each.offer.box:
                self._restore_layer(job, each, settled=outcome is not None)

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
                encoded = await self._encode(job, self.schedule.effort(link))
            finally:
                self._encoding.discard(job.key)
            if encoded is not None:
                await self._offer(job, encoded)
            self._changed.set()

    async def _encode(self, job: LayerJob, effort: int) -> Encoded | None:
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
        if job.key in self._held:
            self.ledger.verified(job, owned_count(job.box, job.holes))
            return None
        codec = PLAIN_CODEC if job.key in self._plain else self._settings.exact_codec
        return await run(encode_exact, voxels, job, entry, codec, effort)

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
        self.offered[offer.number] = Offered(job, encoded.owned_voxels)
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
        if settled:
            self._any_settled = True
            self.ledger.verified(job, owned)
        else:
            self.outbox.put(each.offer, each.payload, self.schedule.priority(job))
            self.offered[each.offer.number] = Offered(job, owned)

    # -- what the files held beside the voxels, last of all -----------------------------------

    async def _offer_headers(self) -> None:
        for number, series in enumerate(self._study.series):
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
        place = len(STAGES) - 1
        priority = Priority(UNFOCUSED, offer.key.series, place, 0, 0, offer.key.block)
        self.outbox.put(offer, payload, priority)
        self._wake()

    def _restore_piece(self, each: Spooled, *, settled: bool) -> None:
        self._pieces.add(each.offer.key)
        self.ledger.headers_encoded(each.offer)
        if settled:
            self._any_settled = True
        else:
            self._offer_piece(each.offer, each.payload)

    # -- what the receiver says ---------------------------------------------------------------

    async def on_verdict(self, said: m.LayerVerdict) -> None:
        """An encoding is settled."""
        number = said.number
        self._any_settled = True
        self._headers.pop(number, None)
        offered = self.offered.pop(number, None)
        if said.verdict is m.Verdict.HELD:
            self._spared.add(number)
        if offered is not None and said.verdict in (m.Verdict.VERIFIED, m.Verdict.HELD):
            self.ledger.verified(offered.job, offered.owned_voxels)
        await self._note(Outcome(number, True))
        self._changed.set()

    async def on_want(self, number: int) -> None:
        """The receiver got other voxels than we declared: once more, coded as plainly as can be.

        Raises:
            IntegrityError: it was coded plainly already.
            RemoteProtocolError: it is settled.
        """
        offered, piece = self.offered.pop(number, None), self._headers.pop(number, None)
        if offered is not None:
            self._note_plain(offered.job.key)
            self.schedule.put_back(offered.job)
        elif piece is not None:
            offer, payload = piece  # coded plainly already
            self._note_plain(offer.key)
            self._offer_piece(replace(offer, number=self.outbox.reserve()), payload)
        elif number not in self._spared:
            raise RemoteProtocolError(f"encoding {number} is asked for again, but it is settled")
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
        digests = await self._workers.run(exact_digests, self._study.series)
        there, here = Counter(held), Counter(digests.values())
        self._held = frozenset(key for key in digests if there[digests[key]] >= here[digests[key]])
        unsent = self.outbox.unsettled
        spared = [n for n, offered in self.offered.items() if offered.job.key in self._held]
        for number in spared:
            offered = self.offered.pop(number)
            self._spared.add(number)
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
        return self._study.series[job.key.series]

    async def _note(self, outcome: Outcome) -> None:
        if self._spool is not None:
            async with self._spooling:
                await self._workers.run(self._spool.note, outcome)

    def _note_plain(self, key: LayerKey) -> None:
        if key in self._plain:
            raise IntegrityError(f"{key} does not prove right at the receiver, coded plainly")
        self._plain.add(key)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._until_changed()

    async def _until_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


def _read_back(spool: Spool) -> tuple[dict[int, Spooled], dict[int, Outcome]]:
    """Encodings and outcomes by number; of what is settled only the offer is kept."""
    spooled: dict[int, Spooled] = {}
    outcomes: dict[int, Outcome] = {}
    for item in spool.replay():
        if isinstance(item, Spooled):
            spooled[item.offer.number] = item
        elif item.number in spooled:
            outcomes[item.number] = item
            spooled[item.number] = replace(spooled[item.number], payload=b"")
    return spooled, outcomes
