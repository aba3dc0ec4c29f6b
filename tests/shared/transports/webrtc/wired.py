"""Both ends of a data channel in virtual time: aiortc's SCTP as medroi changes it, over a line.

    WebRtcTransport -> WiredPipe -> ModelledSctp -> Wire -> LineDatagrams -> Wire -> ...

What is left out is ICE and DTLS, and with them every socket and thread: a run takes what its
computing takes, and the same seed gives the same packets. What DTLS, UDP and IP add to each packet
is counted on the line.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiortc import RTCDataChannel
from aiortc.rtcdatachannel import RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpTransport

from protocol import limits
from shared.line import Line
from shared.line_datagrams import LineDatagrams
from shared.link import parse_link
from shared.role import Role
from shared.transports.webrtc import guard, sctp
from shared.transports.webrtc.binding import ChannelKey, ChannelProof
from shared.transports.webrtc.transport import WebRtcTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.errors import MedroiError
    from shared.link import LinkProfile

OVERHEAD_BYTES = 37 + 8 + 20
"""Of DTLS 1.2 with AES-GCM, UDP and IPv4."""
_EXPORTER = bytes(32)


class Wire:
    """Stands for aiortc's DTLS transport: carries packets to the other end over a line."""

    state = "connected"

    def __init__(self, profile: LinkProfile, seed: int, role: str) -> None:
        self._role = role
        loop = asyncio.get_running_loop()
        self.line = LineDatagrams(Line(profile, seed, start_s=loop.time()))
        self.other: Wire
        self.is_cut = False
        self.packets: list[bytes] = []
        """All that were sent into it."""
        self._receiver: Any = None
        self._tasks: set[asyncio.Future[None]] = set()

    def _register_data_receiver(self, receiver: object) -> None:
        self._receiver = receiver

    def _unregister_data_receiver(self, receiver: object) -> None:
        self._receiver = None

    async def _send_data(self, data: bytes) -> None:
        if self.is_cut:
            raise ConnectionError("not connected")
        self.packets.append(data)
        loop = asyncio.get_running_loop()
        for arrives_s in self.line.arrivals_s(loop.time(), len(data) + OVERHEAD_BYTES):
            loop.call_at(arrives_s, self.other.deliver, data)

    def deliver(self, data: bytes) -> None:
        """A packet has come here."""
        if self._receiver is not None:
            task = asyncio.ensure_future(self._receiver._handle_data(data))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class WiredPipe:
    """A `transport.Pipe` over a wire; what `peer.Peer` is over a real connection."""

    congestion = "model"
    holds_back = True

    def __init__(self, wire: Wire) -> None:
        association = RTCSctpTransport(wire)  # type: ignore[arg-type]  # all it asks of one
        self.offences: list[MedroiError] = []
        association.__class__ = sctp.ModelledSctp
        assert isinstance(association, sctp.ModelledSctp)
        association.guard(self.offences.append)
        association.begin()
        association.on_room = self._on_room
        self.association = association
        parameters = RTCDataChannelParameters(label="test", negotiated=True, id=guard.STREAM)
        self.channel = RTCDataChannel(self.association, parameters)
        self.channel.on("message", self._on_message)
        self.channel.on("bufferedamountlow", self._on_room)
        self.opened = asyncio.Event()
        self.channel.on("open", self.opened.set)
        self.on_message: Callable[[bytes | str], None]
        self.on_room: Callable[[], None] = lambda: None
        self.on_gone: Callable[[MedroiError], None]

    @property
    def losses(self) -> int | None:
        return self.association.retransmissions

    @property
    def waits(self) -> bool:
        return self.association.waits or self.channel.bufferedAmount > 0

    @property
    def message_bytes(self) -> int:
        return self.association.message_bytes

    def send(self, message: bytes) -> None:
        self.channel.send(message)

    async def drop(self) -> None:
        await self.association.stop()

    def _on_message(self, message: bytes | str) -> None:
        self.on_message(message)

    def _on_room(self) -> None:
        self.on_room()


@dataclass
class WiredEnds:
    near: WebRtcTransport
    far: WebRtcTransport
    there: Wire
    """What the near end sends into."""
    back: Wire
    near_pipe: WiredPipe
    far_pipe: WiredPipe


@contextlib.asynccontextmanager
async def wired(link: str, *, seed: int = 0) -> AsyncIterator[WiredEnds]:
    """An open, proven channel over such a link; dropped in the end."""
    profile = parse_link(link)
    there, back = Wire(profile, 2 * seed, "client"), Wire(profile, 2 * seed + 1, "server")
    there.other, back.other = back, there
    near_pipe, far_pipe = WiredPipe(there), WiredPipe(back)
    key = ChannelKey(bytes(32), Role.SENDER)
    for pipe in (near_pipe, far_pipe):
        await pipe.association.start(None, 5000)
    for pipe in (near_pipe, far_pipe):
        await asyncio.wait_for(pipe.opened.wait(), 60)
    near, far = (
        WebRtcTransport(pipe, ChannelProof(end, _EXPORTER), max_frame_bytes=limits.MAX_FRAME_BYTES)
        for pipe, end in ((near_pipe, key), (far_pipe, replace(key, role=Role.RECEIVER)))
    )
    await asyncio.wait_for(near.opened(), 60)
    await asyncio.wait_for(far.opened(), 60)
    try:
        yield WiredEnds(near, far, there, back, near_pipe, far_pipe)
    finally:
        near.abort()
        far.abort()
        await asyncio.sleep(0.01)
