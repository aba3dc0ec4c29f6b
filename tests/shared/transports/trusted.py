"""Two ends that know a key, and a wire between them that remembers what went over it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import shutil
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shared.role import Role
from shared.transports.websocket import Listener, WebSocketTransport, dial, listen
from shared.transports.websocket_gate import CHALLENGE_HEADER
from shared.trust.credentials import Credentials
from shared.trust.identity import Identity, open_identity
from shared.trust.keys import SharedKey
from shared.trust.proof import Claim, DiallingProof

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

LIMIT = 1 << 20
KEY = SharedKey("clinic", b"k" * 32)
STRANGE = SharedKey("strange", b"s" * 32)
SECRET = b"Doe^Jane, born 1970-01-01: nobody between the two ends reads this"
"""What a session would send; no test may find it where it must not be."""

TLS_HANDSHAKE, TLS_DATA = 22, 23
"""Record types. From the dialler's Finished on everything is of the second one (RFC 8446, 5.1)."""


@functools.cache
def identity(name: str = "listener") -> Identity:
    folder = Path(tempfile.mkdtemp(prefix=f"medroi-{name}-"))
    atexit.register(shutil.rmtree, folder)
    return open_identity(folder)


def dialling(
    key: SharedKey = KEY,
    role: Role = Role.SENDER,
    *,
    version: int = 1,
    pin: bytes | None = None,
) -> Credentials:
    return Credentials(Claim(role, version), (key,), pin=pin)


def listening(
    *keys: SharedKey, role: Role = Role.RECEIVER, version: int = 1, tls: bool = True
) -> Credentials:
    return Credentials(Claim(role, version), keys or (KEY,), identity() if tls else None)


async def echo(transport: WebSocketTransport) -> None:
    async for frame in transport.frames():
        await transport.send(frame)


@dataclass
class Site:
    """A listener with credentials, who came in there, and what was said of the others."""

    listener: Listener
    wire: Wire
    came: list[WebSocketTransport]
    refused: list[str]

    @property
    def url(self) -> str:
        """Through the wire."""
        return self.listener.url.replace(f":{self.listener.port}", f":{self.wire.port}")


@contextlib.asynccontextmanager
async def site(
    credentials: Credentials | None = None,
    handler: Callable[[WebSocketTransport], Coroutine[object, object, None]] = echo,
    *,
    open_timeout_s: float = 5.0,
    max_connections: int = 8,
) -> AsyncIterator[Site]:
    came: list[WebSocketTransport] = []
    refused: list[str] = []

    async def take(transport: WebSocketTransport) -> None:
        came.append(transport)
        await handler(transport)

    async with (
        asyncio.timeout(30),
        listen(
            "127.0.0.1",
            0,
            take,
            max_frame_bytes=LIMIT,
            credentials=credentials or listening(),
            on_refused=refused.append,
            open_timeout_s=open_timeout_s,
            max_connections=max_connections,
        ) as listener,
        wire(listener.port) as between,
    ):
        yield Site(listener, between, came, refused)


@dataclass
class Wire:
    """A TCP relay that keeps all bytes."""

    port: int
    sent: bytearray = field(default_factory=bytearray)
    """By diallers."""
    answered: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """A connection has ended."""


@contextlib.asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    made = Wire(0)

    async def carry(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        try:
            far, to_far = await asyncio.open_connection("127.0.0.1", target)
            async with asyncio.TaskGroup() as group:
                group.create_task(pipe(near, to_far, made.sent))
                group.create_task(pipe(far, to_near, made.answered))
        finally:
            made.ended.set()

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(1 << 16):
            kept += part
            writer.write(part)
            await writer.drain()
    writer.close()


def records(content: bytes | bytearray) -> list[tuple[int, int]]:
    """Type and length of each TLS record; what is no TLS at all fails."""
    found = []
    while content:
        kind, version, size = content[0], content[1:3], int.from_bytes(content[3:5])
        assert kind in (20, 21, 22, 23), f"plaintext: {content[:40]!r}"
        assert version in (b"\x03\x01", b"\x03\x03")
        found.append((kind, size))
        content = content[5 + size :]
    return found


@dataclass
class Impostor:
    """Who listens in the listener's place, and what was said to it once TLS stood."""

    port: int
    heard: bytearray = field(default_factory=bytearray)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}/#{identity().pin.hex()}"


@contextlib.asynccontextmanager
async def impostor(
    shown: Identity | None,
    act: Callable[[bytes], bytes] = lambda _: b"",
    *,
    tune: Callable[[ssl.SSLContext], None] = lambda _: None,
) -> AsyncIterator[Impostor]:
    """With a certificate of its own, a stolen one, or no TLS; answers what it reads by ``act``."""
    made = Impostor(0)
    context: ssl.SSLContext | None = None
    if shown is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.path)
        tune(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(1 << 16):
                made.heard += part
                writer.write(act(part))
        writer.close()
        made.gone.set()

    async with (
        asyncio.timeout(30),
        await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server,
    ):
        made.port = server.sockets[0].getsockname()[1]
        yield made


def trusting_context() -> ssl.SSLContext:
    """A stranger's, who takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def ask(url: str, credentials: Credentials) -> bytes:
    """What the session at the other end answers, an echo."""
    transport = await dial(url, max_frame_bytes=LIMIT, credentials=credentials)
    try:
        await transport.send(SECRET)
        async for answer in transport.frames():
            return answer
    finally:
        await transport.close()
    raise AssertionError("no answer")


async def held_open(clinic: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """TCP, and TLS where it is spoken, as anybody may have it."""
    context = trusting_context() if clinic.url.startswith("wss") else None
    return await asyncio.open_connection("127.0.0.1", clinic.listener.port, ssl=context)


@contextlib.asynccontextmanager
async def stranger(
    clinic: Site,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The same, dropped in the end."""
    reader, writer = await held_open(clinic)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except (ConnectionResetError, ssl.SSLError):
        return b""


def request(challenge: str | None = None, **headers: str) -> bytes:
    lines = [
        "GET / HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *([f"{CHALLENGE_HEADER}: {challenge}"] if challenge is not None else []),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def challenge(binding: bytes | None = None) -> str:
    """One that the listener takes."""
    claim = Claim(Role.SENDER, 1)
    return DiallingProof(KEY, binding or identity().pin, claim, b"n" * 32).challenge.hex()
