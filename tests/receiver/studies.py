"""Small studies for tests of the receiver, and a peer that is moved by hand."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from protocol import messages as m
from protocol.chunks import chunk_digests
from protocol.frames import Fragment, FrameKind, decode_frame, encode_frame, pack_fragment
from protocol.limits import CHUNK_BYTES, PROTOCOL_VERSION
from protocol.payloads import pack_message, unpack_message
from receiver.decode import InlineDecoder
from receiver.files import fill_value
from receiver.session import ReceivingSession
from receiver.visit import Visit
from receiver.watch import NoWatcher
from shared.clock import LoopClock
from shared.codecs.base import Block
from shared.codecs.zstd import ZSTD
from shared.errors import MedroiError, RemoteProtocolError, TransportClosed
from shared.geometry import Affine, Box, Triple
from shared.header import SeriesHeader, Source
from shared.intensity import fit_sample_map, fit_window, value_range
from shared.layer import LayerKey, Quality, Region, RegionKind
from shared.link import parse_link
from shared.ownership import holes, owned_count, owned_mask
from shared.timeline import Timeline
from shared.transports.simulated import SimulatedTransport, simulated_pair
from shared.volume import region_digest, volume_digest
from shared.workers import InlineWorkers
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from receiver.compose import GrowingVolume
    from receiver.decode import Decoder
    from receiver.watch import Watcher

SHAPE = (6, 10, 8)
WHOLE = Box.whole(SHAPE)
ROI = Box((2, 3, 2), (4, 7, 6))
TISSUE = Box((1, 1, 1), (5, 9, 7))
AFFINE = (-2.0, 0.0, 0.0, 90.0, 0.0, 3.0, 0.0, -126.0, 0.0, 0.0, 4.0, -72.0, 0.0, 0.0, 0.0, 1.0)
REGIONS = (
    Region("roi0", RegionKind.ROI, ROI, label="lesion"),
    Region("surroundings", RegionKind.SURROUNDINGS, WHOLE, ("roi0",)),
    Region("tissue", RegionKind.TISSUE, TISSUE, ("roi0",)),
    Region("background", RegionKind.BACKGROUND, WHOLE, ("roi0", "tissue")),
)
PLAN = m.Plan(0, 1, REGIONS, b"")
SESSION = bytes(range(16))


def nifti_header(
    shape: Triple,
    dtype: str,
    affine: Affine = AFFINE,
    *,
    version: int = 1,
    offset: int | None = None,
) -> bytes:
    """The header of a single-file NIfTI of these voxels, in their byte order."""
    order = ">" if dtype.startswith(">") else "<"
    kind: Any = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    header = kind(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape[::-1])
    header.set_sform(np.reshape(affine, (4, 4)), code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = offset or {1: 352, 2: 544}[version]
    header["magic"] = {1: b"n+1", 2: b"n+2"}[version]
    header["descrip"] = b"the scanner's own words"
    return bytes(header.binaryblock)


def series_header(
    shape: Triple = SHAPE,
    dtype: str = "<i2",
    affine: Affine = AFFINE,
    *,
    version: int = 1,
    offset: int | None = None,
) -> SeriesHeader:
    """The header of a series that was read from a NIfTI file."""
    return SeriesHeader(
        label="MR FLAIR",
        modality="MR",
        shape=shape,
        dtype=dtype,
        affine=affine,
        affine_known=True,
        slope=1.0,
        intercept=0.0,
        file_header=nifti_header(shape, dtype, affine, version=version, offset=offset),
        voxel_offset=offset or {1: 352, 2: 544}[version],
        source=Source.NIFTI,
    )


def some_voxels(shape: Triple = SHAPE, dtype: str = "<i2", seed: int = 1) -> NDArray[Any]:
    """Voxels that differ from each other and from every fill value."""
    rng = np.random.default_rng(seed)
    return (rng.permutation(int(np.prod(shape))).reshape(shape) % 120 + 1).astype(dtype)


def entry_of(header: SeriesHeader, voxels: NDArray[Any]) -> m.SeriesManifest:
    """What a manifest says of a series."""
    return m.SeriesManifest(
        header,
        fit_sample_map(voxels),
        fit_window(voxels),
        value_range(voxels),
        volume_digest(header, voxels),
    )


def manifest_of(*entries: m.SeriesManifest) -> m.Manifest:
    """The manifest of a study."""
    return m.Manifest(hashlib.sha256(b"".join(e.digest for e in entries)).digest(), entries)


@dataclass(frozen=True)
class Study:
    """One series, whole, and the plan that it is sent by."""

    entry: m.SeriesManifest
    voxels: NDArray[Any]
    plan: m.Plan = PLAN

    @property
    def manifest(self) -> m.Manifest:
        return manifest_of(self.entry)

    def layer(
        self,
        number: int,
        region: str,
        quality: Quality = Quality.EXACT,
        box: Box | None = None,
        *,
        block: int = 0,
        series: int = 0,
    ) -> tuple[m.LayerOffer, bytes]:
        """A layer of a region, all of it unless a box is given, coded by zstd whatever it is of."""
        regions = {each.name: each for each in self.plan.regions}
        place = box or regions[region].box
        without = holes(regions[region], place, regions, quality)
        part = np.ascontiguousarray(self.voxels[place.slices])
        exact = quality is Quality.EXACT
        mapped = (
            self.entry.samples.to_samples(part) if exact else self.entry.window.to_preview(part)
        )
        payload = ZSTD.encode(Block(mapped, 16), {})
        offer = m.LayerOffer(
            number=number,
            key=LayerKey(series, region, quality, block),
            box=place,
            owned_voxels=owned_count(place, without),
            codec="zstd",
            settings=(),
            size_bytes=len(payload),
            decoded_bytes=0,
            chunk_digests=chunk_digests(payload),
            voxel_digest=region_digest(part, owned_mask(place, without)) if exact else b"",
            max_error=0.0 if exact else 1.0,
        )
        return offer, payload

    def layers(self) -> list[tuple[m.LayerOffer, bytes]]:
        """Every layer of the default plan, one a region and quality, in the order of the stages."""
        wanted = (
            ("roi0", Quality.PREVIEW),
            ("roi0", Quality.EXACT),
            ("surroundings", Quality.PREVIEW),
            ("tissue", Quality.EXACT),
            ("background", Quality.EXACT),
        )
        return [self.layer(number, *which) for number, which in enumerate(wanted)]


def study(
    shape: Triple = SHAPE, dtype: str = "<i2", *, seed: int = 1, plan: m.Plan = PLAN
) -> Study:
    """A study of one series."""
    voxels = some_voxels(shape, dtype, seed)
    return Study(entry_of(series_header(shape, dtype), voxels), voxels, plan)


def headers_layer(number: int, content: bytes, *, block: int = 0) -> tuple[m.LayerOffer, bytes]:
    """A piece of the headers layer of the first series."""
    payload = ZSTD.encode(Block(np.frombuffer(content, np.uint8).reshape(1, 1, -1), 8), {})
    offer = m.LayerOffer(
        number=number,
        key=LayerKey(0, m.HEADERS_REGION, Quality.EXACT, block),
        box=None,
        owned_voxels=0,
        codec="zstd",
        settings=(),
        size_bytes=len(payload),
        decoded_bytes=len(content),
        chunk_digests=chunk_digests(payload),
        voxel_digest=hashlib.sha256(content).digest(),
        max_error=0.0,
    )
    return offer, payload


def with_payload(offer: m.LayerOffer, payload: bytes) -> tuple[m.LayerOffer, bytes]:
    """The same promise over other bytes, whose hashes are right."""
    return replace(offer, size_bytes=len(payload), chunk_digests=chunk_digests(payload)), payload


class Peer:
    """A sender moved by hand: says what it is told to, true or not."""

    def __init__(self, transport: SimulatedTransport) -> None:
        self.transport = transport
        self.heard: list[m.Message] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Until the receiver has closed."""
        try:
            async for raw in self.transport.frames():
                message = unpack_message(decode_frame(raw).payload)
                if not isinstance(message, m.Ack | m.Stored):
                    self.heard.append(message)
                    self._news.set()
        except TransportClosed:
            return
        finally:
            self._news.set()

    async def say(self, *messages: m.Message) -> None:
        for message in messages:
            await self.transport.send(encode_frame(FrameKind.CONTROL, 0, pack_message(message)))

    async def send(self, number: int, payload: bytes) -> None:
        """The fragments of an encoding."""
        for offset in range(0, len(payload), CHUNK_BYTES):
            piece = Fragment(number, offset, payload[offset : offset + CHUNK_BYTES])
            await self.transport.send(encode_frame(FrameKind.FRAGMENT, 0, pack_fragment(piece)))

    async def offer(self, offer: m.LayerOffer, payload: bytes) -> None:
        await self.say(offer)
        await self.send(offer.number, payload)

    async def hear(self, kind: type[m.Message], count: int = 1) -> Any:
        """The last of so many messages of a kind, once they have come."""
        while len(found := [each for each in self.heard if isinstance(each, kind)]) < count:
            self._news.clear()
            await self._news.wait()
        return found[count - 1]

    async def attach(
        self, session: bytes = SESSION, generation: int = 1, *, accepted: bool = False
    ) -> m.Standing:
        """Hello, and which session this is."""
        await self.say(
            m.Hello(PROTOCOL_VERSION, m.Role.SENDER, "a test"),
            m.Attach(session, generation, accepted),
        )
        standing: m.Standing = await self.hear(m.Standing)
        return standing

    async def begin(self, manifest: m.Manifest, *plans: m.Plan, session: bytes = b"") -> m.Accept:
        """Hello, manifest, plans, as far as the answer to them; a session of the study's name."""
        await self.attach(session or manifest.study[:16])
        await self.say(manifest, *plans)
        accept: m.Accept = await self.hear(m.Accept)
        return accept

    async def end(self, manifest: m.Manifest) -> None:
        """The end, the receipt, and a close in order."""
        await self.say(m.End(manifest.study))
        await self.hear(m.Done)
        await self.transport.close()


async def send_all(
    peer: Peer,
    sent: Study,
    layers: Iterable[tuple[m.LayerOffer, bytes]],
    *,
    session: bytes = b"",
) -> None:
    """A whole honest transfer of these layers."""
    await peer.begin(sent.manifest, sent.plan, session=session)
    for count, (offer, payload) in enumerate(layers, start=1):
        await peer.offer(offer, payload)
        await peer.hear(m.LayerVerdict, count)
    await peer.end(sent.manifest)


@dataclass
class Ended:
    """How a session ended."""

    session: ReceivingSession
    error: BaseException | None
    peer: Peer


async def no_claim(study: bytes) -> None:
    """Nobody else has the study."""


async def attend(
    out: Path,
    script: Callable[[Peer], Awaitable[None]],
    *,
    decoder: Decoder | None = None,
    watcher: Watcher | None = None,
    claim: Callable[[bytes], Awaitable[None]] = no_claim,
    listens: bool = True,
    started: list[ReceivingSession] | None = None,
) -> Ended:
    """A session and a hand-driven peer, on the running loop, until the session has ended.

    Args:
        listens: the peer reads what comes; else the script does.
        started: the session is put here, for whoever looks on.
    """
    near, far = simulated_pair(parse_link("rate=100M,rtt=2ms"), 0)
    peer = Peer(near)
    clock = LoopClock()
    session = ReceivingSession(
        SESSION,
        decoder or InlineDecoder(),
        InlineWorkers(),
        clock,
        out,
        Timeline(clock.now_s),
        watcher or NoWatcher(),
        claim,
    )

    async def find(_attach: m.Attach) -> ReceivingSession:
        return session

    visit = Visit(far, clock, find)
    if started is not None:
        started.append(session)
    error: BaseException | None = None

    async def play() -> None:
        try:
            await script(peer)
        except TransportClosed:
            return  # the receiver has had enough of it

    async def receive() -> None:
        broken: MedroiError | None = None
        try:
            await visit.run()
        except MedroiError as raised:
            broken = raised
        if visit.host is None:
            session.fail(broken or TransportClosed("the peer said nothing"))
        else:
            session.detach(visit, broken)
            if not isinstance(broken, RemoteProtocolError):
                session.fail(broken or TransportClosed("the sender closed the connection"))

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(peer.listen()) if listens else None
        playing = group.create_task(play())
        receiving = group.create_task(receive())
        try:
            await session.run()
        except Exception as raised:
            error = raised
        await far.close()
        if listening is not None:
            await listening
        playing.cancel()
        receiving.cancel()
    return Ended(session, error, peer)


def attended(out: Path, script: Callable[[Peer], Awaitable[None]], **options: Any) -> Ended:
    """`attend` in virtual time."""
    return run_virtual(attend(out, script, **options), limit_s=3600)


def honest(out: Path, sent: Study, **options: Any) -> Ended:
    """A whole honest transfer in virtual time."""
    return attended(out, lambda peer: send_all(peer, sent, sent.layers()), **options)


def check_truthful(volume: GrowingVolume, voxels: NDArray[Any]) -> int:
    """No voxel is VERIFIED that is not right, no missing one looks like a value; how many are."""
    quality = volume.files.quality
    proven = quality == Quality.VERIFIED
    assert np.array_equal(volume.files.voxels[proven], voxels[proven])
    fill = fill_value(voxels.dtype)
    missing = np.asarray(volume.files.voxels[quality < Quality.PREVIEW])
    assert np.all(np.isnan(missing) if fill != fill else missing == fill)
    return int(np.count_nonzero(proven))
