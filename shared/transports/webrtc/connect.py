"""From two descriptions to an open, proven data channel; how they travel is up to the caller.

    offering end                                   answering end
    offer = await make_offer(...)
         offer.sdp  ------------ text ------------>  answer = await make_answer(sdp, ...)
                    <----------- text ------------   answer.sdp
    await offer.connect(sdp, key)                    await answer.connect(key)
         ... ICE, DTLS, SCTP, both proofs ...
    WebRtcTransport                                  WebRtcTransport

The texts must be authenticated on their way (a session's own TLS, or `signals`): who can change
them can stand in between, and is found out only by the proofs. Neither end asks anybody outside
unless `IceSettings` say so. aiortc has no ICE restart: a path that breaks needs a new offer.
"""

from __future__ import annotations

import asyncio
import importlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from shared.errors import SettingsError, TransportClosed
from shared.transports.webrtc.binding import ChannelKey, ChannelProof
from shared.transports.webrtc.sdp import read_description
from shared.transports.webrtc.servers import IceSettings
from shared.transports.webrtc.transport import WebRtcTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from shared.transports.webrtc.peer import Peer

CONNECT_TIMEOUT_S = 30.0
"""From both descriptions to both proofs. By satellite it takes seven round trips, 5 s."""


class _Making:
    """A connection that is being made. `close` must follow, unless `connect` gave a transport."""

    def __init__(self, peer: Peer, sdp: str, max_frame_bytes: int) -> None:
        self._peer = peer
        self._max_frame_bytes = max_frame_bytes
        self._is_handed_over = False
        self.sdp = sdp
        """For the other end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give it up; does nothing to a transport that came of it."""
        if not self._is_handed_over:
            await self._peer.drop()

    async def _open(self, key: ChannelKey, timeout_s: float) -> WebRtcTransport:
        try:
            async with _dropped_unless_done(self._peer), asyncio.timeout(timeout_s):
                await self._peer.opened()
                proof = ChannelProof(key, self._peer.exporter())
                transport = WebRtcTransport(
                    self._peer, proof, max_frame_bytes=self._max_frame_bytes
                )
                self._peer.attach()
                await transport.opened()
        except TimeoutError:
            raise TransportClosed(
                f"the two ends did not find to each other within {timeout_s:g} s"
            ) from None
        self._is_handed_over = True
        return transport


class Offer(_Making):
    """This end's half of an offer; made by `make_offer`."""

    async def connect(
        self, answer_sdp: str, key: ChannelKey, *, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> WebRtcTransport:
        """An open transport, from what the other end answered.

        Raises:
            RemoteProtocolError: the answer is not one, or the peer breaks the protocol.
            AuthenticationError: another certificate than the answer says, or no proof of the key.
            TransportClosed: no way between the two ends, or not in time.
        """
        await self._peer.accept(read_description(answer_sdp, "answer"))
        return await self._open(key, timeout_s)


class Answer(_Making):
    """This end's half of an answer; made by `make_answer`."""

    async def connect(
        self, key: ChannelKey, *, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> WebRtcTransport:
        """An open transport, once the other end has the answer; raises as `Offer.connect`."""
        return await self._open(key, timeout_s)


async def make_offer(
    ice: IceSettings | None = None, *, max_frame_bytes: int, use_model: bool = True
) -> Offer:
    """Describe this end for a peer that will answer.

    ``use_model`` False leaves congestion control to aiortc, which halves its window at each loss.

    Raises:
        SettingsError: no aiortc, or a relay that does not know the user.
        TransportClosed: no address, or a server of ``ice`` that does not answer.
    """
    peer = await _new_peer(ice, use_model=use_model)
    async with _dropped_unless_done(peer):
        return Offer(peer, await peer.offer(), max_frame_bytes)


async def make_answer(
    offer_sdp: str,
    ice: IceSettings | None = None,
    *,
    max_frame_bytes: int,
    use_model: bool = True,
) -> Answer:
    """Take an offer, and describe this end for it.

    Raises:
        RemoteProtocolError: the offer is not one.
        SettingsError, TransportClosed: as `make_offer`.
    """
    offer = read_description(offer_sdp, "offer")
    peer = await _new_peer(ice, use_model=use_model)
    async with _dropped_unless_done(peer):
        return Answer(peer, await peer.answer(offer), max_frame_bytes)


@asynccontextmanager
async def _dropped_unless_done(peer: Peer) -> AsyncIterator[None]:
    """Whatever goes wrong inside, a cancellation included, leaves no half-made connection."""
    try:
        yield
    except BaseException:
        await peer.drop()
        raise


async def _new_peer(ice: IceSettings | None, *, use_model: bool) -> Peer:
    try:
        # In a thread, for the event loop has other things to do meanwhile.
        await asyncio.to_thread(importlib.import_module, "shared.transports.webrtc.peer")
        from shared.transports.webrtc.peer import Peer
    except ImportError as error:
        raise SettingsError(
            f"WebRTC needs aiortc, which cannot be loaded here ({error}): "
            "install medroi with its dependencies, or choose --transport ws"
        ) from error
    return Peer(ice or IceSettings(), use_model=use_model)
