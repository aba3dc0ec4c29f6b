"""A whole run of medroi-send: read and dial at once, send, report."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from protocol import limits
from protocol.messages import Mark
from sender import bwlimit, turns
from sender.books import Books
from sender.turns import Turn, Urgency, clinic_folder
from shared.audit import AuditLog
from shared.audit_command import SENT
from shared.clock import SystemClock, local_minute
from shared.display import open_display
from shared.errors import ExitCode, MedroiError
from shared.folders import state_folder
from shared.metrics_server import serving_metrics
from shared.tasks import one_error
from shared.timeline import Course, Timeline
from shared.transports.webrtc.flags import Choice, Ways
from shared.workers import ThreadWorkers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sender.bwlimit import Timetable
    from sender.prepare import Series, Study
    from sender.session import SendingSession
    from sender.settings import SendSettings
    from sender.spool import Spool
    from shared.display import Display
    from shared.transports.base import Transport
    from shared.trust.credentials import Credentials
    from shared.workers import Workers

_SHOW_EVERY_S = 0.1
_CLOSE_S = 2.0
_MARK_NAMES = {
    Mark.CONNECTED: "connected",
    Mark.ROI_PREVIEW: "ROI preview",
    Mark.ROI_EXACT: "ROI exact",
    Mark.WHOLE_PREVIEW: "whole preview",
    Mark.WHOLE_EXACT: "whole exact",
}


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a user asked for."""

    paths: tuple[Path, ...]
    url: str
    settings: SendSettings
    link: str
    series: int | None
    volume: int | None
    report: Path | None
    quiet: bool
    spool: Path | None = None
    """Where encodings are kept for another process; None for the usual place."""
    give_up_s: float | None = None
    """Without a line for so long it ends; None for never."""
    credentials: Credentials | None = None
    bwlimit: Timetable | None = None
    urgency: Urgency = Urgency.ROUTINE
    ways: Ways = field(default_factory=Ways)
    audit: Path | None = None
    """The log of who sent what; None for that of the state folder."""
    metrics: int | None = None
    """The port where monitors of this machine are answered; None for nowhere."""
    listen: str = ""
    """Where to wait for a receiver that dials; then ``url`` says nothing."""

    @property
    def where(self) -> str:
        """The clinic, as far as it has a name here; empty where nothing says which it is."""
        if self.ways.signal and self.credentials:
            return f"signal://{quote(self.credentials.key_to_dial().name, safe='')}"
        return self.url or (f"//{self.listen}" if self.listen else "")


@dataclass(slots=True)
class _Run:
    """What there is of a run so far, for the report."""

    timeline: Timeline
    study: Study | None = None
    session: SendingSession | None = None
    course: Course = field(default_factory=Course)
    books: Books | None = None


async def send(transfer: Transfer) -> ExitCode:
    """Send a study and leave the report, however it ends.

    Raises:
        MedroiError: it was not stored at the clinic; nothing is sent of a study that is refused.
    """
    run = _Run(Timeline())
    outcome, code = "a fault of medroi itself", ExitCode.UNEXPECTED
    try:
        with one_error(), ThreadWorkers() as workers, open_display(quiet=transfer.quiet) as display:
            log = AuditLog(transfer.audit or state_folder() / SENT)
            run.books = books = Books(log, transfer.where, transfer.credentials, display.say)
            async with serving_metrics(
                books.metrics, transfer.metrics, books.ills, SystemClock()
            ) as monitors_url:
                if monitors_url:
                    print(f"monitors: {monitors_url}/metrics", flush=True)
                await _send(transfer, run, workers, display)
            outcome, code = _success(run), ExitCode.OK
            display.say(outcome)
    except MedroiError as error:
        outcome, code = str(error), error.exit_code
        raise
    except asyncio.CancelledError:
        outcome, code = "stopped; the same command goes on from here", ExitCode.INTERRUPTED
        raise
    finally:
        if run.books is not None:
            run.books.ended(code)
        if transfer.report is not None:
            _leave_report(transfer, run, transfer.report, outcome, code)
    return code


async def send_each(transfers: Sequence[Transfer]) -> ExitCode:
    """Send one study after the other; one that fails does not keep the others from going.

    Raises:
        MedroiError: the first that failed, once all have been tried.
    """
    failures: list[MedroiError] = []
    for transfer in transfers:
        try:
            await send(transfer)
        except MedroiError as error:
            name = " ".join(map(str, transfer.paths))
            with open_display(quiet=False) as display:
                display.say(f"{name} was not sent: {error}")
            failures.append(error)
    if failures:
        raise failures[0]
    return ExitCode.OK


async def _send(transfer: Transfer, run: _Run, workers: Workers, display: Display) -> None:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        preparing = group.create_task(_prepare(transfer, run, workers, display))
        try:
            dial = await _dialler(transfer, stack, display)
        except MedroiError:
            await preparing  # what is wrong with the study is told before what is with the link
            raise
        from sender.paths import Paths
        from sender.session import SendingSession
        from shared.transports.webrtc.signals import TRY_S

        clock = SystemClock()
        signalled = bool(transfer.ways.signal)
        # Nothing goes around the link, and where lines are carried there is one way only.
        ways = Ways(Choice.WS) if transfer.link or signalled else transfer.ways
        paths = Paths(dial, ways, clock, display.say)
        stack.push_async_callback(paths.close)  # also of a study that fails: others may follow it
        run.session = SendingSession(
            paths.dial,
            workers,
            clock,
            transfer.settings,
            run.timeline,
            random.SystemRandom(),
            open_spool=partial(_open_spool, transfer, display),
            on_mark=lambda mark: _tell_mark(run, mark, display),
            on_trouble=lambda error: _tell_trouble(run, error, display),
            on_answer=lambda series: display.say(_answer_line(run, series)),
            on_spool_lost=lambda why: display.say(_no_spool_line(transfer, why)),
            give_up_s=transfer.give_up_s,
            try_s=TRY_S if signalled else paths.try_s,
        )
        session = run.session
        if run.books is not None:
            run.books.follow(session)
        beside = [
            group.create_task(_show(run, session, display)),
            group.create_task(paths.keep(lambda: session.call)),
        ]
        if transfer.bwlimit is not None:
            beside.append(group.create_task(_keep_limit(transfer.bwlimit, session)))
        if (turn := _take_place(transfer, display)) is not None:
            stack.callback(turn.leave)
            beside.append(group.create_task(_keep_turn(turn, session)))
        await session.run(preparing)
        for task in beside:
            task.cancel()


async def _prepare(transfer: Transfer, run: _Run, workers: Workers, display: Display) -> Study:
    study = await workers.run(_read, transfer)
    run.study = study
    if run.books is not None:
        run.books.began(study)
    for sentence in study.left_out:
        display.say(f"left out: {sentence}")
    for series in study.series:
        z, y, x = series.entry.header.shape
        display.say(
            f"{series.entry.header.label}: {x} x {y} x {z}, ROI: {series.segmentation.reason}"
        )
        for remark in series.entry.header.remarks:
            display.say(f"  note: {remark}")
    return study


def _read(transfer: Transfer) -> Study:
    from sender.prepare import prepare_study

    return prepare_study(
        transfer.paths,
        transfer.settings,
        series=transfer.series,
        volume=transfer.volume,
        wait=False,
    )


async def _dialler(
    transfer: Transfer, stack: AsyncExitStack, display: Display
) -> Callable[[], Awaitable[Transport]]:
    """What opens a transport: through our own emulated link where one is asked for."""
    from urllib.parse import urlsplit

    from shared.transports.websocket import dial

    if transfer.ways.signal:
        from sender.signalled import signalled

        assert transfer.credentials is not None  # `ways_of` has seen to it
        return signalled(transfer.ways, transfer.credentials.key_to_dial(), display.say)
    if transfer.listen:
        return await _listen(transfer, stack, display)
    url, credentials = transfer.url, transfer.credentials
    if transfer.link:
        from shared.link import parse_link
        from shared.transports.relay import Relay

        profile = parse_link(transfer.link)
        parts = urlsplit(url)
        relay = await stack.enter_async_context(
            Relay(parts.hostname or "", parts.port or 80, profile)
        )
        url = parts._replace(netloc=f"127.0.0.1:{relay.port}").geturl()
        if credentials is not None:  # the name of a certificate is still the clinic's
            credentials = credentials.expecting(parts.hostname or "")
    return partial(dial, url, max_frame_bytes=limits.MAX_FRAME_BYTES, credentials=credentials)


async def _listen(
    transfer: Transfer, stack: AsyncExitStack, display: Display
) -> Callable[[], Awaitable[Transport]]:
    """What waits for a receiver to open one."""
    from shared.transports.address import parse_place
    from shared.transports.arrivals import Arrivals
    from shared.transports.websocket import listen

    arrivals = Arrivals("receiver")
    listener = await stack.enter_async_context(
        listen(
            *parse_place(transfer.listen),
            arrivals.meet,
            max_frame_bytes=limits.MAX_FRAME_BYTES,
            credentials=transfer.credentials,
            on_refused=display.say,
            close_timeout_s=_CLOSE_S,
        )
    )
    print(f"listening on {listener.url}", flush=True)
    return arrivals.take


def _open_spool(transfer: Transfer, display: Display, study: Study, fresh: bytes) -> Spool | None:
    """Where encodings are kept for another process; none where the disk does not take them."""
    from sender.spool import Spool, default_spool

    base = transfer.spool or default_spool()
    try:
        return Spool.open(base, study, transfer.settings, transfer.where, fresh)
    except OSError as error:
        display.say(_no_spool_line(transfer, error))
        return None


def _no_spool_line(transfer: Transfer, error: OSError) -> str:
    from sender.spool import default_spool

    base, why = transfer.spool or default_spool(), error.strerror or error
    return f"no spool in {base} ({why}): if this is stopped, layers are encoded anew"


def _take_place(transfer: Transfer, display: Display) -> Turn | None:
    """In the row of those that send from here; nobody waits for us where there is no row."""
    folder = clinic_folder(state_folder() / "queue", transfer.where)
    turn = Turn(folder, transfer.urgency, " ".join(map(str, transfer.paths)))
    try:
        turn.enter()
    except OSError as error:
        why = error.strerror or error
        display.say(f"no queue in {folder} ({why}): this does not give way to other studies")
        return None
    return turn


async def _keep_limit(timetable: Timetable, session: SendingSession) -> None:
    await bwlimit.keep(timetable, session.pace, session.wake, SystemClock(), local_minute)


async def _keep_turn(turn: Turn, session: SendingSession) -> None:
    await turns.keep(turn, session.pace, lambda: session.is_ready, session.wake, SystemClock())


async def _show(run: _Run, session: SendingSession, display: Display) -> None:
    clock = SystemClock()
    while True:
        progress = session.progress()
        display.show(progress, clock.now_s())
        run.course.note(run.timeline.now_s(), progress, session.sent_bytes)
        await clock.sleep_s(_SHOW_EVERY_S)


def _tell_mark(run: _Run, mark: Mark, display: Display) -> None:
    if run.books is not None:
        run.books.reached(mark)
    display.say(_mark_line(run, mark))


def _tell_trouble(run: _Run, error: MedroiError | None, display: Display) -> None:
    if run.books is not None:
        run.books.troubled(error)
    display.say(_trouble_line(error))


def _mark_line(run: _Run, mark: Mark) -> str:
    line = f"{run.timeline[mark.value] or 0.0:8.2f} s  {_MARK_NAMES[mark]}"
    if run.session is None or run.study is None:
        return line
    offering = run.session.offering
    fidelity = offering.ledger.fidelity.get((0, mark.value)) if offering else None
    if fidelity is None:
        return line
    return f"{line} ({fidelity.psnr_db(run.study.series[0].entry.value_range):.1f} dB)"


def _answer_line(run: _Run, series: Series) -> str:
    seconds = run.timeline.now_s()
    first = "(first look) " if series.thinking is not None else ""
    if series.thinking is None:
        run.timeline.mark("segmented")
    return (
        f"{seconds:8.2f} s  {series.entry.header.label}, ROI: {first}{series.segmentation.reason}"
    )


def _trouble_line(error: MedroiError | None) -> str:
    if error is None:
        return "the line is back"
    return f"no line: {error}; trying on, what has been stored is not sent again"


def _success(run: _Run) -> str:
    if run.session is not None and run.session.exact:
        return "stored and verified at the clinic: every voxel is exact"
    return "stored at the clinic: ROI and tissue exact, the background discarded as asked"


def _leave_report(transfer: Transfer, run: _Run, path: Path, outcome: str, code: ExitCode) -> None:
    from sender.report import sender_report
    from shared.report import write_report

    study = run.study
    if study and run.session and run.session.offering:  # as its plans have grown
        study = replace(study, series=tuple(run.session.offering.series))
    report = sender_report(
        run.session,
        study,
        run.timeline,
        run.course,
        transfer.link,
        outcome=outcome,
        exit_code=code,
    )
    write_report(report, path)
