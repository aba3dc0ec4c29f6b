"""One RTCPeerConnection of aiortc with one data channel on it, made safe to use.

Both ends know the channel beforehand (``negotiated``, stream 0): nobody has to open it, so nothing
is lost between its opening and somebody listening. This module imports aiortc, which takes the
better part of a second; `connect` loads it when it is needed, and not on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import aiortc
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError

from shared.errors import (
    AuthenticationError,
    MedroiError,
    RemoteProtocolError,
    SettingsError,
    TransportClosed,
)
from shared.transports.webrtc import guard, sctp
from shared.transports.webrtc.binding import EXPORTER_BYTES, EXPORTER_LABEL
from shared.transports.webrtc.ice import PatientConnection
from shared.transports.webrtc.pieces import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCDtlsTransport, RTCSctpTransport

    from shared.transports.webrtc.sdp import Description
    from shared.transports.webrtc.servers import IceSettings

AIORTC_VERSION = "1.16.0"
"""What the congestion control was written against; with any other, aiortc's own is used."""
DROP_TIMEOUT_S = 5.0
"""For aiortc to put everything away; a relay may have to be told, and may not answer."""
MAX_EARLY = 2
"""Messages before anybody listens: the peer's proof, and not much behind it."""


class Peer:
    """A connection that is being made, or is there; a `transport.Pipe`. `drop` must follow."""

    def __init__(self, ice: IceSettings, *, use_model: bool) -> None:
        """``use_model``: medroi's congestion control, where it fits the aiortc that is there.

        Raises:
            SettingsError: an aiortc that medroi does not know its way around in.
        """
        # Without an empty list, aiortc asks a server of Google's who we are.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._channel = self._connection.createDataChannel(
            "medroi", negotiated=True, id=guard.STREAM
        )
        self.on_message: Callable[[bytes | str], None] = self._keep_early
        self.on_room: Callable[[], None] = _nothing
        self.on_gone: Callable[[MedroiError], None] = self._end_opening
        self._early: list[bytes | str] = []
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dropped: asyncio.Future[None] | None = None
        association = self._association
        ice_connection = self._dtls.transport._connection
        ice_connection.__class__ = PatientConnection
        ice_connection.begin(ice)  # type: ignore[attr-defined]  # it is one now
        self.congestion = _take_over(association, self._on_offence, use_model=use_model)
        self.holds_back = isinstance(association, sctp.ModelledSctp)
        if isinstance(association, sctp.ModelledSctp):
            association.on_room = self._on_room
        self._channel.on("message", self._on_message)
        self._channel.on("bufferedamountlow", self._on_room)
        self._channel.on("open", self._on_open)
        self._channel.on("close", self._on_close)
        self._connection.on("connectionstatechange", self._on_state)

    @property
    def _association(self) -> RTCSctpTransport:
        association = self._connection.sctp
        assert association is not None  # there is a channel
        return association

    @property
    def _dtls(self) -> RTCDtlsTransport:
        return self._association.transport

    # -- making it --------------------------------------------------------------------------------

    async def offer(self) -> str:
        """Gather addresses and describe this end.

        Raises:
            TransportClosed: no address, or a server of the settings that does not answer.
            SettingsError: a relay that does not know the user.
        """
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return self._connection.localDescription.sdp

    async def answer(self, offer: Description) -> str:
        """Take the other end's offer, gather addresses and describe this end; raises as `offer`."""
        await self._take(offer)
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        return self._connection.localDescription.sdp

    async def accept(self, answer: Description) -> None:
        """Take the answer to this end's offer."""
        await self._take(answer)

    async def opened(self) -> None:
        """Wait until the channel is open.

        Raises:
            TransportClosed: there is no way between the two ends.
            AuthenticationError: whoever answers has another certificate than the description says.
            RemoteProtocolError: it breaks the protocol.
        """
        await asyncio.shield(self._opened)

    def exporter(self) -> bytes:
        """Keying material of this DTLS connection, for `binding`; once the channel is open."""
        tls = self._dtls._ssl
        assert tls is not None  # the channel is open
        return tls.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES)

    def attach(self) -> None:
        """Hand over what came before anybody listened; `on_message` has been set."""
        early, self._early = self._early, []
        for message in early:
            self.on_message(message)

    async def _take(self, description: Description) -> None:
        await self._connection.setRemoteDescription(
            RTCSessionDescription(description.to_sdp(), description.kind)
        )

    # -- a pipe -----------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a message waits to be taken by SCTP."""
        association = self._association
        is_held = isinstance(association, sctp.ModelledSctp) and association.waits
        return is_held or self._channel.bufferedAmount > 0

    @property
    def losses(self) -> int | None:
        """Packets that had to be sent again so far; None where nobody counts them."""
        association = self._association
        return association.retransmissions if isinstance(association, sctp.ModelledSctp) else None

    @property
    def message_bytes(self) -> int:
        """How long a message should be at most."""
        association = self._association
        if isinstance(association, sctp.ModelledSctp):
            return association.message_bytes
        return MESSAGE_BYTES

    def send(self, message: bytes) -> None:
        """Hand over a message; nothing, where the channel is closing."""
        with contextlib.suppress(InvalidStateError):
            self._channel.send(message)

    async def drop(self) -> None:
        """End the connection without a word, or give up making it; safe to call twice."""
        if self._dropped is None:
            self._dropped = asyncio.get_running_loop().create_future()
            self._tell_gone(TransportClosed("the connection was dropped by this end"))
            try:
                async with asyncio.timeout(DROP_TIMEOUT_S):
                    await self._connection.close()
            except TimeoutError:
                pass  # aiortc's own tasks go on trying
            finally:
                self._dropped.set_result(None)
        await asyncio.shield(self._dropped)

    # -- what aiortc says -------------------------------------------------------------------------

    def _on_message(self, message: bytes | str) -> None:
        self.on_message(message)

    def _keep_early(self, message: bytes | str) -> None:
        self._early.append(message)
        if len(self._early) > MAX_EARLY:
            self._on_offence(RemoteProtocolError("the peer sent frames before it was proven"))

    def _on_room(self) -> None:
        self.on_room()

    def _on_open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_close(self) -> None:
        self._tell_gone(TransportClosed("the connection is gone without being closed"))

    def _on_offence(self, offence: RemoteProtocolError) -> None:
        self._tell_gone(offence)

    def _on_state(self) -> None:
        state = self._connection.connectionState
        if state == "closed":
            self._on_close()
        elif state == "failed":
            self._tell_gone(self._failure())

    def _failure(self) -> MedroiError:
        dtls = self._dtls
        if dtls.state != "failed":
            if self._opened.done():
                return TransportClosed("the peer was not heard of for too long")
            return TransportClosed(
                "no way was found between the two ends: all of their addresses were tried "
                "(a TURN server would be one)"
            )
        if dtls.encrypted:
            return AuthenticationError(
                "whoever answers has another certificate than the peer's description says"
            )
        return TransportClosed("the DTLS handshake with the peer failed")

    def _tell_gone(self, why: MedroiError) -> None:
        self.on_gone(why)

    def _end_opening(self, why: MedroiError) -> None:
        if not self._opened.done():
            self._opened.set_exception(why)
            self._opened.exception()  # whoever waits is told; nobody has to


def _nothing() -> None:
    return


def _take_over(
    association: RTCSctpTransport,
    on_offence: Callable[[RemoteProtocolError], None],
    *,
    use_model: bool,
) -> str:
    """Make the association guarded, and modelled where that is possible: what it is called then."""
    lacking = [name for name in guard.NEEDED if not hasattr(association, name)]
    if lacking:
        raise SettingsError(
            f"aiortc {aiortc.__version__} cannot be guarded, as it has no {lacking[0]}: "
            f"medroi needs aiortc {AIORTC_VERSION}"
        )
    fits = aiortc.__version__ == AIORTC_VERSION
    fits = fits and all(hasattr(association, name) for name in sctp.NEEDED)
    if use_model and fits:
        association.__class__ = sctp.ModelledSctp
        assert isinstance(association, sctp.ModelledSctp)
        association.guard(on_offence)
        association.begin()
        return "model"
    association.__class__ = guard.GuardedSctp
    assert isinstance(association, guard.GuardedSctp)
    association.guard(on_offence)
    return "reno" if fits else f"reno (aiortc {aiortc.__version__})"
