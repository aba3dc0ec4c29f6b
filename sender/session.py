"""One transfer, from the first hello to the receipt: the tasks, and what they tell each other.

prepare ─> manifest, plans ─┐
schedule ─> encode (workers) ─> offer ─> SendingConnection ─> Pump ─> transport
    ^                                            │
    └─────────── focus, want, verdict ───────────┘
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from protocol import messages as m
from protocol.parting import error_of, farewell_of
from protocol.sending import SendingConnection
from protocol.stages import STAGES, UNFOCUSED, Priority
from protocol.states import State
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
from sender.progress import progress_of
from sender.schedule import Link, Schedule
from shared.display import Progress
from shared.errors import (
    IntegrityError,
    MedroiError,
    PeerRefused,
    RemoteProtocolError,
    TransportClosed,
)
from shared.layer import LayerKey, Quality
from shared.ownership import owned_count
from shared.software import SOFTWARE
from shared.tasks import one_error
from shared.transports.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from protocol.events import Event
    from sender.encode import Encoded
    from sender.layering import LayerJob
    from sender.prepare import Series, Study
    from sender.settings import SendSettings
    from shared.clock import Clock
    from shared.timeline import Timeline
    from shared.transports.base import Transport
    from shared.workers import Workers

_HEADERS_PIECE_BYTES = 8 << 20
_SILENCE_S = 120.0
"""Recorded cellular links stall for up to 78 s and go on."""


class Offered(NamedTuple):
    """A layer that is encoded and not yet settled."""

    job: LayerJob
    owned_voxels: int


class SendingSession:
    """Sends one study over one transport. `run` it once; ask `progress` and `ledger` meanwhile."""

    def __init__(
        self,
        transport: Transport,
        workers: Workers,
        clock: Clock,
        settings: SendSettings,
        timeline: Timeline,
        on_mark: Callable[[m.Mark], None] = lambda mark: None,
    ) -> None:
        self._transport = transport
        self._workers = workers
        self._clock = clock
        self._settings = settings
        self._timeline = timeline
        self._on_mark = on_mark
        self.connection = SendingConnection(software=SOFTWARE)
        self._pump = Pump(self.connection, transport, clock, self._on_event, self._wake)
        self._changed = asyncio.Event()
        self._study: Study | None = None
        self._began_s = 0.0
        self._schedule = Schedule(())
        self.ledger = Ledger(0, 0)
        self._offered: dict[int, Offered] = {}
        self._previews = 0
        """Being encoded now."""
        self._headers: dict[int, tuple[m.LayerOffer, bytes]] = {}
        """Pieces of headers layers that are offered: they may be asked for once more."""
        self._plain: set[LayerKey] = set()
        self._held: frozenset[LayerKey] = frozenset()
        """Layers that the receiver has from an earlier session."""
        self._spared: set[int] = set()
        """Encodings of such layers that were offered before we heard of it: whatever becomes of
        what was sent of them does not matter."""
        self._crf: dict[tuple[int, str], int] = {}
        self._reached: dict[m.Mark, set[int]] = {mark: set() for mark in m.Mark}
        self.exact: bool | None = None
        """What the receipt said; None until it has come."""

    # -- the way of a transfer ----------------------------------------------------------------

    async def run(self, preparing: Awaitable[Study]) -> None:
        """Greet, wait for the study to be prepared, send it, and wait for the receipt.

        Raises:
            MedroiError: whatever ended the session before the receipt; the transport is closed.
        """
        try:
            with one_error():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._run_pump())
                    watching = group.create_task(self._watch_silence())
                    await self._direct(preparing)
                    watching.cancel()
        except MedroiError as error:
            await self._part(error)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._part(None))
            raise

    async def _run_pump(self) -> None:
        await self._pump.run()
        if self.connection.state is not State.DONE:
            raise TransportClosed("the receiver closed the connection before the study was done")

    async def _watch_silence(self) -> None:
        """A receiver that says nothing to what is under way is gone, whatever the kernel thinks."""
        while True:
            await self._clock.sleep_s(_SILENCE_S / 10)
            silent_s = self._clock.now_s() - self._pump.heard_s
            if self.connection.window.in_flight_bytes and silent_s > _SILENCE_S:
                raise TransportClosed(f"the receiver has said nothing for {silent_s:.0f} s")

    async def _direct(self, preparing: Awaitable[Study]) -> None:
        self.connection.greet()
        self._pump.wake()
        study = await preparing
        await self._until(lambda: self.connection.state is State.READY)
        self._begin(study)
        headers_due = True
        while headers_due or len(self._schedule) or self.connection.unsettled:
            await self._encode_pending()
            if headers_due:
                headers_due = False
                await self._offer_headers(study)
            await self._until(lambda: len(self._schedule) > 0 or not self.connection.unsettled)
        self.connection.end(study.manifest.study)
        self._pump.wake()
        await self._until(lambda: self.exact is not None)
        self._pump.close_when_idle()

    def _begin(self, study: Study) -> None:
        self._study = study
        self._began_s = self._clock.now_s()
        self.ledger = Ledger(
            sum(series.kept_voxels for series in study.series),
            sum(series.roi_voxels for series in study.series),
        )
        self._schedule = Schedule(job for series in study.series for job in series.jobs)
        self.connection.offer(study.manifest)
        for series in study.series:
            self.connection.plan(series.plan)
        self._pump.wake()

    # -- encoding -----------------------------------------------------------------------------

    async def _encode_pending(self) -> None:
        """Encode until the schedule is empty, as many layers at once as there are cores."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers.count):
                group.create_task(self._encode_loop())

    async def _encode_loop(self) -> None:
        while len(self._schedule):
            link = self._link()
            most = max(1, self._workers.count - 1)
            job = self._schedule.next_job(link, spare_core=self._previews < most)
            if job is None:
                await self._until_changed()
                continue
            effort = self._schedule.effort(link)
            encoded = await self._encode(self._series(job), job, effort)
            if encoded is not None:
                self._offer(job, encoded)
            self._changed.set()

    async def _encode(self, series: Series, job: LayerJob, effort: int) -> Encoded | None:
        """One layer, off the loop; None where the receiver holds its voxels already."""
        voxels, entry, run = series.volume.voxels, series.entry, self._workers.run
        stage = (job.key.series, job.stage.name)
        if job.key.quality < Quality.EXACT:
            target = self._settings.preview_target(job.stage.kind)
            crf = self._crf.get(stage, FIRST_CRF)
            self._previews += 1
            encoded = await run(
                encode_lossy, voxels, job, entry, self._settings.preview_codec, target, crf
            )
            self._previews -= 1
            self._crf[stage] = dict(encoded.settings).get("crf", crf)
            return encoded
        if job.key in self._held:
            self.ledger.verified(job, owned_count(job.box, job.holes))
            return None
        codec = PLAIN_CODEC if job.key in self._plain else self._settings.exact_codec
        return await run(encode_exact, voxels, job, entry, codec, effort)

    def _offer(self, job: LayerJob, encoded: Encoded) -> None:
        promoted = self._schedule.promotes(job, len(encoded.payload), self._link())
        offer = layer_offer(self.connection.next_number(), job, encoded)
        priority = self._schedule.priority(job, promoted=promoted)
        self._offered[offer.number] = Offered(job, encoded.owned_voxels)
        self.ledger.encoded(job, encoded)
        self.connection.offer_layer(offer, encoded.payload, priority)
        self._pump.wake()

    async def _offer_headers(self, study: Study) -> None:
        """What the files held beside the voxels, last of all."""
        for number, series in enumerate(study.series):
            content = await self._workers.run(series.volume.attachment)
            for block, start in enumerate(range(0, len(content), _HEADERS_PIECE_BYTES)):
                piece = content[start : start + _HEADERS_PIECE_BYTES]
                encoded = await self._workers.run(encode_bytes, piece)
                self.ledger.headers_encoded(encoded)
                key = LayerKey(number, m.HEADERS_REGION, Quality.EXACT, block)
                offer = piece_offer(self.connection.next_number(), key, encoded, len(piece))
                self._offer_piece(offer, encoded.payload)

    def _offer_piece(self, offer: m.LayerOffer, payload: bytes) -> None:
        self._headers[offer.number] = offer, payload
        place = len(STAGES) - 1
        priority = Priority(UNFOCUSED, offer.key.series, place, 0, 0, offer.key.block)
        self.connection.offer_layer(offer, payload, priority)
        self._pump.wake()

    # -- what the receiver says ---------------------------------------------------------------

    async def _on_event(self, event: Event) -> None:
        match event:
            case m.Hello():
                self._mark(m.Mark.CONNECTED)
            case m.Accept(held=held):
                await self._on_held(held)
            case m.Refuse(reason=reason):
                raise PeerRefused(f"the receiver refuses the study: {reason}")
            case m.LayerVerdict(number=number, verdict=verdict):
                self._headers.pop(number, None)
                offered = self._offered.pop(number, None)
                if verdict is m.Verdict.HELD:
                    self._spared.add(number)
                if offered is not None and verdict in (m.Verdict.VERIFIED, m.Verdict.HELD):
                    self.ledger.verified(offered.job, offered.owned_voxels)
            case m.StageReached(series=series, mark=mark):
                self._on_stage(series, mark)
            case m.Focus():
                self._on_focus(event)
            case m.Want(number=number):
                self._on_want(number)
            case m.Done(exact=exact):
                self.exact = exact
            case m.Farewell():
                raise error_of(event, m.Role.RECEIVER)
            case _:
                pass
        self._changed.set()

    async def _on_held(self, held: tuple[bytes, ...]) -> None:
        """What the receiver has from an earlier session is not sent, or no further.

        A digest does not say where its voxels lie, and layers may be alike: those are spared only
        where the receiver has as many of them as there are.
        """
        if not held or self._study is None:
            return
        digests = await self._workers.run(exact_digests, self._study.series)
        there, here = Counter(held), Counter(digests.values())
        self._held = frozenset(key for key in digests if there[digests[key]] >= here[digests[key]])
        unsent = self.connection.unsettled
        for number, offered in list(self._offered.items()):
            if offered.job.key in self._held:
                del self._offered[number]
                self._spared.add(number)
                self.connection.withdraw(number)
                self.ledger.spared(offered.job, unsent.get(number, 0))
                self.ledger.verified(offered.job, offered.owned_voxels)

    def _on_stage(self, series: int, mark: m.Mark) -> None:
        count = len(self._study.series) if self._study else 0
        if series >= count:
            raise RemoteProtocolError(f"series {series} of {count}")
        self._reached[mark].add(series)
        of_roi = mark in (m.Mark.ROI_PREVIEW, m.Mark.ROI_EXACT)
        if series == 0 if of_roi else len(self._reached[mark]) == count:
            self._mark(mark)

    def _on_focus(self, focus: m.Focus) -> None:
        self._schedule.focus(focus)
        for number, offered in self._offered.items():
            self.connection.reprioritise(number, self._schedule.priority(offered.job))

    def _on_want(self, number: int) -> None:
        """The receiver got other voxels than we declared: once more, coded as plainly as can be."""
        offered, piece = self._offered.pop(number, None), self._headers.pop(number, None)
        if offered is not None:
            self._note_plain(offered.job.key)
            self._schedule.put_back(offered.job)
        elif piece is not None:
            offer, payload = piece  # coded plainly already
            self._note_plain(offer.key)
            self._offer_piece(replace(offer, number=self.connection.next_number()), payload)
        elif number not in self._spared:
            raise RemoteProtocolError(f"encoding {number} is asked for again, but it is settled")

    def _note_plain(self, key: LayerKey) -> None:
        if key in self._plain:
            raise IntegrityError(f"{key} does not prove right at the receiver, coded plainly")
        self._plain.add(key)

    def _mark(self, mark: m.Mark) -> None:
        if self._timeline.mark(mark.value):
            self._on_mark(mark)

    # -- what others may ask ------------------------------------------------------------------

    def progress(self) -> Progress:
        """Where the transfer stands, for the screen."""
        if self._study is None:
            return Progress("reading", 0.0, 0.0, 0.0, None, None)
        elapsed_s = self._clock.now_s() - self._began_s
        return progress_of(self.connection, self.ledger, self._schedule, self._offered, elapsed_s)

    # -- inside -------------------------------------------------------------------------------

    def _series(self, job: LayerJob) -> Series:
        assert self._study is not None  # jobs are cut from it
        return self._study.series[job.key.series]

    def _link(self) -> Link:
        unsent = sum(self.connection.unsettled.values())
        return Link(self.connection.window.rate_bps, unsent)

    def _wake(self) -> None:
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._until_changed()

    async def _until_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _part(self, error: BaseException | None) -> None:
        self.connection.leave(*farewell_of(error, m.Role.SENDER))
        await self._pump.last_words()
