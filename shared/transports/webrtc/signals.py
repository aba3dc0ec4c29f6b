"""Agreeing on a data channel where neither end can listen: two sealed lines, carried by somebody.

    sender                                    carrier                                 receiver
    Offering.dial: offer  ---- say, hear ----> person or rendezvous ----> Answering.run: opened
    opened                <---- hear, say ---- person or rendezvous <---- answer
    ====================================== ICE, DTLS, SCTP ======================================
    PROOF under `sealed.channel_key`: the shared key, and the salts of these two lines

Who carries the lines sees `sealed` ones only, and may lose, repeat, delay or invent them. What
cannot be used is told, and the next line is waited for.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from shared.errors import MedroiError, TransportClosed
from shared.role import Role
from shared.transports.webrtc.connect import CONNECT_TIMEOUT_S, make_answer, make_offer
from shared.transports.webrtc.sealed import (
    LIFE_S,
    NO_OFFER,
    SALT_BYTES,
    BadLine,
    Fault,
    Line,
    channel_key,
    seal,
    unseal,
)
from shared.trust.proof import Proven

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from shared.transports.base import Transport
    from shared.transports.webrtc.servers import IceSettings
    from shared.transports.webrtc.transport import WebRtcTransport
    from shared.trust.keys import SharedKey

TRY_S = 12.0 * LIFE_S
"""For `Offering.dial`: ten tries may wait one behind the other, each for a line's life."""
MAX_MAKING = 3
"""Channels that an answering end waits for; then the newest offer takes the oldest one's place."""
_REMEMBERED = 256
"""Lines that were used; of older ones the time says so."""
_LAST_S = 1.0
"""For a study that is stored to be told so, when no more lines can come."""


class Carrier(Protocol):
    """Who brings lines to the other end."""

    patience_s: float
    """What it may take until an answer is where it belongs."""
    pause_s: float
    """Before it is asked for another line where there was one: a person is not asked lightly."""

    async def say(self, line: str) -> None:
        """Hand over a line.

        Raises:
            MedroiError: there is no way; `TransportClosed` where there may be one later.
        """
        ...

    async def hear(self) -> str:
        """The next line; raises as `say`."""
        ...

    def refuse(self, why: BadLine) -> None:
        """A line that was heard is of no use."""
        ...


class Offering:
    """The sender's end. `dial` may be called again, for another channel."""

    def __init__(
        self,
        carried: Callable[[], AbstractAsyncContextManager[Carrier]],
        key: SharedKey,
        ice: IceSettings,
        *,
        max_frame_bytes: int,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """``now_s`` is Unix time."""
        self._carried = carried
        self._key = key
        self._ice = ice
        self._max_frame_bytes = max_frame_bytes
        self._now_s = now_s
        self._turn = asyncio.Lock()
        self._used: deque[bytes] = deque(maxlen=_REMEMBERED)

    async def dial(self) -> WebRtcTransport:
        """A proven channel, once somebody has carried a line there and one back.

        Raises:
            TransportClosed: no answer in time, or no way between the two ends.
            AuthenticationError: who came does not know the key.
            MedroiError: nobody carries lines.
        """
        async with self._turn, self._carried() as carrier:
            if self._used:
                await asyncio.sleep(carrier.pause_s)
            async with await make_offer(self._ice, max_frame_bytes=self._max_frame_bytes) as making:
                offer = seal(
                    making.sdp,
                    self._key,
                    Role.SENDER,
                    secrets.token_bytes(SALT_BYTES),
                    int(self._now_s()),
                    NO_OFFER,
                )
                await carrier.say(offer.sealed)
                answer = await self._answer(carrier, offer)
                return await making.connect(answer.sdp, channel_key(offer, answer, Role.SENDER))

    async def _answer(self, carrier: Carrier, offer: Line) -> Line:
        try:
            async with asyncio.timeout(LIFE_S):
                while True:
                    try:
                        return self._opened(await carrier.hear(), offer)
                    except BadLine as error:
                        carrier.refuse(error)
        except TimeoutError:
            raise TransportClosed(
                f"no answer to the offered line came within {LIFE_S // 60} minutes"
            ) from None

    def _opened(self, text: str, offer: Line) -> Line:
        answer = unseal(text, [self._key], Role.RECEIVER, int(self._now_s()))
        if answer.salt in self._used:
            raise BadLine(Fault.USED)
        if answer.answers != offer.salt:
            raise BadLine(Fault.OTHER)
        self._used.append(answer.salt)
        return answer


class Answering:
    """The receiver's end. `run` it once, beside a clinic."""

    def __init__(
        self,
        carrier: Carrier,
        keys: Sequence[SharedKey],
        ice: IceSettings,
        take: Callable[[Transport], Awaitable[None]],
        on_trouble: Callable[[MedroiError], None],
        *,
        max_frame_bytes: int,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """``take`` runs a connection over a channel to its end."""
        self._carrier = carrier
        self._keys = keys
        self._ice = replace(ice, patience_s=carrier.patience_s)
        self._take = take
        self._on_trouble = on_trouble
        self._max_frame_bytes = max_frame_bytes
        self._now_s = now_s
        self._used: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._making: deque[asyncio.Task[None]] = deque()

    async def run(self) -> None:
        """Answer every offer, until cancelled or until nobody carries lines any more.

        Raises:
            MedroiError: nobody does; channels that were open or being made have ended by then.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    text = await self._carrier.hear()
                except MedroiError as error:
                    ended = error
                    break
                try:
                    offer = self._opened(text)
                except BadLine as error:
                    self._carrier.refuse(error)
                    continue
                if len(self._making) >= MAX_MAKING:
                    self._making.popleft().cancel()
                self._making.append(group.create_task(self._answer(offer)))
        await asyncio.sleep(_LAST_S)
        raise ended

    async def _answer(self, offer: Line) -> None:
        task = asyncio.current_task()
        assert task is not None  # this is one
        try:
            transport = await self._make(offer)
        except MedroiError as error:
            self._on_trouble(error)
            return
        finally:
            if task in self._making:
                self._making.remove(task)
        try:
            await self._take(transport)
        finally:
            await transport.close()

    async def _make(self, offer: Line) -> Transport:
        async with await make_answer(
            offer.sdp, self._ice, max_frame_bytes=self._max_frame_bytes
        ) as making:
            answer = seal(
                making.sdp,
                offer.key,
                Role.RECEIVER,
                secrets.token_bytes(SALT_BYTES),
                int(self._now_s()),
                offer.salt,
            )
            await self._carrier.say(answer.sealed)
            key = channel_key(offer, answer, Role.RECEIVER)
            timeout_s = self._carrier.patience_s + CONNECT_TIMEOUT_S
            transport = await making.connect(key, timeout_s=timeout_s)
        transport.proven = Proven(offer.key.name, key.key)
        return transport

    def _opened(self, text: str) -> Line:
        offer = unseal(text, self._keys, Role.SENDER, int(self._now_s()))
        if offer.salt in self._used:
            raise BadLine(Fault.USED)
        self._used.append(offer.salt)
        return offer
