"""One valid example of every message, for tables, golden bytes and fuzzing."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from protocol import messages as m
from protocol.chunks import chunk_digests
from shared.geometry import Box
from shared.header import Frames, SeriesHeader, Source
from shared.intensity import PreviewWindow, SampleKind, SampleMap
from shared.layer import LayerKey, Quality, Region, RegionKind

SHAPE = (4, 6, 5)
WHOLE = Box.whole(SHAPE)
ROI = Box((1, 2, 1), (3, 4, 4))
TISSUE = Box((0, 1, 1), (4, 5, 5))
ENCODING = bytes(range(256)) * 2

HEADER = SeriesHeader(
    label="MR FLAIR, series 3",
    modality="MR",
    shape=SHAPE,
    dtype="<i2",
    affine=(-1.0, 0.0, 0.0, 10.0, 0.0, -1.0, 0.0, 20.0, 0.0, 0.0, 3.0, -5.5, 0.0, 0.0, 0.0, 1.0),
    affine_known=True,
    slope=1.0,
    intercept=0.0,
    file_header=bytes(348),
    voxel_offset=352,
    frames=Frames(
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (1.0, 1.0),
        tuple((0.0, 0.0, 3.0 * z) for z in range(SHAPE[0])),
        ((1.0, 0.0),),
    ),
    remarks=("gantry tilt 15.5 degrees",),
    identity=(("PatientName", "Nobody"),),
    source=Source.DICOM,
)
ENTRY = m.SeriesManifest(
    header=HEADER,
    samples=SampleMap(SampleKind.INTEGER, 11, offset=-47),
    window=PreviewWindow(-47.0, 833.0),
    value_range=(-47.0, 833.0),
    digest=hashlib.sha256(b"series").digest(),
)
MANIFEST = m.Manifest(hashlib.sha256(ENTRY.digest).digest(), (ENTRY,))
REGIONS = (
    Region("roi0", RegionKind.ROI, ROI, label="lesion"),
    Region("surroundings", RegionKind.SURROUNDINGS, WHOLE, ("roi0",)),
    Region("tissue", RegionKind.TISSUE, TISSUE, ("roi0",)),
    Region("background", RegionKind.BACKGROUND, WHOLE, ("roi0", "tissue")),
)
MASKED = Region("roi0", RegionKind.ROI, ROI, label="lesion", mask=bytes(range(9)))
"""How it travels; no mask decodes to this."""
PLAN = m.Plan(0, 1, REGIONS, bytes(54))


def offer(
    number: int = 0,
    encoding: bytes = ENCODING,
    *,
    quality: Quality = Quality.EXACT,
    region: str = "roi0",
    box: Box = ROI,
    owned: int = 12,
) -> m.LayerOffer:
    """A valid offer of an encoding."""
    exact = quality is Quality.EXACT
    return m.LayerOffer(
        number=number,
        key=LayerKey(0, region, quality, 0),
        box=box,
        owned_voxels=owned,
        codec="jpegxl" if exact else "hevc",
        settings=(("effort", 3),) if exact else (("crf", 28),),
        size_bytes=len(encoding),
        decoded_bytes=0,
        chunk_digests=chunk_digests(encoding),
        voxel_digest=hashlib.sha256(b"voxels").digest() if exact else b"",
        max_error=0.0 if exact else 17.5,
    )


HEADERS = m.LayerOffer(
    number=9,
    key=LayerKey(0, m.HEADERS_REGION, Quality.EXACT, 0),
    box=None,
    owned_voxels=0,
    codec="zstd",
    settings=(),
    size_bytes=len(ENCODING),
    decoded_bytes=4096,
    chunk_digests=chunk_digests(ENCODING),
    voxel_digest=hashlib.sha256(b"headers").digest(),
    max_error=0.0,
)

MESSAGES: dict[str, m.Message] = {
    "hello": m.Hello(2, m.Role.SENDER, "medroi 0.1.0"),
    "attach": m.Attach(bytes(range(16)), 3, True),
    "standing": m.Standing(
        known=True,
        finished=False,
        generation=2,
        next_number=9,
        plans=(1,),
        settled=((0, 3), (5, 6)),
        wanted=(4,),
        under_way=(m.Received(3, ((0, 65536), (70000, 70500))), m.Received(7, ())),
    ),
    "stored": m.Stored((m.Received(3, ((0, 65536),)),)),
    "manifest": MANIFEST,
    "accept": m.Accept((hashlib.sha256(b"held").digest(),)),
    "refuse": m.Refuse("no room"),
    "plan": PLAN,
    "plan_masked": replace(PLAN, version=2, regions=(MASKED, *REGIONS[1:])),
    "offer": offer(),
    "offer_preview": offer(1, quality=Quality.PREVIEW),
    "offer_on_another": replace(offer(4), base=3),
    "offer_headers": HEADERS,
    "withdraw": m.Withdraw(3),
    "ack": m.Ack(123456, 42, 20000),
    "verdict": m.LayerVerdict(3, m.Verdict.VERIFIED),
    "stage": m.StageReached(0, m.Mark.ROI_EXACT),
    "focus": m.Focus(0, ROI, 1),
    "pause": m.Pause(),
    "resume": m.Resume(),
    "again": m.Again(3, 65536, 512),
    "want": m.Want(3),
    "channel_offer": m.ChannelOffer(1, bytes(range(32)), b"v=0\r\n"),
    "channel_answer": m.ChannelAnswer(1, b"v=0\r\n", ""),
    "end": m.End(MANIFEST.study),
    "done": m.Done(MANIFEST.study, True),
    "farewell": m.Farewell(m.Why.STOPPED, "the sender was stopped"),
}
