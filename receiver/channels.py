"""Data channels that senders offer: answered beside the connection that carries the offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from shared.errors import AuthenticationError, MedroiError, RemoteProtocolError
from shared.role import Role
from shared.transports.webrtc.binding import ChannelKey
from shared.transports.webrtc.connect import make_answer
from shared.transports.webrtc.flags import Choice, Ways

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.visit import Visit
    from shared.transports.base import Transport
    from shared.transports.tasks import TaskOwner

MAX_CHANNELS = 8
"""Being made or open, all senders together: as many as a listener has connections."""
MAX_MAKING = 3
"""Of them being made: each costs half a second of a core, and a peer may ask for more."""


class Channels:
    """Of one clinic."""

    def __init__(
        self,
        ways: Ways,
        owner: TaskOwner,
        take: Callable[[Transport], Awaitable[None]],
        on_remark: Callable[[str], None],
    ) -> None:
        """``take`` runs a connection over a channel to its end."""
        self._ways = ways
        self._owner = owner
        self._take = take
        self._on_remark = on_remark
        self._making = 0
        self._open = 0

    def no_session_over(self, transport: Transport) -> str:
        """Why a session may not use a connection, which carries offers only; empty where it may."""
        if self._ways.choice is not Choice.WEBRTC or transport.stats().name == Choice.WEBRTC:
            return ""
        return (
            "this end was told --transport webrtc and takes no study over a WebSocket: "
            "send it with --transport webrtc"
        )

    def offered(self, visit: Visit, offer: m.ChannelOffer) -> None:
        """Answer an offer, in a task of its own."""
        if self._ways.choice is Choice.WS:
            self._decline(visit, offer, "this end was told --transport ws")
        elif self._making >= MAX_MAKING or self._making + self._open >= MAX_CHANNELS:
            self._decline(visit, offer, "too many channels at once")
        else:
            self._owner.start(self._answer(visit, offer))

    async def _answer(self, visit: Visit, offer: m.ChannelOffer) -> None:
        self._making += 1
        try:
            transport = await self._make(visit, offer)
        except MedroiError as error:
            if isinstance(error, AuthenticationError | RemoteProtocolError):
                self._on_remark(f"a data channel was refused: {error}")
            return
        finally:
            self._making -= 1
        self._open += 1
        try:
            await self._take(transport)
        finally:
            self._open -= 1
            await transport.close()

    async def _make(self, visit: Visit, offer: m.ChannelOffer) -> Transport:
        sdp = offer.sdp.decode("ascii", "replace")
        try:
            answer = await make_answer(sdp, self._ways.ice, max_frame_bytes=limits.MAX_FRAME_BYTES)
        except MedroiError as error:
            self._decline(visit, offer, str(error))
            raise
        async with answer:
            visit.say(m.ChannelAnswer(offer.number, answer.sdp.encode(), ""))
            key = ChannelKey(offer.secret, Role.RECEIVER, generation=offer.number)
            transport = await answer.connect(key)
        transport.proven = getattr(visit.transport, "proven", None)
        return transport

    def _decline(self, visit: Visit, offer: m.ChannelOffer, reason: str) -> None:
        visit.say(m.ChannelAnswer(offer.number, b"", reason))
