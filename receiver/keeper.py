"""Puts what comes of a session on the disk, in groups, and says what is stored.

A sync costs milliseconds whatever it syncs, so records wait for company: 100 ms, a mebibyte, or
until somebody waits for one of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.frames import FrameKind, unpack_fragment
from protocol.ranges import RangeSet
from receiver.log import fragment_record, message_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from protocol.frames import Fragment
    from receiver.log import SessionLog
    from shared.clock import Clock
    from shared.recordlog import Record
    from shared.workers import Workers

_GROUP_S = 0.1
_GROUP_BYTES = 1 << 20
_UNSAVED_BYTES = 32 << 20
"""Beyond which nothing more is read: a disk that is slower than the link slows the link."""


class Keeper:
    """Of one session. Once there is a log, `open` it; what is put before that waits."""

    def __init__(
        self, workers: Workers, clock: Clock, on_stored: Callable[[m.Stored], None]
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._on_stored = on_stored
        self.log: SessionLog | None = None
        """None before there is one."""
        self._opened = asyncio.Event()
        self._unsaved: list[Record] = []
        self._unsaved_bytes = 0
        self._put = self._kept = 0
        self._hurry = asyncio.Event()
        self._filled = asyncio.Event()
        self._moved = asyncio.Condition()

    def open(self, log: SessionLog) -> None:
        """There is a log from now on."""
        self.log = log
        self._opened.set()

    async def put_message(self, message: m.Message) -> None:
        """Keep a message."""
        await self._add(message_record(message))

    async def put_fragment(self, fragment: Fragment) -> None:
        """Keep a fragment."""
        await self._add(fragment_record(fragment))

    async def until_kept(self) -> None:
        """Until all that has been put so far is on the disk, soon."""
        wanted = self._put
        self._hurry.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self._kept >= wanted)

    async def read(self, offer: m.LayerOffer) -> bytes:
        """An encoding that is on the disk, whole."""
        assert self.log is not None  # it was opened before its encodings were looked at
        return await self._workers.run(self.log.payload, offer.number, offer.size_bytes)

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            OSError: the disk does not take it.
        """
        await self._opened.wait()
        assert self.log is not None  # it is open
        while True:
            await self._filled.wait()
            await self._wait_for_company()
            records, self._unsaved, self._unsaved_bytes = self._unsaved, [], 0
            self._filled.clear()
            self._hurry.clear()
            await self._workers.run(self.log.append, records)
            async with self._moved:
                self._kept += len(records)
                self._moved.notify_all()
            if parts := _stored(records):
                self._on_stored(m.Stored(parts))

    async def _add(self, record: Record) -> None:
        self._unsaved.append(record)
        self._unsaved_bytes += len(record.content)
        self._put += 1
        self._filled.set()
        if self._unsaved_bytes > _GROUP_BYTES:
            self._hurry.set()
        if self._unsaved_bytes > _UNSAVED_BYTES:
            async with self._moved:
                await self._moved.wait_for(lambda: self._unsaved_bytes <= _UNSAVED_BYTES)

    async def _wait_for_company(self) -> None:
        try:
            async with asyncio.timeout(_GROUP_S):
                await self._hurry.wait()
        except TimeoutError:
            return


def _stored(records: Sequence[Record]) -> tuple[m.Received, ...]:
    ranges: dict[int, RangeSet] = {}
    for record in records:
        if record.kind == FrameKind.FRAGMENT:
            fragment = unpack_fragment(record.content)
            stop = fragment.offset + len(fragment.content)
            ranges.setdefault(fragment.number, RangeSet()).add(fragment.offset, stop)
    most = limits.MAX_STATED_PIECES
    parts = (m.Received(number, tuple(pieces)[:most]) for number, pieces in ranges.items())
    return tuple(parts)[: limits.MAX_OPEN_LAYERS]
