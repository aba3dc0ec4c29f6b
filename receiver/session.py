"""One study, from its manifest to the receipt, however many connections it takes.

    visit (a connection) ─> hear ─┬─> keeper (log, synced) ───────────────────> stored ─┐
    visit (a connection) ─>       └─> queue ─> volumes, painter ──> verdict, want, mark ─┤
                                                                                        │
    every visit of the session <────────────────────────────────────────────────────────┘

While no connection is there the session waits. What has come is on the disk, and after an absence
or a crash the session goes on from there (`reopen`).
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.events import ChunkRejected, EncodingArrived, FragmentArrived
from protocol.inbox import Inbox
from protocol.parting import error_of
from protocol.states import State
from receiver.answers import Answers
from receiver.ending import Ending
from receiver.keeper import Keeper
from receiver.log import SessionLog, message_record
from receiver.painting import Arrived, Painter
from receiver.quarantine import Quarantine
from receiver.replay import replay
from receiver.store import disk_errors, forget_empty, open_volumes, study_folder
from receiver.visits import Visits
from shared.errors import (
    IntegrityError,
    MedroiError,
    PeerRefused,
    ProtocolError,
    RemoteProtocolError,
    TransportClosed,
)
from shared.layer import Quality
from shared.tasks import one_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from protocol.events import Event
    from receiver.compose import GrowingVolume
    from receiver.decode import Decoder
    from receiver.visit import Visit
    from receiver.watch import Watcher
    from shared.clock import Clock
    from shared.timeline import Timeline
    from shared.workers import Workers

_HEARD = 64
"""Events that wait their turn while files are opened or decoders are busy, acknowledged all the
same. More stay unread in the transport, which slows the sender."""
_MAX_HELD = 16_000
"""Digests that an Accept has room for; layers beyond are offered, and then said to be held."""
_ABSENCE_S = 900.0
"""Without any connection, before a session is left to the disk."""
_LINGER_S = 60.0
"""For a sender whose line broke just before it had its receipt."""


class ReceivingSession:
    """Receives one study. `run` it once; look at `volumes` meanwhile."""

    def __init__(
        self,
        session: bytes,
        decoder: Decoder,
        workers: Workers,
        clock: Clock,
        out: Path,
        timeline: Timeline,
        watcher: Watcher,
        claim: Callable[[bytes], Awaitable[None]],
        require: Callable[[Path, m.Manifest], None] = lambda *_: None,
    ) -> None:
        """``require`` raises an `OSError` in a sentence where there is no room for a study."""
        self.inbox = Inbox(session)
        self._decoder = decoder
        self._workers = workers
        self._out = out
        self._timeline = timeline
        self._watcher = watcher
        self._claim = claim
        self._require = require
        self.visits = Visits()
        self._changed = asyncio.Event()
        self._heard: asyncio.Queue[tuple[Visit, Event]] = asyncio.Queue(_HEARD)
        self._keeper = Keeper(workers, clock, self.visits.say)
        self._answers = Answers(self, self._keeper, workers, timeline, watcher)
        self._stored: list[m.LayerOffer] = []
        """Encodings that an earlier process has stored, and whose voxels are to be looked at."""
        self._failure: MedroiError | None = None
        self._receipt_heard = False
        self._ending = Ending()
        self.folder: Path | None = None
        """Where the study is put; None before its manifest is accepted."""
        self.quarantine: Quarantine | None = None
        """Where what proved wrong is kept aside; there is one once there is a folder."""
        self.volumes: list[GrowingVolume] = []
        self.painter = Painter(self.volumes, decoder, workers, self._answers)
        self.exact: bool | None = None
        """What our receipt says; None until it is given."""

    @property
    def manifest(self) -> m.Manifest | None:
        """What is to come, once it is known."""
        return self.inbox.manifest

    @property
    def is_over(self) -> bool:
        """Whether something has ended it, or is about to: no connection may join it any more."""
        return self._failure is not None or self._ending.has_come

    @property
    def is_waiting(self) -> bool:
        """Whether no connection is there."""
        return not self.visits.there

    # -- the way of a session -----------------------------------------------------------------

    async def reopen(self, folder: Path, log: SessionLog) -> None:
        """Go on from the disk, as an earlier process or an absence has left it; then `run`.

        Raises:
            InputError: the disk does not give it back.
        """
        with disk_errors(self._out):
            stored = await self._workers.run(replay, log, self.inbox)
            manifest = self.inbox.manifest
            if manifest is None:
                log.close()
                return
            self.folder, self.exact = folder, stored.exact
            self.quarantine = Quarantine(folder)
            for record in log.damaged:
                await self._answers.quarantine(
                    record, "the disk has spoilt a record of the log", 0, 0
                )
            self.inbox.held = ()
            if self.exact is None:
                self.painter.wanted.update(stored.wanted)
                self.volumes += await self._workers.run(open_volumes, folder, manifest)
                for plan in stored.plans:
                    await self.painter.plan(plan)
                self._stored = list(stored.whole.values())
                for number, offer in stored.judged.items():
                    if number not in stored.whole:
                        await self._ask_for_lost(log, offer)
                await self._watcher.began(self)
            self._keeper.open(log)

    async def _ask_for_lost(self, log: SessionLog, offer: m.LayerOffer) -> None:
        """A layer was proven, and is neither in the volume nor in the log any more. No connection
        has heard yet where we stand, so it hears of this at once."""
        volume = self.volumes[offer.key.series]
        if not await self._workers.run(volume.holds, offer):
            await self._workers.run(log.append, [message_record(m.Want(offer.number))])
            self.painter.wanted[offer.key] += 1
            self.inbox.want(offer.number)

    async def run(self) -> None:
        """Until the receipt is given and heard, or something has ended the session.

        Raises:
            MedroiError: why it ended before; what was stored is kept on disk.
        """
        try:
            with disk_errors(self._out), one_error():
                async with asyncio.TaskGroup() as group:
                    loops = [self.painter.run() for _ in range(self._decoder.count)]
                    loops += [self._event_loop(), self._keeper.run()]
                    helpers = [group.create_task(loop) for loop in loops]
                    await self._until_over()
                    self._ending.come()
                    for helper in helpers:
                        helper.cancel()
            if self._receipt_heard and self._keeper.log is not None:
                self._keeper.log.remove()
        except MedroiError as error:
            await self._part(error)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._part(None))
            raise
        finally:
            self._ending.come()
            if self._keeper.log is not None:
                self._keeper.log.close()

    async def _until_over(self) -> None:
        """Until a sender has heard its receipt, or is gone for good or for too long."""
        while not self._receipt_heard:
            self._changed.clear()
            if self._failure is not None:
                await self._settle_down()
                raise self._failure
            limit_s = _ABSENCE_S if self.exact is None else _LINGER_S
            try:
                async with asyncio.timeout(limit_s if self.is_waiting else None):
                    await self._changed.wait()
            except TimeoutError:
                if self.exact is not None:
                    return
                raise TransportClosed("the sender has not come back; it may still resume") from None

    async def _settle_down(self) -> None:
        """What arrived whole before the end is still proven and kept."""
        await self._heard.join()
        await self.painter.drain()

    async def _part(self, error: MedroiError | None) -> None:
        self._ending.come()
        await self.visits.part(error)
        await self._workers.run(self._give_back, error)

    def _give_back(self, error: MedroiError | None) -> None:
        """Nothing stays on the disk of a study of which nothing has come, and no log of a session
        that nobody will go on with."""
        over = isinstance(error, ProtocolError | IntegrityError | PeerRefused)
        if (log := self._keeper.log) is not None and (over or log.is_empty):
            log.remove()
        forget_empty(self.volumes)

    # -- connections --------------------------------------------------------------------------

    def attach(self, visit: Visit) -> None:
        """See `receiver.visit.Host`."""
        self._timeline.mark(m.Mark.CONNECTED.value)
        self.visits.join(visit)
        self._changed.set()

    def detach(self, visit: Visit, error: MedroiError | None) -> None:
        """A connection is over: closed in order, or by an error."""
        self.visits.leave(visit)
        if error is not None and not isinstance(error, TransportClosed):
            self.fail(error)
        elif self.is_waiting and self.manifest is None:
            self.fail(error or TransportClosed("the peer left before it had said what it has"))
        elif error is None and visit.connection.state is State.DONE:
            self._receipt_heard = True
        self._changed.set()

    def fail(self, error: MedroiError) -> None:
        """End the session, for a reason from outside."""
        self._failure = self._failure or error
        self._changed.set()

    async def hear(self, visit: Visit, event: Event) -> None:
        """See `receiver.visit.Host`.

        Raises:
            TransportClosed: the session has ended, or ends while this waits for room.
        """
        over = self.exact is not None and not isinstance(event, m.End | m.Farewell)
        if self.visits.is_late(visit) or over:
            return
        self.visits.go_with(visit)
        async with self._ending.unless():
            match event:
                case FragmentArrived(fragment=fragment):
                    await self._keeper.put_fragment(fragment)
                    return
                case m.Manifest() | m.Plan() | m.LayerOffer():
                    await self._keeper.put_message(event)
                case _:
                    pass
            await self._heard.put((visit, event))
            if isinstance(event, EncodingArrived):
                await self.painter.backlog.add(len(event.payload))

    # -- what connections bring ---------------------------------------------------------------

    async def _event_loop(self) -> None:
        await self._look_at_stored()
        while True:
            visit, event = await self._heard.get()
            try:
                await self._on_event(visit, event)
            finally:
                self._heard.task_done()
            visit.pump.wake()

    async def _on_event(self, visit: Visit, event: Event) -> None:
        match event:
            case m.Manifest():
                await self._on_manifest(visit, event)
            case m.Plan():
                await self.painter.plan(event)
            case m.LayerOffer():
                await self._on_offer(event)
            case EncodingArrived(offer=offer, payload=payload):
                await self.painter.put(Arrived(offer, _at_hand(payload)))
            case ChunkRejected(number=number, offset=offset, content=content):
                await self._answers.quarantine(content, "it has not its hash", number, offset)
            case m.End():
                await self._finish(visit)
            case m.Farewell():
                await self.painter.drain()
                raise error_of(event, m.Role.SENDER)
            case _:
                pass

    async def _on_manifest(self, visit: Visit, manifest: m.Manifest) -> None:
        if self.folder is None:
            await self._claim(manifest.study)
            folder = study_folder(self._out, manifest)
            try:
                await self._workers.run(self._require, folder, manifest)
                self.volumes += await self._workers.run(open_volumes, folder, manifest)
                log = await self._workers.run(SessionLog.create, folder, self.inbox.session)
            except OSError as error:
                visit.connection.refuse(f"the clinic's disk does not take it: {error.strerror}")
                raise
            self.folder, self.quarantine = folder, Quarantine(folder)
            held = (digest for volume in self.volumes for digest in volume.held)
            self.inbox.held = tuple(islice(held, _MAX_HELD))
            self._keeper.open(log)
            await self._watcher.began(self)
        visit.connection.accept(self.inbox.held or ())

    async def _on_offer(self, offer: m.LayerOffer) -> None:
        volume = self.volumes[offer.key.series]  # checked against the manifest when it came
        self._decoder.expect(offer.codec)
        if offer.box is not None:
            await self._workers.run(volume.check_offer, offer)
        if await self._workers.run(volume.holds, offer):
            if offer.key.quality is Quality.EXACT:
                volume.note_verified(offer)
            await self._answers.judge(offer.number, m.Verdict.HELD)

    async def _look_at_stored(self) -> None:
        """Encodings that an earlier process has stored: those whose voxels are not in the volume
        any more, or were never painted, are decoded now."""
        for offer in self._stored:
            self.painter.know(offer)
        for offer in self._stored:
            volume = self.volumes[offer.key.series]
            if await self._workers.run(volume.holds, offer):
                if offer.key.quality is Quality.EXACT:
                    volume.note_verified(offer)
                if not self.inbox.is_settled(offer.number):
                    await self._answers.judge(offer.number, m.Verdict.VERIFIED)
                continue
            await self.painter.backlog.add(offer.size_bytes)
            await self.painter.put(Arrived(offer, partial(self._keeper.read, offer)))
        self._stored = []

    # -- what the reader asks -----------------------------------------------------------------

    def focus(self, focus: m.Focus) -> None:
        """What meets a box comes before everything else."""
        self.inbox.focus(focus)
        self.visits.say(focus)

    def pause(self, *, paused: bool) -> None:
        """No fragments for now, or again."""
        self.inbox.paused = paused
        self.visits.say(m.Pause() if paused else m.Resume())

    # -- the end ------------------------------------------------------------------------------

    async def _finish(self, visit: Visit) -> None:
        """Everything has been sent: is everything here, and is it right?"""
        await self.painter.drain()
        if self.exact is None:
            for volume in self.volumes:
                if not volume.complete:
                    missing = volume.missing_voxels
                    raise RemoteProtocolError(f"the study ended with {missing} voxels missing")
            await self._keeper.until_kept()
            for volume in self.volumes:
                await self._workers.run(volume.finish)
            self.exact = all(volume.proven for volume in self.volumes)
            self.inbox.finish()
            await self._workers.run(self._conclude, self.exact)
            await self._watcher.ended(self)
        visit.connection.finish(exact=self.exact)

    def _conclude(self, exact: bool) -> None:
        manifest = self.inbox.manifest
        assert self._keeper.log is not None  # there is no end without a manifest
        assert manifest is not None
        receipt = m.Done(manifest.study, exact)
        self._keeper.log.conclude([message_record(manifest), message_record(receipt)])


def _at_hand(payload: bytes) -> Callable[[], Awaitable[bytes]]:
    async def take() -> bytes:
        return payload

    return take
