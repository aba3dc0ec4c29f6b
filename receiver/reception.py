"""A whole run of medroi-recv: meet senders, receive one study after the other or side by side."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from protocol import limits
from receiver.books import Books
from receiver.clinic import Clinic
from receiver.decode import ChildDecoders
from receiver.dialling import Dialling
from receiver.shelf import Rules
from receiver.store import TOKEN_NAME
from shared.audit import AuditLog
from shared.audit_command import RECEIVED
from shared.clock import SystemClock
from shared.display import Display, open_display
from shared.errors import ExitCode, SettingsError
from shared.folders import state_folder
from shared.metrics_server import serving_metrics
from shared.tasks import one_error
from shared.transports.webrtc.flags import Ways
from shared.workers import ThreadWorkers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.trust.credentials import Credentials

_CLOSE_S = 2.0
_THREADS = 10
"""Most of them wait for the disk: each of eight sessions may be syncing while others paint."""


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
    api: tuple[str, int] | None = None
    """Where viewers of this machine are answered; None for nowhere."""
    ways: Ways = field(default_factory=Ways)
    audit: Path | None = None
    """The log of who sent and saw what; None for that of the state folder."""
    rules: Rules = field(default_factory=Rules)
    """How long studies stay, and how much they may take."""
    metrics: int | None = None
    """The port where monitors of this machine are answered; None for nowhere."""
    dial: str = ""
    """A sender that listens; then nobody is listened for at ``host`` and ``port``."""


async def receive(reception: Reception) -> ExitCode:
    """Listen until stopped, or until one study has ended where only one is wanted.

    Raises:
        SettingsError: the address or the folder cannot be used.
    """
    try:
        reception.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {reception.out}: {error.strerror}") from error
    with ThreadWorkers(_THREADS) as workers, open_display(quiet=reception.quiet) as display:
        async with ChildDecoders() as decoders:
            await workers.run(_warm_up)
            log = AuditLog(reception.audit or state_folder() / RECEIVED)
            books = Books(log, workers, reception.out, display.say)
            async with (
                Clinic(reception, workers, decoders, display, books) as clinic,
                _viewers(reception, clinic, books) as api_url,
                serving_metrics(
                    books.metrics, reception.metrics, books.ills, SystemClock()
                ) as monitors_url,
            ):
                if monitors_url:
                    print(f"monitors: {monitors_url}/metrics", flush=True)
                if reception.ways.signal:
                    _tell_viewers(reception, api_url)
                    return await _signal(reception, clinic, display)
                meet = _dial if reception.dial else _listen
                return await meet(reception, clinic, display, api_url)


async def _listen(reception: Reception, clinic: Clinic, display: Display, api_url: str) -> ExitCode:
    from shared.transports.websocket import listen

    async with listen(
        reception.host,
        reception.port,
        clinic.take,
        max_frame_bytes=limits.MAX_FRAME_BYTES,
        credentials=reception.credentials,
        on_refused=clinic.refused,
        close_timeout_s=_CLOSE_S,
    ) as listener:
        print(f"listening on {listener.url}", flush=True)
        _tell_viewers(reception, api_url)
        return await clinic.until_done()


async def _dial(reception: Reception, clinic: Clinic, display: Display, api_url: str) -> ExitCode:
    from shared.transports.websocket import dial

    _tell_viewers(reception, api_url)
    dialling = Dialling(
        partial(
            dial,
            reception.dial,
            max_frame_bytes=limits.MAX_FRAME_BYTES,
            credentials=reception.credentials,
            close_timeout_s=_CLOSE_S,
        ),
        clinic.take,
        SystemClock(),
        random.SystemRandom(),
        lambda error: display.say(f"no line: {error}; trying on"),
    )
    with one_error():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(dialling.run())
            code = await clinic.until_done()
            running.cancel()
    return code


async def _signal(reception: Reception, clinic: Clinic, display: Display) -> ExitCode:
    from receiver.signalled import answer_lines

    assert reception.credentials is not None  # `ways_of` has seen to it
    with one_error():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(
                answer_lines(reception.ways, reception.credentials.keys, clinic.take, display.say)
            )
            code = await clinic.until_done()
            running.cancel()
    return code


def _tell_viewers(reception: Reception, url: str) -> None:
    if url:
        print(f"viewers: {url}, the token is in {reception.out / TOKEN_NAME}", flush=True)


@asynccontextmanager
async def _viewers(reception: Reception, clinic: Clinic, books: Books) -> AsyncIterator[str]:
    if reception.api is None:
        yield ""
        return
    from receiver.api import serving

    host, port = reception.api
    async with serving(clinic, host, port, reception.out, books.viewed) as url:
        yield url


def _warm_up() -> None:
    """Import now what the first study would otherwise wait for."""
    import nibabel
    from PIL import ImageDraw

    _ = nibabel.Nifti1Header, ImageDraw.Draw
