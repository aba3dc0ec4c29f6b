"""A data channel for `tests.bench.probe`: signalled over a WebSocket, which is then left idle."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from protocol import limits
from shared.role import Role
from shared.transports.webrtc.binding import ChannelKey
from shared.transports.webrtc.connect import make_answer, make_offer
from shared.transports.websocket import WebSocketTransport, dial, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from shared.transports.base import Transport

_KEY = bytes(32)
"""Both ends are ours, and what they send is noise."""


@asynccontextmanager
async def listen_webrtc(
    host: str, handler: Callable[[Transport], Coroutine[Any, Any, None]], *, use_model: bool = True
) -> AsyncIterator[str]:
    """Answer offers that come over a WebSocket on this address."""

    async def on_signal(signal: WebSocketTransport) -> None:
        offer = await _receive(signal)
        async with await make_answer(
            offer, max_frame_bytes=limits.MAX_FRAME_BYTES, use_model=use_model
        ) as answer:
            await signal.send(answer.sdp.encode())
            transport = await answer.connect(ChannelKey(_KEY, Role.RECEIVER))
        try:
            await handler(transport)
        finally:
            await transport.close()

    async with listen(host, 0, on_signal, max_frame_bytes=limits.MAX_FRAME_BYTES) as listener:
        yield listener.url


async def dial_webrtc(url: str, *, use_model: bool = True) -> Transport:
    """Offer a data channel over a WebSocket to this address."""
    signal = await dial(url, max_frame_bytes=limits.MAX_FRAME_BYTES)
    async with await make_offer(
        max_frame_bytes=limits.MAX_FRAME_BYTES, use_model=use_model
    ) as offer:
        await signal.send(offer.sdp.encode())
        answer = await _receive(signal)
        transport = await offer.connect(answer, ChannelKey(_KEY, Role.SENDER))
    await signal.close()
    return transport


async def _receive(signal: WebSocketTransport) -> str:
    async for frame in signal.frames():
        return frame.decode()
    raise RuntimeError("the other end left without a word")
