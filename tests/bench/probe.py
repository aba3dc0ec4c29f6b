"""Bulk and, every 0.4 s, an urgent kilobyte, by medroi's own connections over a given transport.

    python -m tests.bench.probe receive --host 127.0.0.1            prints where it listens
    python -m tests.bench.probe send URL --seconds 20               ends after so long

What is sent is noise; who sends it is the real `SendingConnection` with its window, the real
`ReceivingConnection` with its acknowledgements, and the real transport. The receiver prints a
`Tally` as JSON when the sender has left. Both must run on one machine: an urgent kilobyte carries
the time at which it was asked for, and that clock is the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from protocol import limits
from protocol import messages as m
from protocol.events import EncodingArrived
from protocol.frames import FRAGMENT_OVERHEAD_BYTES, FrameKind
from protocol.inbox import Inbox
from protocol.outbox import Outbox
from protocol.receiving import ReceivingConnection
from protocol.sending import SendingConnection
from shared.clock import Clock, SystemClock
from shared.errors import TransportClosed
from shared.layer import LayerKey, Quality
from shared.loop import run_on_loop
from shared.transports.base import Transport
from shared.transports.pump import Pump
from tests.protocol import examples
from tests.protocol.test_connections import BACKGROUND, MANIFEST, PLAN, priority

URGENT_BYTES = 1024
URGENT_EVERY_S = 0.4
BULK_BYTES = 256 << 10
BULK_WAITING = 12
"""Encodings offered and not settled: 3 MB, more than any window of a link up to 100 Mbit/s."""
_URGENT, _BULK = 0, 1
_BUCKET_S = 0.05
_STAMP = struct.Struct("!d")

Handler = Callable[[Transport], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Carrier:
    """How a kind of transport is had at both ends."""

    listen: Callable[[str, Handler], AbstractAsyncContextManager[str]]
    """On an address, giving the URL to dial."""
    dial: Callable[[str], Awaitable[Transport]]


@dataclass
class Tally:
    """What came, seconds on the machine's monotonic clock."""

    bulk: list[tuple[float, int]] = field(default_factory=list)
    """Content bytes of fragments, in spans of 50 ms, each with its start."""
    urgent: list[tuple[float, float]] = field(default_factory=list)
    """When an urgent kilobyte was asked for, and how long it took to be there whole."""
    transport: str = ""
    congestion: str = ""
    """As the sender's transport names it."""
    came_up_s: float = 0.0
    """When the line under it came up, on the same clock."""

    def note_bulk(self, now_s: float, size_bytes: int) -> None:
        """A fragment has come."""
        start_s = math.floor(now_s / _BUCKET_S) * _BUCKET_S
        if self.bulk and self.bulk[-1][0] == start_s:
            self.bulk[-1] = (start_s, self.bulk[-1][1] + size_bytes)
        else:
            self.bulk.append((start_s, size_bytes))

    def goodput_bps(self, warm_up_s: float, seconds: float) -> float:
        """Content per second over a span that begins so long after the first fragment."""
        if not self.bulk:
            return 0.0
        start_s = self.bulk[0][0] + warm_up_s
        inside = (size for at_s, size in self.bulk if start_s <= at_s < start_s + seconds)
        return sum(inside) * 8 / seconds

    def urgent_s(self, share: float, warm_up_s: float) -> float | None:
        """How long the given share of urgent kilobytes took at most; None if none came."""
        if not self.bulk:
            return None
        start_s = self.bulk[0][0] + warm_up_s
        taken_s = sorted(took_s for asked_s, took_s in self.urgent if asked_s >= start_s)
        return taken_s[min(len(taken_s) - 1, int(share * len(taken_s)))] if taken_s else None


# -- the two ends ---------------------------------------------------------------------------------


SESSION = bytes(16)


class _Counting(ReceivingConnection):
    """Notes fragments as they come, before they make up an encoding."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(software="probe")
        self._tally = tally

    def receive_frame(self, raw: bytes, now_s: float) -> list[Any]:
        if raw[1] == FrameKind.FRAGMENT:
            self._tally.note_bulk(now_s, len(raw) - FRAGMENT_OVERHEAD_BYTES)
        return super().receive_frame(raw, now_s)


async def receive(transport: Transport, tally: Tally, clock: Clock) -> None:
    """Take everything until the sender leaves."""
    connection, inbox = _Counting(tally), Inbox(SESSION)

    async def on_event(event: object) -> None:
        match event:
            case m.Hello():
                connection.greet()
            case m.Attach():
                connection.join(inbox, event)
            case m.Manifest():
                inbox.held = ()
                connection.accept(())
            case EncodingArrived(offer=offer, payload=payload):
                if offer.key.block == _URGENT:
                    (asked_s,) = _STAMP.unpack_from(payload)
                    tally.urgent.append((asked_s, clock.now_s() - asked_s))
                inbox.settle(offer.number)
                connection.say(m.LayerVerdict(offer.number, m.Verdict.VERIFIED))

    with suppress(TransportClosed):
        await Pump(connection, transport, clock, on_event).run()


async def send(transport: Transport, seconds: float, clock: Clock) -> None:
    """Keep bulk waiting, and now and then ask for something urgent, for so long."""
    connection, outbox = SendingConnection(software="probe"), Outbox()
    connection.window.losses = transport.losses
    connection.window.is_held_below = transport.stats().holds_back
    ready = asyncio.Event()
    noise = random.Random(0).randbytes(BULK_BYTES)
    template = examples.offer(0, noise, box=BACKGROUND.box, owned=BACKGROUND.box.voxels)

    async def on_event(event: object) -> None:
        if isinstance(event, m.Hello):
            connection.offer(MANIFEST, outbox)
            connection.plan(PLAN)
            ready.set()
        fill()

    def fill() -> None:
        while ready.is_set() and outbox.count < BULK_WAITING:
            number = outbox.reserve()
            key = LayerKey(0, BACKGROUND.name, Quality.EXACT, _BULK)
            outbox.put(replace(template, number=number, key=key), noise, priority(number + 1))
        pump.wake()

    async def ask() -> None:
        await ready.wait()
        while True:
            await asyncio.sleep(URGENT_EVERY_S)
            content = _STAMP.pack(clock.now_s()) + noise[_STAMP.size : URGENT_BYTES]
            offer = examples.offer(
                outbox.reserve(),
                content,
                box=BACKGROUND.box,
                owned=BACKGROUND.box.voxels,
            )
            key = LayerKey(0, BACKGROUND.name, Quality.EXACT, _URGENT)
            outbox.put(replace(offer, key=key), content, priority(0))
            pump.wake()

    pump = Pump(connection, transport, clock, on_event)
    connection.greet()
    connection.attach(SESSION, 1, accepted=False)
    with suppress(TimeoutError, TransportClosed):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(ask())
            await pump.run()


# -- transports -----------------------------------------------------------------------------------


@asynccontextmanager
async def _listen_websocket(host: str, handler: Handler) -> AsyncIterator[str]:
    from shared.transports.websocket import listen

    async with listen(host, 0, handler, max_frame_bytes=limits.MAX_FRAME_BYTES) as listener:
        yield listener.url


async def _dial_websocket(url: str) -> Transport:
    from shared.transports.websocket import dial

    return await dial(url, max_frame_bytes=limits.MAX_FRAME_BYTES)


def _webrtc(*, use_model: bool) -> Carrier:
    from tests.bench.datachannel import dial_webrtc, listen_webrtc

    return Carrier(
        partial(listen_webrtc, use_model=use_model), partial(dial_webrtc, use_model=use_model)
    )


CARRIERS = {
    "websocket": Carrier(_listen_websocket, _dial_websocket),
    "webrtc": _webrtc(use_model=True),
    "webrtc-reno": _webrtc(use_model=False),
}
"""By name."""


# -- commands -------------------------------------------------------------------------------------


async def _run_receiver(carrier: Carrier, host: str) -> Tally:
    tally, gone = Tally(), asyncio.Event()

    async def handler(transport: Transport) -> None:
        await receive(transport, tally, SystemClock())
        tally.transport = transport.stats().name
        gone.set()

    async with carrier.listen(host, handler) as url:
        print(url, flush=True)
        await gone.wait()
    return tally


async def _run_sender(carrier: Carrier, url: str, seconds: float) -> str:
    transport = await carrier.dial(url)
    try:
        await send(transport, seconds, SystemClock())
        return transport.stats().congestion
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await transport.close()


def main() -> int:
    """One of the two ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.probe")
    parser.add_argument("end", choices=("receive", "send"))
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--transport", choices=tuple(CARRIERS), default="websocket")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--congestion", default="", help="asked of the kernel in place of BBR")
    options = parser.parse_args()
    if options.congestion:
        from shared.transports import websocket_transport

        websocket_transport.CONGESTION = options.congestion.encode()
    carrier = CARRIERS[options.transport]
    if options.end == "receive":
        print(json.dumps(asdict(run_on_loop(_run_receiver(carrier, options.host)))), flush=True)
    else:
        print(run_on_loop(_run_sender(carrier, options.url, options.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
