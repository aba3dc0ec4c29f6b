"""How many encoded bytes wait for a decoder; beyond a bound the peer is not read any further.

A queue of so many encodings is no bound: one may be a hundred bytes long or 64 MiB.
"""

from __future__ import annotations

import asyncio


class Backlog:
    """Of one session. What has come is added before it is known whether there is room."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    async def add(self, size_bytes: int) -> None:
        """Count an encoding in, and return once there is room for another."""
        self._count(size_bytes)
        await self._room.wait()

    def remove(self, size_bytes: int) -> None:
        """An encoding has been decoded."""
        self._count(-size_bytes)

    def _count(self, more_bytes: int) -> None:
        self._bytes += more_bytes
        if self._bytes > self._most_bytes:
            self._room.clear()
        else:
            self._room.set()
