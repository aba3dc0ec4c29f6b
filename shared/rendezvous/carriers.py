"""The two ends at a rendezvous, each a `signals.Carrier`.

    sender:   `offering_at`: a connection for each channel that is wanted, and for no longer
    receiver: `Letterboxes`: a connection that is kept, with a `Letterbox` for each of its keys

A mailbox is shared, so an end hears its own kind's lines and answers to others: those are passed
over. Whatever else is wrong with a line is told once.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from shared.errors import (
    AuthenticationError,
    RemoteProtocolError,
    SettingsError,
    TransportClosed,
)
from shared.rendezvous.names import MOST_NAMES, mailbox_names, names_last_s
from shared.rendezvous.wire import (
    MAX_FRAME_BYTES,
    MAX_NAMES,
    PING_S,
    pack_join,
    pack_line,
    read_line,
)
from shared.transports.webrtc.sealed import Fault
from shared.transports.websocket import dial

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from shared.clock import Clock
    from shared.transports.base import Transport
    from shared.transports.webrtc.sealed import BadLine
    from shared.trust.keys import SharedKey

ANSWER_S = 45.0
"""For an answer to come; then another offer is made, for a router forgets the addresses in it."""
PATIENCE_S = 10.0
"""Until an answer has come to the other end, over two lines that may be slow."""
MAX_KEYS = MAX_NAMES // MOST_NAMES
_DIAL_S = 8.0
_CLOSE_S = 1.0
"""For one that answers no ping to answer an end."""
_SOON_S, _SELDOM_S = 0.3, 15.0
_SHARE, _JITTER = 0.25, 0.3
"""Between tries passes a quarter of the time that the rendezvous has been away, more or less."""
_STEADY_S = 10.0
"""A connection that lasted so long was a good one."""
_MAX_WAITING = 16
_PASSED_OVER = (Fault.OWN, Fault.USED, Fault.OTHER)


class Joined:
    """A connection to a rendezvous, waiting at the mailboxes of some keys. `joined` opens it."""

    def __init__(self, transport: Transport, keys: Sequence[SharedKey], now_s: float) -> None:
        self._transport = transport
        self._owners = [(key, name) for key in keys for name in mailbox_names(key, now_s)]
        self.good_for_s = names_last_s(now_s)
        """Until the mailboxes are called otherwise."""

    async def introduce(self) -> None:
        """Say where we wait; the first thing to do."""
        await self._transport.send(pack_join([name for _, name in self._owners]))

    async def put(self, key: SharedKey, line: str) -> None:
        """Leave a line for the holders of a key.

        Raises:
            TransportClosed: the rendezvous is gone.
        """
        for which, (owner, _) in enumerate(self._owners):
            if owner == key:
                with _named():
                    await self._transport.send(pack_line(which, line))

    async def lines(self) -> AsyncGenerator[tuple[SharedKey, str], None]:
        """Lines as they come, with the key whose mailbox they lay in.

        Raises:
            TransportClosed: the rendezvous is gone.
            RemoteProtocolError: it is none.
        """
        with _named():
            async for frame in self._transport.frames():
                which, line = read_line(frame, len(self._owners))
                yield self._owners[which][0], line
        raise TransportClosed("the rendezvous closed the connection")


@contextmanager
def _named() -> Iterator[None]:
    """Whose connection it was that broke."""
    try:
        yield
    except TransportClosed as error:
        raise TransportClosed(f"the rendezvous is gone: {error}") from error


@asynccontextmanager
async def joined(url: str, keys: Sequence[SharedKey], now_s: float) -> AsyncIterator[Joined]:
    """Wait at a rendezvous while the ``async with`` lasts; ``now_s`` is Unix time.

    Raises:
        SettingsError: the address is none, has no pin, or leads beyond loopback in plaintext.
        AuthenticationError: who answers there has another certificate.
        TransportClosed: nobody answers there.
    """
    try:
        transport = await dial(
            url,
            max_frame_bytes=MAX_FRAME_BYTES,
            open_timeout_s=_DIAL_S,
            close_timeout_s=_CLOSE_S,
            keyless=True,
            ping_s=PING_S,
        )
    except (AuthenticationError, TransportClosed) as error:
        raise type(error)(f"no rendezvous: {error}") from error
    try:
        made = Joined(transport, keys, now_s)
        await made.introduce()
        yield made
    finally:
        transport.abort()  # not in order: a channel has opened, and a session waits behind this


class _Faults:
    """What is wrong with lines that came, told once each."""

    def __init__(self, on_remark: Callable[[str], None]) -> None:
        self._on_remark = on_remark
        self._told: set[Fault] = set()

    def tell(self, why: BadLine) -> None:
        if why.fault not in _PASSED_OVER and why.fault not in self._told:
            self._told.add(why.fault)
            self._on_remark(f"a line that came by the rendezvous is of no use: {why}")


class _Offerer:
    """The carrier of one dial."""

    patience_s = PATIENCE_S
    pause_s = 0.0

    def __init__(
        self,
        joined: Joined,
        lines: AsyncIterator[tuple[SharedKey, str]],
        key: SharedKey,
        faults: _Faults,
    ) -> None:
        self._joined = joined
        self._lines = lines
        self._key = key
        self._limit_s = 0.0
        self._faults = faults

    async def say(self, line: str) -> None:
        """See `signals.Carrier`."""
        self._limit_s = asyncio.get_running_loop().time() + ANSWER_S
        await self._joined.put(self._key, line)

    async def hear(self) -> str:
        """See `signals.Carrier`."""
        try:
            async with asyncio.timeout_at(self._limit_s):
                _, line = await anext(self._lines)
                return line
        except TimeoutError:
            raise TransportClosed(
                f"the other end has not answered at the rendezvous within {ANSWER_S:g} s"
            ) from None

    def refuse(self, why: BadLine) -> None:
        """See `signals.Carrier`."""
        self._faults.tell(why)


def offering_at(
    url: str,
    key: SharedKey,
    on_remark: Callable[[str], None],
    *,
    now_s: Callable[[], float] = time.time,
) -> Callable[[], AbstractAsyncContextManager[_Offerer]]:
    """What `signals.Offering` has its lines carried by; raises as `joined`."""
    faults = _Faults(on_remark)

    @asynccontextmanager
    async def carried() -> AsyncIterator[_Offerer]:
        async with (
            joined(url, [key], now_s()) as connection,
            aclosing(connection.lines()) as lines,
        ):
            yield _Offerer(connection, lines, key, faults)

    return carried


class Letterbox:
    """A key's; a carrier of `signals.Answering`."""

    patience_s = PATIENCE_S
    pause_s = 0.0

    def __init__(self, key: SharedKey, letterboxes: Letterboxes, faults: _Faults) -> None:
        self.key = key
        self._letterboxes = letterboxes
        self._came: asyncio.Queue[str] = asyncio.Queue(_MAX_WAITING)
        self._faults = faults

    def take(self, line: str) -> None:
        """A line has come; of too many the oldest goes."""
        if self._came.full():
            self._came.get_nowait()
        self._came.put_nowait(line)

    async def say(self, line: str) -> None:
        """See `signals.Carrier`."""
        await self._letterboxes.put(self.key, line)

    async def hear(self) -> str:
        """See `signals.Carrier`; while the rendezvous is away this waits."""
        return await self._came.get()

    def refuse(self, why: BadLine) -> None:
        """See `signals.Carrier`."""
        self._faults.tell(why)


class Letterboxes:
    """A receiver's, at one rendezvous. `run` it beside what hears from the `boxes`."""

    def __init__(
        self,
        url: str,
        keys: Sequence[SharedKey],
        clock: Clock,
        chance: random.Random,
        on_remark: Callable[[str], None],
        *,
        now_s: Callable[[], float] = time.time,
        join: Callable[[str, Sequence[SharedKey], float], AbstractAsyncContextManager[Joined]]
        | None = None,
    ) -> None:
        """``on_remark`` hears when the rendezvous goes and comes.

        Raises:
            SettingsError: more keys than a rendezvous takes.
        """
        keys = list({key.secret: key for key in keys}.values())  # a mailbox is joined once
        if len(keys) > MAX_KEYS:
            raise SettingsError(f"a rendezvous takes up to {MAX_KEYS} keys, not {len(keys)}")
        faults = _Faults(on_remark)
        self.boxes = [Letterbox(key, self, faults) for key in keys]
        self._url = url
        self._clock = clock
        self._chance = chance
        self._on_remark = on_remark
        self._now_s = now_s
        self._join = join or joined
        self._joined: Joined | None = None
        self._told = ""
        self._had_one = False

    async def run(self) -> None:
        """Until cancelled: wait at the rendezvous, and come back to it whenever it was away.

        Raises:
            SettingsError, AuthenticationError: what no other try would mend, before it was there.
        """
        away_s: float | None = None
        while True:
            began_s = self._clock.now_s()
            try:
                await self._wait_there()
                continue  # to another day's mailboxes
            except AuthenticationError as error:
                if not self._had_one:
                    raise
                self._tell(f"{error}; trying on")
            except (TransportClosed, RemoteProtocolError) as error:
                self._tell(f"{error}; trying on")
            finally:
                self._joined = None
            now_s = self._clock.now_s()
            if away_s is None or now_s - began_s > _STEADY_S:
                away_s = now_s
            pause_s = min(_SELDOM_S, max(_SOON_S, _SHARE * (now_s - away_s)))
            await self._clock.sleep_s(pause_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER))

    async def put(self, key: SharedKey, line: str) -> None:
        """Leave a line for the holders of a key.

        Raises:
            TransportClosed: the rendezvous is away.
        """
        if self._joined is None:
            raise TransportClosed("the rendezvous is away, so that nothing can be answered there")
        await self._joined.put(key, line)

    async def _wait_there(self) -> None:
        """Until the mailboxes are called otherwise."""
        boxes = {box.key: box for box in self.boxes}
        async with self._join(self._url, list(boxes), self._now_s()) as line:
            self._joined, self._had_one = line, True
            self._tell(f"waiting at the rendezvous {self._url.partition('#')[0]}")
            with suppress(TimeoutError):
                async with asyncio.timeout(line.good_for_s):
                    async for key, text in line.lines():
                        boxes[key].take(text)

    def _tell(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._on_remark(sentence)
