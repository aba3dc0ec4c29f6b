"""A whole run of medroi-recv: listen, receive one study after the other or side by side, report."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import limits
from receiver.decode import ChildDecoders
from receiver.publish import Publisher
from receiver.report import receiver_report
from receiver.session import ReceivingSession
from shared.clock import SystemClock
from shared.display import Display, Progress, open_display
from shared.errors import ExitCode, MedroiError, SettingsError
from shared.layer import Quality
from shared.report import write_report
from shared.timeline import Timeline
from shared.workers import ThreadWorkers

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.compose import Count
    from receiver.decode import Decoder
    from shared.transports.base import Transport
    from shared.trust.credentials import Credentials
    from shared.workers import Workers

_SHOW_EVERY_S = 0.2
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Reception:
    """What a user asked for."""

    host: str
    port: int
    out: Path
    once: bool
    report: Path | None
    pictures: bool
    quiet: bool
    credentials: Credentials | None = None


async def receive(reception: Reception) -> ExitCode:
    """Listen until stopped, or until one study has ended where only one is wanted.

    Raises:
        SettingsError: the address or the folder cannot be used.
    """
    from shared.transports.websocket import listen

    try:
        reception.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {reception.out}: {error.strerror}") from error
    with ThreadWorkers() as workers, open_display(quiet=reception.quiet) as display:
        async with ChildDecoders() as decoders:
            await workers.run(_warm_up)
            clinic = Clinic(reception, workers, decoders, display)
            async with listen(
                reception.host,
                reception.port,
                clinic.take,
                max_frame_bytes=limits.MAX_FRAME_BYTES,
                credentials=reception.credentials,
                on_refused=display.say,
                close_timeout_s=_CLOSE_S,
            ) as listener:
                print(f"listening on {listener.url}", flush=True)
                return await clinic.until_done()


@dataclass(slots=True)
class _Visit:
    """One connection and what has become of it."""

    session: ReceivingSession
    transport: Transport
    timeline: Timeline
    publisher: Publisher
    ended: asyncio.Event
    superseded: bool = False
    """Another connection has taken its study over."""
    outcome: str = "a fault of medroi itself"
    code: ExitCode = ExitCode.UNEXPECTED


class Clinic:
    """Takes in connections, each of which brings one study."""

    def __init__(
        self, reception: Reception, workers: Workers, decoder: Decoder, display: Display
    ) -> None:
        self._reception = reception
        self._workers = workers
        self._decoder = decoder
        self._display = display
        self._clock = SystemClock()
        self._current: dict[bytes, _Visit] = {}
        self._done: asyncio.Future[ExitCode] = asyncio.get_running_loop().create_future()

    async def until_done(self) -> ExitCode:
        """How the one study ended; without ``--once`` this waits for ever."""
        return await self._done

    async def take(self, transport: Transport) -> None:
        """One connection, from its hello to its end. A peer's faults end here."""
        visit = self._admit(transport)
        try:
            await self._attend(visit)
        except asyncio.CancelledError:
            visit.outcome, visit.code = "the receiver was stopped", ExitCode.INTERRUPTED
            raise
        finally:
            self._conclude(visit)

    def _admit(self, transport: Transport) -> _Visit:
        timeline = Timeline()
        publisher = Publisher(
            self._display, self._workers, timeline, pictures=self._reception.pictures
        )
        session = ReceivingSession(
            transport,
            self._decoder,
            self._workers,
            self._clock,
            self._reception.out,
            timeline,
            publisher,
            lambda study: self._claim(visit, study),
        )
        visit = _Visit(session, transport, timeline, publisher, asyncio.Event())
        return visit

    async def _attend(self, visit: _Visit) -> None:
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(visit.publisher.run()),
                group.create_task(self._show(visit.session)),
            ]
            try:
                await visit.session.run()
                visit.outcome, visit.code = _success(visit.session), ExitCode.OK
            except MedroiError as error:
                visit.outcome, visit.code = str(error), error.exit_code
            await visit.publisher.drain()
            for task in beside:
                task.cancel()

    async def _claim(self, visit: _Visit, study: bytes) -> None:
        """One connection a study: the newest has it, and the one before it ends first."""
        while (before := self._current.get(study)) is not None:  # others may wait for it too
            before.superseded = True
            await before.transport.close()
            await before.ended.wait()
        self._current[study] = visit

    def _conclude(self, visit: _Visit) -> None:
        visit.ended.set()
        manifest = visit.session.manifest
        if manifest is None:
            self._display.say(f"a connection without a study: {visit.outcome}")
            return
        if self._current.get(manifest.study) is visit:
            del self._current[manifest.study]
        self._display.say(visit.outcome)
        self._leave_report(visit)
        if self._reception.once and not visit.superseded and not self._done.done():
            self._done.set_result(visit.code)

    def _leave_report(self, visit: _Visit) -> None:
        report = receiver_report(
            visit.session,
            visit.transport,
            visit.timeline,
            outcome=visit.outcome,
            exit_code=visit.code,
        )
        folder = visit.session.folder if visit.session.volumes else None  # or it is not ours
        for path in (self._reception.report, folder / "report.json" if folder else None):
            if path is not None and path.parent.is_dir():
                try:
                    write_report(report, path)
                except OSError as error:
                    self._display.say(f"no report in {path}: {error.strerror or error}")

    async def _show(self, session: ReceivingSession) -> None:
        before = 0
        while True:
            await self._clock.sleep_s(_SHOW_EVERY_S)
            received = session.connection.received_bytes
            if session.volumes:
                rate_bps = (received - before) * 8 / _SHOW_EVERY_S
                self._display.show(_progress(session, rate_bps), self._clock.now_s())
            before = received


def _warm_up() -> None:
    """Import now what the first study would otherwise wait for."""
    import nibabel
    from PIL import ImageDraw

    _ = nibabel.Nifti1Header, ImageDraw.Draw


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
