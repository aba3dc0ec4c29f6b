"""Encodings that have come whole: decoded in children, proven, painted, and judged.

queue ─> decode (children) ─> prove, paint (worker) ─> until stored ─> verdict | want, marks
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from protocol import messages as m
from protocol.stages import STAGES, stage_of
from receiver.backlog import Backlog
from receiver.decode import DecodeTask
from shared.codecs.given import NOTHING, Given
from shared.codecs.registry import GIVEN_CODECS
from shared.errors import CodecError, IntegrityError
from shared.intensity import PREVIEW_DTYPE
from shared.layer import LayerKey, Quality

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray

    from receiver.compose import GrowingVolume
    from receiver.decode import Decoder
    from shared.workers import Workers

_QUEUE = 8
"""Encodings that wait for a decoder."""
_BACKLOG_BYTES = 64 << 20
"""Of encodings among these and the ones being decoded, beyond which nothing more is read."""


class Teller(Protocol):
    """Who tells the sender, and keeps what it is told."""

    async def judge(self, number: int, verdict: m.Verdict) -> None:
        """What became of an encoding."""
        ...

    async def want(self, number: int) -> None:
        """An encoding did not prove right; another is wanted."""
        ...

    async def reach(self, series: int, mark: m.Mark) -> None:
        """A series has reached a mark. Nothing is painted until this returns."""
        ...


@dataclass(frozen=True, slots=True)
class Arrived:
    """An encoding that is whole, in memory or on the disk."""

    offer: m.LayerOffer
    payload: Callable[[], Awaitable[bytes]]


class Painter:
    """Of one session. `run` as many loops as there are decoders."""

    def __init__(
        self, volumes: list[GrowingVolume], decoder: Decoder, workers: Workers, teller: Teller
    ) -> None:
        self._volumes = volumes
        self._decoder = decoder
        self._workers = workers
        self._teller = teller
        self._arrived: asyncio.Queue[Arrived] = asyncio.Queue(_QUEUE)
        self._lock = asyncio.Lock()
        self.backlog = Backlog(_BACKLOG_BYTES)
        self.wanted: set[LayerKey] = set()
        """Layers that had to be asked for in another form."""
        self.bytes = {stage.name: 0 for stage in STAGES}
        """Encoded bytes received, by stage."""
        self.codecs: dict[str, str] = {}
        """The codec that served each stage."""

    async def put(self, arrived: Arrived) -> None:
        """Queue an encoding; its bytes have been added to the backlog."""
        await self._arrived.put(arrived)

    async def drain(self) -> None:
        """Until all that was queued has been judged."""
        await self._arrived.join()

    async def run(self) -> None:
        """Work through the queue, until cancelled.

        Raises:
            IntegrityError: a layer did not prove right a second time.
            OSError: the disk does not take it.
        """
        while True:
            arrived = await self._arrived.get()
            try:
                await self._take(arrived.offer, await arrived.payload())
            finally:
                self.backlog.remove(arrived.offer.size_bytes)
                self._arrived.task_done()

    async def plan(self, plan: m.Plan) -> None:
        """A series has new regions."""
        async with self._lock:
            await self._workers.run(self._volumes[plan.series].set_plan, plan)
            await self._prove(plan.series)

    async def _take(self, offer: m.LayerOffer, payload: bytes) -> None:
        """Decode an encoding, prove it and paint it, and tell the sender what became of it."""
        preview = offer.key.quality < Quality.EXACT
        try:
            samples = await self._decoder.decode(await self._task(offer, payload))
            good = await self._paint(offer, samples)
        except CodecError:
            good = False
        region = self._volumes[offer.key.series].regions.get(offer.key.region)
        stage = STAGES[stage_of(region.kind if region else None, offer.key.quality)]
        self.bytes[stage.name] += len(payload)
        self.codecs[stage.name] = offer.codec
        if good:
            verdict = m.Verdict.SHOWN if preview else m.Verdict.VERIFIED
            await self._teller.judge(offer.number, verdict)
        elif preview:
            await self._teller.judge(offer.number, m.Verdict.FAILED)
        elif offer.key in self.wanted:
            raise IntegrityError(f"{offer.key} does not have its digest, a second time")
        else:
            self.wanted.add(offer.key)
            await self._teller.want(offer.number)

    async def _task(self, offer: m.LayerOffer, payload: bytes) -> DecodeTask:
        volume = self._volumes[offer.key.series]
        entry, given = volume.entry, NOTHING
        if offer.box is None:
            shape = (1, 1, offer.decoded_bytes)
            dtype: np.dtype[Any] = np.dtype(np.uint8)
        elif offer.key.quality < Quality.EXACT:
            shape, dtype = offer.box.shape, PREVIEW_DTYPE
        else:
            shape = offer.box.shape
            dtype = entry.samples.sample_dtype(np.dtype(entry.header.dtype))
            if offer.codec in GIVEN_CODECS:
                given = Given(await self._workers.run(volume.owned, offer))
        return DecodeTask(offer.codec, offer.settings, shape, dtype, payload, given)

    async def _paint(self, offer: m.LayerOffer, samples: NDArray[np.generic]) -> bool:
        volume = self._volumes[offer.key.series]
        async with self._lock:
            if offer.box is None:
                return await self._workers.run(volume.keep_headers, offer, samples)
            if offer.key.quality < Quality.EXACT:
                await self._workers.run(volume.paint_preview, offer, samples)
                good = True
            else:
                good = await self._workers.run(volume.paint_exact, offer, samples)
            await self._prove(offer.key.series)
        return good

    async def _prove(self, series: int) -> None:
        volume = self._volumes[series]
        if volume.complete and not volume.proven and not volume.discarded_voxels:
            await self._workers.run(volume.prove)
        for mark in volume.new_marks():
            await self._teller.reach(series, mark)
