"""Both ends of a data channel in one process, over real sockets on loopback.

aiortc leaves loopback out by itself; naming the address in the settings brings it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.role import Role
from shared.transports.webrtc.binding import ChannelKey
from shared.transports.webrtc.connect import make_answer, make_offer
from shared.transports.webrtc.servers import IceSettings
from tests.contracts.transport import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.transports.webrtc.transport import WebRtcTransport

LOOPBACK = IceSettings(addresses=("127.0.0.1",))


@dataclass
class Ends:
    near: WebRtcTransport
    far: WebRtcTransport

    def cut(self) -> None:
        self.near.abort()


def keys() -> tuple[ChannelKey, ChannelKey]:
    """What the sender and the receiver of one session know."""
    key, session = secrets.token_bytes(32), secrets.token_bytes(32)
    return ChannelKey(key, Role.SENDER, session), ChannelKey(key, Role.RECEIVER, session)


@contextlib.asynccontextmanager
async def connected(*, use_model: bool = True) -> AsyncIterator[Ends]:
    """An open connection; what is left of it is closed."""
    own, other = keys()
    async with (
        await make_offer(LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES, use_model=use_model) as offer,
        await make_answer(
            offer.sdp, LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES, use_model=use_model
        ) as answer,
        asyncio.TaskGroup() as group,
    ):
        near = group.create_task(offer.connect(answer.sdp, own))
        far = group.create_task(answer.connect(other))
    ends = Ends(near.result(), far.result())
    try:
        yield ends
    finally:
        async with asyncio.TaskGroup() as group:
            group.create_task(ends.near.close())
            group.create_task(ends.far.close())
