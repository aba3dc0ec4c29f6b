"""One connection, from its first byte to its last: whose session it is, and driving it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from protocol import messages as m
from protocol.parting import error_of, farewell_of
from protocol.receiving import ReceivingConnection
from shared.errors import DamagedFrame, MedroiError, RemoteProtocolError, TransportClosed
from shared.software import SOFTWARE
from shared.tasks import one_error
from shared.transports.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from protocol.events import Event
    from protocol.inbox import Inbox
    from shared.clock import Clock
    from shared.transports.base import Transport

_HELLO_S = 10.0
"""A peer that has not said hello by then is dropped."""
_ATTACH_S = 900.0
"""For a peer that has: it may be reading a large study, or be here in case another line fails."""


class Host(Protocol):
    """A session, as a connection sees it."""

    @property
    def inbox(self) -> Inbox:
        """What has come of it."""
        ...

    def attach(self, visit: Visit) -> None:
        """A connection has joined; it is the newest."""
        ...

    def detach(self, visit: Visit, error: MedroiError | None) -> None:
        """A connection is over, or belongs to another session now."""
        ...

    async def hear(self, visit: Visit, event: Event) -> None:
        """A connection brings something. Waiting here holds up its peer."""
        ...


class Visit:
    """A connection that is taken in. `run` it once."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        find: Callable[[m.Attach], Awaitable[Host]],
        on_channel: Callable[[Visit, m.ChannelOffer], None] | None = None,
        *,
        is_reserve: bool = False,
        no_session: str = "",
    ) -> None:
        """``on_channel`` answers an offered channel; ``is_reserve`` says that the connection may
        be silent for as long as another one has the session; ``no_session``, why none may be had
        over this connection, which is good for offers only.
        """
        self._no_session = no_session
        self._on_channel = on_channel
        self._is_reserve = is_reserve
        self._has_signalled = False
        self.transport = transport
        self.connection = ReceivingConnection(software=SOFTWARE)
        self.pump = Pump(self.connection, transport, clock, self._hear)
        self.host: Host | None = None
        self.generation = 0
        self._find = find
        self._greeted = asyncio.Event()
        self._joined = asyncio.Event()

    async def run(self) -> None:
        """Until the peer has closed, or the session has dropped it.

        Raises:
            MedroiError: the connection broke, or the peer broke the protocol; it has been told.
        """
        try:
            with one_error():
                async with asyncio.TaskGroup() as group:
                    waiting = group.create_task(self._expect())
                    await self.pump.run()
                    waiting.cancel()
        except DamagedFrame as error:
            if not self._greeted.is_set():
                await self.part(error)
                raise
            self.transport.abort()
            raise TransportClosed(f"the line damages what it carries: {error}") from error
        except MedroiError as error:
            await self.part(error)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self.part(None))
            raise

    @property
    def is_beside(self) -> bool:
        """Whether it was good for something without a study: as a reserve, or to get one."""
        return self._is_reserve or self._has_signalled

    def say(self, message: m.Answer) -> None:
        """Tell the sender something over this connection."""
        self.connection.say(message)
        self.pump.wake()

    def retire(self) -> None:
        """A newer connection has the session: say and hear nothing more, and close."""
        self.connection.retire()
        self.transport.abort()

    async def part(self, error: MedroiError | None) -> None:
        """Say why we leave, as far as the connection still carries it, and close."""
        self.leave(error)
        await self.last_words()

    def leave(self, error: MedroiError | None) -> None:
        """Why we leave is to be said; `last_words` must follow."""
        self.connection.leave(*farewell_of(error, m.Role.RECEIVER))

    async def last_words(self) -> None:
        """Say what there still is to say, as far as the connection carries it, and close."""
        await self.pump.last_words()

    async def _expect(self) -> None:
        for said, limit_s, what in (
            (self._greeted, _ATTACH_S if self._is_reserve else _HELLO_S, "hello"),
            (self._joined, _ATTACH_S, "which session it wants"),
        ):
            try:
                async with asyncio.timeout(limit_s):
                    await said.wait()
            except TimeoutError:
                raise RemoteProtocolError(f"the peer did not say {what}") from None

    async def _hear(self, event: Event) -> None:
        match event:
            case m.Hello():
                self._greeted.set()
                self.connection.greet()
            case m.Attach():
                await self._attach(event)
            case m.ChannelOffer():
                self._has_signalled = True
                if self._on_channel is None:
                    self.say(m.ChannelAnswer(event.number, b"", "there are none here"))
                else:
                    self._on_channel(self, event)
            case _ if self.host is not None:
                await self.host.hear(self, event)
            case m.Farewell():
                raise error_of(event, m.Role.SENDER)
            case _:
                pass  # the connection has refused it already

    async def _attach(self, attach: m.Attach) -> None:
        if self._no_session:
            raise RemoteProtocolError(self._no_session)
        host = await self._find(attach)
        if self.host is not None and self.host is not host:
            self.host.detach(self, None)
            self.host = None
        if self.connection.join(host.inbox, attach):
            self.host, self.generation = host, attach.generation
            self._joined.set()
            host.attach(self)
