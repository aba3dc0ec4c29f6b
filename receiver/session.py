"""One study, from the peer's hello to the receipt.

transport ─> Pump ─> ReceivingConnection ─> queue ─> decode (children) ─> compose (worker)
                              ^                                               │
                              └────────── verdict, mark, want <───────────────┘
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol import messages as m
from protocol.events import EncodingArrived
from protocol.parting import error_of, farewell_of
from protocol.receiving import ReceivingConnection
from protocol.stages import STAGES, stage_of
from protocol.states import State
from receiver.backlog import Backlog
from receiver.decode import DecodeTask
from receiver.store import disk_errors, forget_empty, open_volumes, study_folder
from shared.errors import (
    CodecError,
    IntegrityError,
    MedroiError,
    RemoteProtocolError,
    TransportClosed,
)
from shared.intensity import PREVIEW_DTYPE
from shared.layer import LayerKey, Quality
from shared.software import SOFTWARE
from shared.tasks import one_error
from shared.transports.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from protocol.events import Event
    from receiver.compose import GrowingVolume
    from receiver.decode import Decoder
    from receiver.watch import Watcher
    from shared.clock import Clock
    from shared.timeline import Timeline
    from shared.transports.base import Transport
    from shared.workers import Workers

_QUEUE = 8
"""Encodings that wait for a decoder."""
_HEARD = 64
"""Events that wait their turn while files are opened or decoders are busy, acknowledged all the
same. More stay unread in the transport, which slows the sender."""
_BACKLOG_BYTES = 64 << 20
"""Of encodings among these and the ones being decoded, beyond which nothing more is read."""
_MAX_HELD = 16_000
"""Digests that an Accept has room for; layers beyond are offered, and then said to be held."""
_HELLO_S = 10.0
"""A peer that has not said hello by then is dropped."""


class ReceivingSession:
    """Receives one study over one transport. `run` it once; look at `volumes` meanwhile."""

    def __init__(
        self,
        transport: Transport,
        decoder: Decoder,
        workers: Workers,
        clock: Clock,
        out: Path,
        timeline: Timeline,
        watcher: Watcher,
        claim: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._transport = transport
        self._decoder = decoder
        self._workers = workers
        self._clock = clock
        self._out = out
        self._timeline = timeline
        self._watcher = watcher
        self._claim = claim
        self.connection = ReceivingConnection(software=SOFTWARE)
        self._heard: asyncio.Queue[Event] = asyncio.Queue(_HEARD)
        self._pump = Pump(self.connection, transport, clock, self._hear)
        self._arrived: asyncio.Queue[EncodingArrived] = asyncio.Queue(_QUEUE)
        self._backlog = Backlog(_BACKLOG_BYTES)
        self._painting = asyncio.Lock()
        self._wanted: set[LayerKey] = set()
        self._reached: dict[m.Mark, set[int]] = {mark: set() for mark in m.Mark}
        self.manifest: m.Manifest | None = None
        self.folder: Path | None = None
        """Where the study is put; None before its manifest."""
        self.volumes: list[GrowingVolume] = []
        self.bytes = {stage.name: 0 for stage in STAGES}
        """Encoded bytes received, by stage."""
        self.codecs: dict[str, str] = {}
        """The codec that served each stage."""
        self.exact: bool | None = None
        """What our receipt says; None until it is given."""

    # -- the way of a transfer ----------------------------------------------------------------

    async def run(self) -> None:
        """Until the receipt is given and the peer has closed.

        Raises:
            MedroiError: whatever ended the session before; the transport is closed, and what has
                been verified is kept on disk.
        """
        try:
            with one_error():
                async with asyncio.TaskGroup() as group:
                    loops = [self._decode_loop() for _ in range(self._decoder.count)]
                    loops += [self._event_loop(), self._expect_hello()]
                    helpers = [group.create_task(loop) for loop in loops]
                    await self._listen()
                    for helper in helpers:
                        helper.cancel()
            if self.exact is None:
                raise TransportClosed("the sender closed the connection before the study was done")
        except MedroiError as error:
            await self._part(error)
            await self._workers.run(forget_empty, self.volumes)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._part(None))
            raise

    async def _listen(self) -> None:
        """Until the peer has closed; what arrived whole before that is still proven and kept."""
        broken: TransportClosed | None = None
        try:
            await self._pump.run()
        except TransportClosed as error:
            broken = error
        await self._heard.join()
        await self._arrived.join()
        if broken is not None:
            raise broken

    async def _expect_hello(self) -> None:
        await self._clock.sleep_s(_HELLO_S)
        if self.connection.state is State.NEW:
            raise RemoteProtocolError("the peer did not say hello")

    async def _hear(self, event: Event) -> None:
        await self._heard.put(event)
        if isinstance(event, EncodingArrived):
            await self._backlog.add(len(event.payload))

    async def _event_loop(self) -> None:
        while True:
            event = await self._heard.get()
            try:
                with disk_errors(self._out):
                    await self._on_event(event)
            finally:
                self._heard.task_done()
            self._pump.wake()

    async def _on_event(self, event: Event) -> None:
        match event:
            case m.Hello():
                self.connection.greet()
                self._timeline.mark(m.Mark.CONNECTED.value)
            case m.Manifest():
                await self._on_manifest(event)
            case m.Plan():
                async with self._painting:
                    await self._workers.run(self._volume(event.series).set_plan, event)
                    await self._prove(event.series)
            case m.LayerOffer():
                await self._on_offer(event)
            case EncodingArrived():
                await self._arrived.put(event)
            case m.End():
                await self._arrived.join()
                await self._finish()
            case m.Farewell():
                await self._arrived.join()
                raise error_of(event, m.Role.SENDER)
            case _:
                pass

    async def _on_manifest(self, manifest: m.Manifest) -> None:
        await self._claim(manifest.study)
        self.manifest = manifest
        self.folder = study_folder(self._out, manifest)
        try:
            self.volumes = await self._workers.run(open_volumes, self.folder, manifest)
        except OSError as error:
            self.connection.refuse(f"the clinic's disk does not take it: {error.strerror}")
            raise
        held = (digest for volume in self.volumes for digest in volume.held)
        self.connection.accept(tuple(islice(held, _MAX_HELD)))
        await self._watcher.began(self)

    async def _on_offer(self, offer: m.LayerOffer) -> None:
        volume = self._volume(offer.key.series)
        if offer.box is not None:
            await self._workers.run(volume.check_offer, offer)
        held = await self._workers.run(volume.holds, offer) if volume.held else False
        if held:
            self.connection.judge(offer.number, m.Verdict.HELD)

    # -- decoding and painting ----------------------------------------------------------------

    async def _decode_loop(self) -> None:
        while True:
            arrived = await self._arrived.get()
            try:
                with disk_errors(self._out):
                    await self._take(arrived.offer, arrived.payload)
            finally:
                self._backlog.remove(len(arrived.payload))
                self._arrived.task_done()
            self._pump.wake()

    async def _take(self, offer: m.LayerOffer, payload: bytes) -> None:
        """Decode an encoding, prove it and paint it, and tell the sender what became of it."""
        preview = offer.key.quality < Quality.EXACT
        try:
            samples = await self._decoder.decode(self._task(offer, payload))
            good = await self._paint(offer, samples)
        except CodecError:
            good = False
        region = self._volume(offer.key.series).regions.get(offer.key.region)
        stage = STAGES[stage_of(region.kind if region else None, offer.key.quality)]
        self.bytes[stage.name] += len(payload)
        self.codecs[stage.name] = offer.codec
        if good:
            self.connection.judge(offer.number, m.Verdict.SHOWN if preview else m.Verdict.VERIFIED)
        elif preview:
            self.connection.judge(offer.number, m.Verdict.FAILED)
        elif offer.key in self._wanted:
            raise IntegrityError(f"{offer.key} does not have its digest, a second time")
        else:
            self._wanted.add(offer.key)
            self.connection.want(offer.number)

    def _task(self, offer: m.LayerOffer, payload: bytes) -> DecodeTask:
        entry = self._volume(offer.key.series).entry
        if offer.box is None:
            shape = (1, 1, offer.decoded_bytes)
            dtype: np.dtype[Any] = np.dtype(np.uint8)
        elif offer.key.quality < Quality.EXACT:
            shape, dtype = offer.box.shape, PREVIEW_DTYPE
        else:
            shape = offer.box.shape
            dtype = entry.samples.sample_dtype(np.dtype(entry.header.dtype))
        return DecodeTask(offer.codec, offer.settings, shape, dtype, payload)

    async def _paint(self, offer: m.LayerOffer, samples: NDArray[np.generic]) -> bool:
        volume = self._volume(offer.key.series)
        async with self._painting:
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
        volume = self._volume(series)
        if volume.complete and not volume.proven and not volume.discarded_voxels:
            await self._workers.run(volume.prove)
        await self._note_progress(series)

    async def _note_progress(self, series: int) -> None:
        for mark in self._volume(series).new_marks():
            self.connection.reach(series, mark)
            self._pump.wake()
            self._reached[mark].add(series)
            of_roi = mark in (m.Mark.ROI_PREVIEW, m.Mark.ROI_EXACT)
            if series == 0 if of_roi else len(self._reached[mark]) == len(self.volumes):
                self._timeline.mark(mark.value)
            await self._watcher.reached(self, series, mark)

    # -- the end ------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Everything has been sent: is everything here, and is it right?"""
        for volume in self.volumes:
            if not volume.complete:
                missing = volume.missing_voxels
                raise RemoteProtocolError(f"the study ended with {missing} voxels missing")
        async with self._painting:
            for volume in self.volumes:
                await self._workers.run(volume.finish)
        self.exact = all(volume.proven for volume in self.volumes)
        await self._watcher.ended(self)
        self.connection.finish(exact=self.exact)

    def _volume(self, series: int) -> GrowingVolume:
        return self.volumes[series]  # the connection has checked the number against the manifest

    async def _part(self, error: BaseException | None) -> None:
        self.connection.leave(*farewell_of(error, m.Role.RECEIVER))
        await self._pump.last_words()
