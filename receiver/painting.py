"""Encodings that have come whole: decoded in children, proven, painted, and judged.

queue ─> decode (children) ─> prove, paint (worker) ─> until stored ─> verdict | want, marks
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from protocol import messages as m
from protocol.limits import MAX_FORMS
from protocol.stages import STAGES, stage_of
from receiver.backlog import Backlog
from receiver.decode import DecodeTask
from shared.errors import CodecError, IntegrityError
from shared.intensity import PREVIEW_DTYPE
from shared.layer import LayerKey, Quality, exact_key

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

    async def set_aside(self, offer: m.LayerOffer, payload: bytes, why: str) -> None:
        """Keep what is wrong where it can be looked at."""
        ...

    async def demoted(self, series: int, layers: int) -> None:
        """Layers that were proven are not what they were; they have been asked for again."""
        ...

    async def reach(self, series: int, mark: m.Mark) -> None:
        """A series has reached a mark. Nothing is painted until this returns."""
        ...

    async def stored(self, offer: m.LayerOffer) -> bytes:
        """The bytes of an encoding that has come whole."""
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
        self._bases: dict[int, m.LayerOffer] = {}
        """Bounded encodings that have come whole: exact ones may build on them."""
        self.backlog = Backlog(_BACKLOG_BYTES)
        self.wanted: Counter[LayerKey] = Counter()
        """How often layers had to be asked for in another form."""
        self._asked: set[int] = set()
        """Encodings that were asked for in another form."""
        self.bytes = {stage.name: 0 for stage in STAGES}
        """Encoded bytes received, by stage."""
        self.codecs: dict[str, str] = {}
        """The codec that served each stage."""

    async def put(self, arrived: Arrived) -> None:
        """Queue an encoding; its bytes have been added to the backlog."""
        self.know(arrived.offer)
        await self._arrived.put(arrived)

    def know(self, offer: m.LayerOffer) -> None:
        """An encoding has come whole, now or earlier: others may build on it."""
        if offer.key.quality is Quality.BOUNDED:
            self._bases[offer.number] = offer

    async def drain(self) -> None:
        """Until all that was queued has been judged."""
        await self._arrived.join()

    async def run(self) -> None:
        """Work through the queue, until cancelled.

        Raises:
            IntegrityError: a layer did not prove right, coded as plainly as can be.
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
        lossy = offer.key.quality < Quality.EXACT
        try:
            samples = await self._decoder.decode(await self._task(offer, payload))
            wrong = "" if await self._paint(offer, samples) else "it has not its voxels' digest"
        except CodecError as error:
            wrong = str(error)
        region = self._volumes[offer.key.series].regions.get(offer.key.region)
        stage = STAGES[stage_of(region.kind if region else None, offer.key.quality)]
        self.bytes[stage.name] += len(payload)
        self.codecs[stage.name] = offer.codec
        if offer.number in self._asked:
            return  # it was proven, and is not what it was any more
        if not wrong:
            verdict = m.Verdict.SHOWN if lossy else m.Verdict.VERIFIED
            await self._teller.judge(offer.number, verdict)
            return
        await self._teller.set_aside(offer, payload, wrong)
        if lossy:
            await self._teller.judge(offer.number, m.Verdict.FAILED)
        else:
            await self._want(offer)

    async def _want(self, offer: m.LayerOffer) -> None:
        """Ask for a layer in another form.

        Raises:
            IntegrityError: every form has been tried.
        """
        if self.wanted[offer.key] >= MAX_FORMS - 1:
            raise IntegrityError(f"{offer.key} does not have its digest, in whichever form it came")
        self.wanted[offer.key] += 1
        self._asked.add(offer.number)
        await self._teller.want(offer.number)

    async def _task(self, offer: m.LayerOffer, payload: bytes) -> DecodeTask:
        """
        Raises:
            CodecError: what it builds on has not come, or is of other voxels.
        """
        volume = self._volumes[offer.key.series]
        if offer.box is None:
            shape, dtype = (1, 1, offer.decoded_bytes), np.dtype(np.uint8)
            return DecodeTask(offer.codec, offer.settings, shape, dtype, payload)
        if offer.key.quality is Quality.PREVIEW:
            return DecodeTask(offer.codec, offer.settings, offer.box.shape, PREVIEW_DTYPE, payload)
        dtype = volume.entry.samples.sample_dtype(np.dtype(volume.entry.header.dtype))
        below = None
        if offer.base is not None:
            base = self._bases.get(offer.base)
            if base is None or exact_key(base.key) != offer.key or base.box != offer.box:
                raise CodecError(f"{offer.key} builds on encoding {offer.base}, which it cannot")
            below = await self._task(base, await self._teller.stored(base))
        return DecodeTask(
            offer.codec,
            offer.settings,
            offer.box.shape,
            dtype,
            payload,
            await self._workers.run(volume.owned, offer),
            below,
        )

    async def _paint(self, offer: m.LayerOffer, samples: NDArray[np.generic]) -> bool:
        volume = self._volumes[offer.key.series]
        async with self._lock:
            if offer.box is None:
                return await self._workers.run(volume.keep_headers, offer, samples)
            if offer.key.quality < Quality.EXACT:
                await self._workers.run(volume.paint_lossy, offer, samples)
                good = True
            else:
                good = await self._workers.run(volume.paint_exact, offer, samples)
            await self._prove(offer.key.series)
        return good

    async def _prove(self, series: int) -> None:
        """Look at what lies on the disk before anybody hears that it is exact."""
        volume = self._volumes[series]
        wrong: list[m.LayerOffer] = []
        if volume.roi_is_due:
            wrong += await self._workers.run(volume.check_roi)
        if volume.complete and not volume.proven and not volume.discarded_voxels:
            wrong += await self._workers.run(volume.prove)
        for offer in wrong:
            await self._want(offer)
        if wrong:
            await self._teller.demoted(series, len(wrong))
        for mark in volume.new_marks():
            await self._teller.reach(series, mark)
