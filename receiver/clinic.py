"""Connections come, sessions are found for them, and each study is told of and written down."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from receiver.channels import Channels
from receiver.log import SessionLog
from receiver.publish import Publisher
from receiver.report import receiver_report
from receiver.session import ReceivingSession
from receiver.shelf import Shelf
from receiver.store import REPORT_NAME, disk_errors, folder_of
from receiver.visit import Visit
from receiver.watch import Both
from shared.clock import SystemClock
from shared.display import Progress
from shared.errors import DiskError, ExitCode, MedroiError, TransportClosed
from shared.layer import Quality
from shared.report import write_report
from shared.timeline import Timeline
from shared.transports.tasks import TaskOwner

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from protocol import messages as m
    from receiver.books import Books
    from receiver.counts import Count
    from receiver.decode import Decoder
    from receiver.reception import Reception
    from shared.display import Display
    from shared.transports.base import Transport
    from shared.trust.proof import Proven
    from shared.workers import Workers

_SHOW_EVERY_S = 0.2
_FULL_S = 1.0
_TIDY_EVERY_S = 3600.0
_KEYS_EVERY_S = 1.0
"""Within it the connections end of a site that is forgotten."""
_MAX_WAITING = 16
"""Sessions without a connection that are kept ready; more are left to the disk."""


@dataclass(slots=True)
class _Attended:
    """A session that lives, and who looks on."""

    session: ReceivingSession
    timeline: Timeline
    publisher: Publisher
    ended: asyncio.Event
    superseded: bool = False
    """Another session has taken its study over."""


class Clinic:
    """Takes in connections, each of which belongs to a session, which brings one study.

    Use as an async context manager: leaving it stops all sessions.
    """

    def __init__(
        self,
        reception: Reception,
        workers: Workers,
        decoder: Decoder,
        display: Display,
        books: Books | None = None,
    ) -> None:
        self._reception = reception
        self._shelf = Shelf(reception.out, reception.rules)
        self._books = books
        self._workers = workers
        self._decoder = decoder
        self._display = display
        self._clock = SystemClock()
        self._attended: dict[bytes, _Attended] = {}
        """By session."""
        self._current: dict[bytes, _Attended] = {}
        """By study."""
        self._there: set[Visit] = set()
        self._finding = asyncio.Lock()
        self._full_until_s = 0.0
        """Until then nobody is let in, as the disk has just been full."""
        self._owner = TaskOwner()
        self._channels = Channels(reception.ways, self._owner, self.take_channel, display.say)
        self._done: asyncio.Future[ExitCode] = asyncio.get_running_loop().create_future()
        if books is not None:
            books.follow(self.sessions)

    async def __aenter__(self) -> Self:
        await self._owner.__aenter__()
        self._owner.start(self._tidy())
        if self._reception.credentials is not None:
            self._owner.start(self._lock_out())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._owner.__aexit__(kind, error, traceback)

    async def until_done(self) -> ExitCode:
        """How the one study ended; without ``--once`` this waits for ever."""
        return await self._done

    async def take(self, transport: Transport) -> None:
        """One connection, from its hello to its end. A peer's faults end here."""
        no_session = self._channels.no_session_over(transport)
        find = partial(self._find_for, transport)
        await self._take(
            Visit(transport, self._clock, find, self._channels.offered, no_session=no_session)
        )

    async def take_channel(self, transport: Transport) -> None:
        """The same of a data channel, which may be one in reserve and never say a word."""
        find = partial(self._find_for, transport)
        visit = Visit(transport, self._clock, find, self._channels.offered, is_reserve=True)
        await self._take(visit)

    async def _take(self, visit: Visit) -> None:
        error: MedroiError | None = None
        self._there.add(visit)
        try:
            await visit.run()
        except MedroiError as caught:
            error = caught
        finally:
            self._there.discard(visit)
            self._leave(visit, error)

    def refused(self, sentence: str) -> None:
        """A connection was refused before it was one."""
        (self._books.refused if self._books else self._display.say)(sentence)

    def _leave(self, visit: Visit, error: MedroiError | None) -> None:
        session = visit.host
        if error is not None and self._books is not None:
            self._books.troubled(error)
        if isinstance(session, ReceivingSession):
            session.detach(visit, error)
        if not isinstance(session, ReceivingSession) or session.manifest is None:
            if not visit.is_beside:
                self._display.say(f"a connection without a study: {error or 'it was closed'}")
        elif session.is_waiting and session.exact is None and not session.is_over:
            self._display.say(f"waiting for the sender: {error or 'it closed the connection'}")

    def sessions(self) -> list[ReceivingSession]:
        """See `receiver.api.Rooms`."""
        live = [each.session for each in self._attended.values()]
        return [session for session in live if session.manifest is not None]

    # -- sessions -----------------------------------------------------------------------------

    async def _find_for(self, transport: Transport, attach: m.Attach) -> ReceivingSession:
        if self._is_forgotten(transport):
            raise TransportClosed("its key is forgotten here")
        return await self._find(attach)

    def _is_forgotten(self, transport: Transport) -> bool:
        """Whether a connection has proven a key that is none of ours any more."""
        credentials = self._reception.credentials
        proven: Proven | None = getattr(transport, "proven", None)  # not of a simulated one
        return bool(credentials and proven and not credentials.knows(proven.key_name))

    async def _lock_out(self) -> None:
        """Drop whoever is here with a key that has been forgotten meanwhile."""
        while True:
            await self._clock.sleep_s(_KEYS_EVERY_S)
            for visit in list(self._there):
                if self._is_forgotten(visit.transport):
                    self.refused("a connection was dropped: its key is forgotten here")
                    visit.transport.abort()
                    self._there.discard(visit)

    async def _find(self, attach: m.Attach) -> ReceivingSession:
        """The session that a connection is for: at work, on the disk, or new.

        One that is about to end takes in nobody: who came to it now would be heard, and never
        answered. It is opened anew once it has ended.
        """
        while True:
            async with self._finding:
                # Senders of studies that a full disk has interrupted come back at once.
                if (wait_s := self._full_until_s - self._clock.now_s()) > 0:
                    await self._clock.sleep_s(wait_s)
                attended = self._attended.get(attach.session)
                if attended is None:
                    attended = await self._open(attach)
                    self._attended[attach.session] = attended
                    self._owner.start(self._attend(attended))
                    self._park_one()
                if not attended.session.is_over:
                    return attended.session
            await attended.ended.wait()

    async def _open(self, attach: m.Attach) -> _Attended:
        """
        Raises:
            DiskError: the disk does not give the session back.
        """
        timeline = Timeline()
        publisher = Publisher(
            self._display, self._workers, timeline, pictures=self._reception.pictures
        )
        session = ReceivingSession(
            attach.session,
            self._decoder,
            self._workers,
            self._clock,
            self._reception.out,
            timeline,
            Both(publisher, self._books) if self._books else publisher,
            lambda study: self._claim(attended, study),
            partial(self._require, attach.session),
        )
        attended = _Attended(session, timeline, publisher, asyncio.Event())
        with ExitStack() as failing:
            failing.callback(self._shelf.release, attach.session)
            if attach.generation > 1:
                with disk_errors(self._reception.out):
                    await self._reopen(session)
            if session.manifest is not None:
                await self._claim(attended, session.manifest.study)
            failing.pop_all()
        return attended

    async def _reopen(self, session: ReceivingSession) -> None:
        """Have a session go on from the disk, if there is anything of it."""
        name = session.inbox.session
        folder = await self._workers.run(self._hold_stored, name)
        if folder is None:
            return
        log = await self._workers.run(SessionLog.reopen, folder, name)
        with ExitStack() as failing:
            failing.callback(log.close)
            await session.reopen(folder, log)
            failing.pop_all()

    def _hold_stored(self, session: bytes) -> Path | None:
        """The folder of a session that the disk has; it is not tidied away from now on."""
        folder = folder_of(self._reception.out, session)
        return folder if folder is not None and self._shelf.hold(session, folder) else None

    def _require(self, session: bytes, folder: Path, manifest: m.Manifest) -> None:
        """Before a study is opened: is there room? From now on it is not tidied away."""
        self._shelf.hold(session, folder)
        self._shelf.require(folder, manifest)

    async def _attend(self, attended: _Attended) -> None:
        outcome, code = "a fault of medroi itself", ExitCode.UNEXPECTED
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(attended.publisher.run()),
                    group.create_task(self._show(attended.session)),
                ]
                try:
                    await attended.session.run()
                    outcome, code = _success(attended.session), ExitCode.OK
                except MedroiError as error:
                    outcome, code = str(error), error.exit_code
                    if isinstance(error, DiskError):
                        self._full_until_s = self._clock.now_s() + _FULL_S
                await attended.publisher.drain()
                for task in beside:
                    task.cancel()
        except asyncio.CancelledError:
            outcome, code = "the receiver was stopped", ExitCode.INTERRUPTED
            raise
        finally:
            self._conclude(attended, outcome, code)

    async def _claim(self, attended: _Attended, study: bytes) -> None:
        """One session a study: the newest has it, and the one before it ends first."""
        while (before := self._current.get(study)) is not None:  # others may wait for it too
            before.superseded = True
            before.session.fail(TransportClosed("another session has taken the study over"))
            await before.ended.wait()
        self._current[study] = attended

    def _park_one(self) -> None:
        """Of too many sessions whose senders are away, leave one to the disk."""
        waiting = [each for each in self._attended.values() if each.session.is_waiting]
        if len(waiting) > _MAX_WAITING:
            waiting[0].session.fail(TransportClosed("the sender is away; it may still resume"))

    def _conclude(self, attended: _Attended, outcome: str, code: ExitCode) -> None:
        attended.ended.set()
        session = attended.session
        del self._attended[session.inbox.session]
        self._shelf.release(session.inbox.session)
        if session.manifest is None:
            return  # a connection without a study, which has been said
        if self._current.get(session.manifest.study) is attended:
            del self._current[session.manifest.study]
        if self._books is not None:
            self._books.concluded(session, code)
        self._display.say(outcome)
        self._leave_report(attended, outcome, code)
        for volume in session.volumes:  # or they stay until cycles are collected, studies later
            volume.files.release()
        if self._reception.once and not attended.superseded and not self._done.done():
            self._done.set_result(code)

    def _leave_report(self, attended: _Attended, outcome: str, code: ExitCode) -> None:
        session = attended.session
        report = receiver_report(session, attended.timeline, outcome=outcome, exit_code=code)
        folder = session.folder if session.volumes else None  # or it is not ours
        for path in (self._reception.report, folder / REPORT_NAME if folder else None):
            if path is not None and path.parent.is_dir():
                try:
                    write_report(report, path)
                except OSError as error:
                    self._display.say(f"no report in {path}: {error.strerror or error}")

    async def _tidy(self) -> None:
        """Delete what has had its time, if the site says how long that is."""

        def note(folder: str, why: str) -> None:
            if self._books is not None:
                self._books.deleted(folder, why)

        while True:
            try:
                for folder, why in await self._workers.run(self._shelf.tidy, note):
                    self._display.say(f"deleted {self._reception.out / folder}: {why}")
            except OSError as error:
                self._display.say(f"not tidied: {error}")
            await self._clock.sleep_s(_TIDY_EVERY_S)

    async def _show(self, session: ReceivingSession) -> None:
        before = 0
        while True:
            await self._clock.sleep_s(_SHOW_EVERY_S)
            received = session.visits.received_bytes
            if session.volumes:
                rate_bps = (received - before) * 8 / _SHOW_EVERY_S
                self._display.show(_progress(session, rate_bps), self._clock.now_s())
            before = received


def _progress(session: ReceivingSession, rate_bps: float) -> Progress:
    """The receiver knows what has come, not what is still to come: times are the sender's."""
    roi = [volume.roi for volume in session.volumes]
    whole = [volume.whole for volume in session.volumes]
    return Progress("receiving", _share(roi), _share(whole), rate_bps, None, None)


def _share(counts: list[Count]) -> float:
    total = sum(count.total for count in counts)
    return sum(count.at[Quality.VERIFIED] for count in counts) / total if total else 1.0


def _success(session: ReceivingSession) -> str:
    if session.exact:
        return f"stored and verified: every voxel is exact, in {session.folder}"
    return f"stored in {session.folder}: ROI and tissue exact, the background was not sent"
