"""The end of a session, for those who wait for something of it: it comes to them as an error.

Who waits for room in a queue waits for whoever empties it, and that one may have failed. A
connection that waited so would hold its session, and all that it has not taken in, for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import TransportClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Ending:
    """Of one session."""

    def __init__(self) -> None:
        self.has_come = False
        self._waits: set[asyncio.Timeout] = set()

    def come(self) -> None:
        """Everything that waits, or ever will, is told. Safe to call twice."""
        if not self.has_come:
            self.has_come = True
            for wait in self._waits:
                wait.reschedule(0.0)  # it is over as of now

    @asynccontextmanager
    async def unless(self) -> AsyncIterator[None]:
        """What is waited for inside comes before the end, or not at all.

        Raises:
            TransportClosed: the session has ended.
        """
        sentence = "the session has ended"
        if self.has_come:
            raise TransportClosed(sentence)
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            raise TransportClosed(sentence) from None
