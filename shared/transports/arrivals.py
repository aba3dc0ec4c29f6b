"""Who has dialled in, for an end that listens and yet wants lines one at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.errors import TransportClosed

if TYPE_CHECKING:
    from shared.transports.websocket_transport import WebSocketTransport

WAIT_S = 4.0
"""`take` waits no longer, so that whoever tries can say that nobody has come."""


class Arrivals:
    """`meet` is the handler of a listener; `take` gives what it has met, the newest first.

    A line that came a while ago may be dead without anybody knowing; the newest one is not.
    """

    def __init__(self, peer: str) -> None:
        """``peer`` is whom one waits for, in words."""
        self._peer = peer
        self._waiting: list[WebSocketTransport] = []
        self._came = asyncio.Condition()

    async def meet(self, transport: WebSocketTransport) -> None:
        """Keep a line until it is gone."""
        async with self._came:
            self._waiting.append(transport)
            self._came.notify()
        try:
            await transport.until_gone()
        finally:
            if transport in self._waiting:
                self._waiting.remove(transport)

    async def take(self) -> WebSocketTransport:
        """The newest line that nobody has taken.

        Raises:
            TransportClosed: none came in time.
        """
        try:
            async with asyncio.timeout(WAIT_S), self._came:
                await self._came.wait_for(lambda: bool(self._waiting))
                return self._waiting.pop()
        except TimeoutError:
            raise TransportClosed(f"no {self._peer} has dialled in yet") from None
