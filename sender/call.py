"""One connection to the receiver, from its hello to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.parting import error_of, farewell_of
from protocol.sending import SendingConnection
from protocol.states import State
from shared.errors import DamagedFrame, MedroiError, TransportClosed
from shared.software import SOFTWARE
from shared.transports.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from protocol.events import Event
    from protocol.pace import Pace
    from shared.clock import Clock
    from shared.transports.base import Transport

_STALL_S, _STALL_RTTS = 2.0, 4.0
"""Without an acknowledgement of what is under way for this long, whichever is more, a line is taken
to be dead until it shows otherwise."""

_UNKNOWN = (State.NEW, State.GREETING, State.CALLING)
"""In these it is not known yet who the peer is."""


class Call:
    """A connection that was dialled. `run` it once; it ends by itself when the line does."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        pace: Pace,
        on_event: Callable[[Call, Event], Awaitable[None]],
        on_sent: Callable[[], None],
    ) -> None:
        self.transport = transport
        self.connection = SendingConnection(software=SOFTWARE, pace=pace)
        self.connection.window.losses = transport.losses
        self.pump = Pump(self.connection, transport, clock, self._hear, on_sent)
        self._clock = clock
        self._on_event = on_event
        self._heard = asyncio.Event()
        self._standings: list[m.Standing] = []
        self._answers: dict[int, m.ChannelAnswer] = {}
        self._attaching = False
        self._has_session = False
        self._reading = asyncio.Event()
        """What comes behind a standing is not heard before it is known what becomes of that."""
        self.lost: MedroiError | None = None
        """Why the line is gone; None while it is not."""
        self.over = asyncio.Event()
        """The line is gone."""

    async def run(self) -> None:
        """Until the line is gone, or has been closed after the receipt; `lost` says why."""
        try:
            await self.pump.run()
            if self.connection.state is not State.DONE:
                raise TransportClosed("the receiver closed the connection")
        except TransportClosed as error:
            self.lost = self.lost or error
            self.transport.abort()
        except DamagedFrame as error:
            known = self.connection.state not in _UNKNOWN
            self.lost = TransportClosed(f"the line damages frames: {error}") if known else error
            await self._part_from_stranger(error)
        except MedroiError as error:
            self.lost = error
            if self._has_session:
                await self.part(error)
            else:
                await self._part_from_stranger(error)
        except asyncio.CancelledError:
            await asyncio.shield(self.part(None))
            raise
        finally:
            self.over.set()
            self._heard.set()

    @property
    def is_stalled(self) -> bool:
        """Whether nothing has been heard for too long of what is under way."""
        return self.stalls_s() <= self._clock.now_s()

    def stalls_s(self) -> float:
        """When the line is to be taken for dead, if nothing is heard until then."""
        window = self.connection.window
        since_s = window.waiting_since_s
        if since_s is None:
            return self._clock.now_s() + _STALL_S
        patience_s = max(_STALL_S, _STALL_RTTS * window.rtt_s)
        return max(since_s, self.pump.heard_s) + patience_s

    async def until_greeted(self) -> None:
        """Until the receiver has said hello.

        Raises:
            MedroiError: the line is gone.
        """
        self.pump.wake()
        await self._until(lambda: self.connection.state not in _UNKNOWN)
        if self.connection.state is State.CLOSED:  # a farewell came right behind the hello
            await self.over.wait()
            raise self.lost or TransportClosed("the receiver has left")

    async def signal(self, offer: m.ChannelOffer) -> m.ChannelAnswer:
        """Offer a data channel over this call, and hear the answer.

        Raises:
            MedroiError: the line is gone.
            LocalProtocolError: the session is over.
        """
        self.connection.signal(offer)
        self.pump.wake()
        await self._until(lambda: offer.number in self._answers)
        return self._answers.pop(offer.number)

    def introduce(self, session: bytes, generation: int, *, accepted: bool) -> None:
        """Say of which session this is, and hello if that has not been said.

        Raises:
            MedroiError: the line is gone.
        """
        if self.connection.state is State.CLOSED:
            raise self.lost or TransportClosed("the receiver has left")
        if self.connection.state is State.NEW:
            self.connection.greet()
        self.connection.attach(session, generation, accepted=accepted)
        self.pump.wake()

    async def attach(self, session: bytes, generation: int, *, accepted: bool) -> m.Standing:
        """`introduce` the session, and hear where it stands at the receiver.

        `attach` with something else, `proceed` or `retire` must follow.

        Raises:
            MedroiError: the line is gone.
        """
        self._attaching = True
        self._standings.clear()
        self._reading.set()
        self.introduce(session, generation, accepted=accepted)
        await self._until(lambda: bool(self._standings))
        return self._standings[0]

    def proceed(self) -> None:
        """The session goes on over this call: hear what comes behind the standing."""
        self._attaching, self._has_session = False, True
        self._reading.set()
        self.pump.wake()

    def retire(self) -> None:
        """Another connection has the session, or none: say and hear nothing more, and close."""
        self.connection.retire()
        self.transport.abort()
        self._reading.set()

    async def _part_from_stranger(self, error: MedroiError) -> None:
        """A farewell behind an `attach` would be the session's: then leave without a word."""
        if self.connection.state in (State.NEW, State.GREETING):
            await self.part(error)
        else:
            self.transport.abort()

    async def part(self, error: BaseException | None) -> None:
        """Say why we leave, as far as the line still carries it, and close."""
        self.connection.leave(*farewell_of(error, m.Role.SENDER))
        await self.pump.last_words()

    async def _hear(self, event: Event) -> None:
        match event:
            case m.Standing() if self._attaching:
                self._standings.append(event)
                self._reading.clear()
                self._heard.set()
                await self._reading.wait()
            case m.ChannelAnswer():
                self._answers[event.number] = event
            case m.Farewell():
                raise error_of(event, m.Role.RECEIVER)
            case _:
                await self._on_event(self, event)
        self._heard.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.over.is_set():
                raise self.lost or TransportClosed("the connection was dropped")
            self._heard.clear()
            await self._heard.wait()
