"""The ways to the receiver: a WebSocket that is dialled, and a data channel kept in reserve.

    auto      dial ──> WebSocket: the session; over it the two ends agree on a data channel,
                       which stands by, open and silent, until `dial` is asked for another line
    webrtc    dial ──> WebSocket: hello, offer, answer ──> data channel: the session
    ws        dial ──> WebSocket

A channel in reserve takes over within one round trip, where a WebSocket takes four: hello and
`Attach` leave together as soon as the first line is seen to be dead. `sender.caller` dials beside
it, so a channel that is as dead as the line costs nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.pace import Pace
from sender.call import Call
from shared.errors import MedroiError, SettingsError, TransportClosed
from shared.role import Role
from shared.tasks import one_error
from shared.transports.webrtc.binding import KEY_BYTES, ChannelKey
from shared.transports.webrtc.connect import make_offer
from shared.transports.webrtc.flags import Choice, Ways

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from protocol.events import Event
    from shared.clock import Clock
    from shared.transports.base import Transport
    from shared.transports.webrtc.transport import WebRtcTransport

_SETTLE_S = 3.0
"""A line that has the session is left alone for so long: loading aiortc takes a core for most of a
second, and a study that is over by then needs no reserve."""
_LOOK_S = 0.5
_ANSWER_S = 30.0
"""For the receiver to answer an offer; it may have to load aiortc, behind a queue."""
_PAUSE_S, _MOST_PAUSE_S = 5.0, 120.0
"""Before an offer that came to nothing is made once more; twice as long after each."""
_MAKING = 2
"""Channels at the same time: each costs a handshake in Python."""
CHANNEL_TRY_S = 40.0
"""For a line that begins with a WebSocket and ends with a data channel."""


class Paths:
    """Of one transfer. `keep` runs beside the session, `close` ends what is in reserve."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Transport]],
        ways: Ways,
        clock: Clock,
        on_remark: Callable[[str], None],
    ) -> None:
        """``dial`` opens a WebSocket; ``on_remark`` hears why there is no reserve, once."""
        self._dial = dial
        self._ways = ways
        self._clock = clock
        self._on_remark = on_remark
        self._reserve: WebRtcTransport | None = None
        self._making = asyncio.Semaphore(_MAKING)
        self._number = 0
        self._remarked = ""

    @property
    def try_s(self) -> float | None:
        """What one `dial` may take; None for what a WebSocket takes."""
        return CHANNEL_TRY_S if self._ways.choice is Choice.WEBRTC else None

    @property
    def has_reserve(self) -> bool:
        """Whether a channel stands by."""
        return self._reserve is not None and self._reserve.is_open

    async def dial(self) -> Transport:
        """A transport over which a session may begin or go on.

        Raises:
            MedroiError: there is none; `TransportClosed` where that may work later.
        """
        if self._ways.choice is Choice.WEBRTC:
            return await self._dial_channel()
        if self._reserve is not None:
            reserve, self._reserve = self._reserve, None
            if reserve.is_open:
                return reserve
            reserve.abort()
        return await self._dial()

    async def keep(self, current: Callable[[], Call | None]) -> None:
        """Have a channel in reserve for as long as another line has the session."""
        if self._ways.choice is not Choice.AUTO:
            return
        pause_s = _PAUSE_S
        while True:
            call = await self._until_wanted(current)
            if self._reserve is not None:
                self._reserve.abort()
                self._reserve = None
            try:
                self._reserve = await self._make(call)
            except SettingsError as error:  # nothing that time would mend
                self._remark(error)
                return
            except MedroiError as error:
                if not call.over.is_set():
                    self._remark(error)
                await self._clock.sleep_s(pause_s)
                pause_s = min(2 * pause_s, _MOST_PAUSE_S)
            else:
                pause_s = _PAUSE_S

    async def close(self) -> None:
        """End what is in reserve."""
        if self._reserve is not None:
            reserve, self._reserve = self._reserve, None
            await reserve.close()

    # -- inside -------------------------------------------------------------------------------

    async def _until_wanted(self, current: Callable[[], Call | None]) -> Call:
        """Wait for a WebSocket that has had the session for a while, with nothing in reserve."""
        seen: Call | None = None
        since_s = 0.0
        while True:
            call = current()
            if call is not seen:
                seen, since_s = call, self._clock.now_s()
            if call is not None and not call.over.is_set():
                settled = self._clock.now_s() - since_s >= _SETTLE_S
                is_channel = call.transport.stats().name == "webrtc"
                if settled and not is_channel and not call.is_stalled and not self.has_reserve:
                    return call
            await self._clock.sleep_s(_LOOK_S)

    async def _dial_channel(self) -> Transport:
        async with self._signalling() as call:
            await call.until_greeted()
            async with self._making:
                return await self._make(call)

    @asynccontextmanager
    async def _signalling(self) -> AsyncIterator[Call]:
        """A WebSocket on which the two ends have greeted, and which is closed behind that."""
        transport = await self._dial()
        call = Call(transport, self._clock, Pace(), _ignore, lambda: None)
        with one_error():
            async with asyncio.TaskGroup() as group:
                running = group.create_task(call.run())
                try:
                    call.connection.greet()
                    yield call
                finally:
                    call.connection.retire()
                    await transport.close()
                    running.cancel()

    async def _make(self, call: Call) -> WebRtcTransport:
        """A data channel, agreed on over a call.

        Raises:
            MedroiError: there is none.
        """
        self._number += 1
        number, secret = self._number, secrets.token_bytes(KEY_BYTES)
        async with await make_offer(
            self._ways.ice, max_frame_bytes=limits.MAX_FRAME_BYTES
        ) as offer:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    answer = await call.signal(m.ChannelOffer(number, secret, offer.sdp.encode()))
            except TimeoutError:
                raise TransportClosed(
                    f"the receiver did not answer the offer of a channel within {_ANSWER_S:g} s"
                ) from None
            if not answer.sdp:
                raise TransportClosed(f"the receiver offers no data channel: {answer.reason}")
            sdp = answer.sdp.decode("ascii", "replace")
            return await offer.connect(sdp, ChannelKey(secret, Role.SENDER, generation=number))

    def _remark(self, error: MedroiError) -> None:
        sentence = f"no data channel in reserve: {error}"
        if sentence != self._remarked:
            self._remarked = sentence
            self._on_remark(sentence)


async def _ignore(call: Call, event: Event) -> None:
    return
