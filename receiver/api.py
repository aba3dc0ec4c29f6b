"""What a viewer on this machine may ask of the receiver: where studies stand, what comes first.

A WebSocket on loopback, JSON in text messages. The first message is ``{"token": "..."}``, the
content of a file that only the receiver's user can read; nothing else is answered before it. Then:

    {"do": "studies"}                                          what there is, and at which quality:
                     files with their quality maps, without which their voxels mean nothing
    {"do": "focus", "study": ID, "series": 0, "rank": 0,
     "box": [[z0, z1], [y0, y1], [x0, x1]]}                    what meets the box comes first
    {"do": "focus", "study": ID, "slices": [z0, z1]}           the same of whole slices
    {"do": "pause" | "resume", "study": ID}                    no more for now, or again; a pause
                     lasts no longer than the connection that asked for it

Each is answered by ``{"ok": true, ...}`` or ``{"error": "a sentence"}``. Bounds count voxels of the
file's own array, the last one not included; a smaller rank goes first, and a rank's newest focus is
the one that counts.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import json
import os
import secrets
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from protocol import messages as m
from receiver.store import TOKEN_NAME
from shared.errors import SettingsError
from shared.geometry import Box
from shared.layer import Quality

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from receiver.counts import Count
    from receiver.session import ReceivingSession

_TOKEN_BYTES = 16
_TOKEN_S = 5.0
_MAX_VIEWERS = 8
_MAX_MESSAGE_BYTES = 1 << 16
_MAX_RANK = 255
_REFUSED = 1008
"""Policy violation (RFC 6455, section 7.4.1)."""


OnView = Callable[[str, "ReceivingSession", str], None]
"""Hears what a viewer has asked for, of which study, and which viewer it is."""


class Rooms(Protocol):
    """The clinic, as a viewer sees it."""

    def sessions(self) -> Iterable[ReceivingSession]:
        """Those that have a study."""
        ...


class _Refusal(Exception):
    """What was asked cannot be done; the sentence says why."""


class Api:
    """Answers viewers. `serving` opens it."""

    def __init__(self, rooms: Rooms, token: str, on_view: OnView = lambda *_: None) -> None:
        """``on_view`` hears what was asked of which study, and by whom."""
        self._rooms = rooms
        self._on_view = on_view
        self._token = token
        self._viewers = 0
        self._paused: WeakKeyDictionary[ReceivingSession, set[str]] = WeakKeyDictionary()
        """Who has paused what."""

    async def take(self, connection: ServerConnection) -> None:
        """One viewer, until it leaves."""
        if self._viewers >= _MAX_VIEWERS:
            await connection.close(_REFUSED, "too many viewers")
            return
        self._viewers += 1
        try:
            with suppress(ConnectionClosed):
                await self._serve(connection)
        finally:
            self._viewers -= 1

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            async with asyncio.timeout(_TOKEN_S):
                first = await connection.recv()
        except TimeoutError:
            first = ""
        if not self._knows(first):
            await connection.close(_REFUSED, "the first message must carry the token")
            return
        await connection.send(json.dumps({"ok": True}))
        by = str(connection.id)
        try:
            async for text in connection:
                await connection.send(json.dumps(self._answer(text, by)))
        finally:
            self._leave(by)

    def _knows(self, text: str | bytes) -> bool:
        try:
            token = _fields(text).get("token")
        except _Refusal:
            return False
        return isinstance(token, str) and hmac.compare_digest(
            token.encode(errors="replace"), self._token.encode()
        )

    def _answer(self, text: str | bytes, by: str = "") -> dict[str, Any]:
        try:
            asked = _fields(text)
            match asked.get("do"):
                case "studies":
                    seen = list(self._rooms.sessions())
                    for each in seen:
                        self._on_view("studies", each, by)
                    return {"ok": True, "studies": [_about(each) for each in seen]}
                case "focus":
                    session = self._session(asked)
                    session.focus(_focus(asked, session))
                    self._on_view("focus", session, by)
                case "pause" | "resume" as wish:
                    session = self._session(asked)
                    self._pause(session, wish, by)
                case _:
                    raise _Refusal('expected "do" to be studies, focus, pause or resume')
        except _Refusal as refusal:
            return {"error": str(refusal)}
        return {"ok": True}

    def _pause(self, session: ReceivingSession, wish: str, by: str) -> None:
        if wish == "pause":
            self._paused.setdefault(session, set()).add(by)
        else:
            self._paused.pop(session, None)
        session.pause(paused=wish == "pause")
        self._on_view(wish, session, by)

    def _leave(self, by: str) -> None:
        """Nobody would resume what a viewer has paused that dies: a study would stand still."""
        for session, pausing in list(self._paused.items()):
            if pausing == {by}:
                self._pause(session, "resume", by)
            pausing.discard(by)

    def _session(self, asked: dict[str, Any]) -> ReceivingSession:
        for session in self._rooms.sessions():
            if session.manifest is not None and session.manifest.study.hex() == asked.get("study"):
                return session
        raise _Refusal('there is no such study; "studies" lists them')


@asynccontextmanager
async def serving(
    rooms: Rooms, host: str, port: int, out: Path, on_view: OnView = lambda *_: None
) -> AsyncIterator[str]:
    """Answer viewers of this machine for as long as the context lasts; gives the URL.

    Raises:
        SettingsError: the address is not of this machine, or is taken, or the token cannot be
            left in ``out``.
    """
    if not _is_loopback(host):
        raise SettingsError(
            f"--api {host}:{port}: only loopback; a viewer elsewhere needs a tunnel"
        )
    token = secrets.token_hex(_TOKEN_BYTES)
    path = out / TOKEN_NAME
    try:
        _leave_token(path, token)
        server = await serve(
            Api(rooms, token, on_view).take,
            host,
            port,
            process_request=_gate,
            compression=None,
            max_size=_MAX_MESSAGE_BYTES,
            server_header=None,
        )
    except OSError as error:
        raise SettingsError(f"--api {host}:{port}: {error.strerror or error}") from error
    try:
        where = server.sockets[0].getsockname()
        shown = f"[{where[0]}]" if ":" in where[0] else where[0]
        yield f"ws://{shown}:{where[1]}"
    finally:
        server.close()
        path.unlink(missing_ok=True)


def _leave_token(path: Path, token: str) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(token)


def _gate(connection: ServerConnection, request: Request) -> Response | None:
    """A page from elsewhere that runs in a browser here is no viewer of ours, by whichever name it
    reaches us (DNS rebinding)."""
    origin = request.headers.get("Origin")
    asked = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    if (origin is None or _is_loopback(urlsplit(origin).hostname or "")) and _is_loopback(asked):
        return None
    return connection.respond(http.HTTPStatus.FORBIDDEN, "only for this machine\n")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _fields(text: str | bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Refusal("expected a JSON object") from error
    if not isinstance(fields, dict):
        raise _Refusal("expected a JSON object")
    return fields


def _focus(asked: dict[str, Any], session: ReceivingSession) -> m.Focus:
    assert session.manifest is not None  # it has been found by it
    series = _whole(asked.get("series", 0), "series", len(session.manifest.series) - 1)
    rank = _whole(asked.get("rank", 0), "rank", _MAX_RANK)
    shape = session.manifest.series[series].header.shape
    if ("box" in asked) == ("slices" in asked):
        raise _Refusal('a focus has a "box" or "slices"')
    lines, columns = [0, shape[1]], [0, shape[2]]
    bounds: object = [asked["slices"], lines, columns] if "slices" in asked else asked["box"]
    if not isinstance(bounds, list) or len(bounds) != len(shape):
        raise _Refusal("expected a box as [[z0, z1], [y0, y1], [x0, x1]]")
    ranges = [_range(each, size) for each, size in zip(bounds, shape, strict=True)]
    (z0, z1), (y0, y1), (x0, x1) = ranges
    return m.Focus(series, Box((z0, y0, x0), (z1, y1, x1)), rank)


def _whole(value: object, name: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _Refusal(f'expected "{name}" from 0 to {most}')
    return value


def _range(value: object, size: int) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _Refusal("expected each range as [first, behind the last]")
    start, stop = (_whole(each, "bound", size) for each in value)
    if start >= stop:
        raise _Refusal("a range must not be empty")
    return start, stop


def _about(session: ReceivingSession) -> dict[str, Any]:
    assert session.manifest is not None  # sessions without a study are not shown
    return {
        "study": session.manifest.study.hex(),
        "folder": str(session.folder) if session.folder else None,
        "connected": not session.is_waiting,
        "exact": session.exact,
        "series": [
            {
                "label": entry.header.label,
                "shape": list(entry.header.shape),
                "file": str(volume.path or volume.files.path),
                "quality_map": None if volume.path else str(volume.files.quality_path),
                "exact": volume.proven and volume.path is not None,
                "roi": _counts(volume.roi),
                "whole": _counts(volume.whole),
            }
            for entry, volume in zip(session.manifest.series, session.volumes, strict=False)
        ],
    }


def _counts(count: Count) -> dict[str, int]:
    """Voxels in all, how many have at least each quality, and of how many nothing is there."""
    at_least = {each.name.lower(): n for each, n in count.at.items()}
    missing = count.total - count.at[Quality.PREVIEW]
    return {"voxels": count.total, **at_least, "missing": missing}
