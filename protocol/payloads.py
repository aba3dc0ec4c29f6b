"""Messages <-> msgpack. One table says how each travels; both directions read it.

A message is a list: its kind, then its fields in order. Lists only, no maps, so there is one way to
write each message and golden bytes can hold it. Everything is bounded before it is looked at: the
frame by `limits.MAX_FRAME_BYTES`, msgpack by the sizes below, each field by its own limit.
"""

from __future__ import annotations

from typing import Any

import msgpack

from protocol import limits
from protocol import messages as m
from protocol.fields import (
    Field,
    blob,
    count,
    digest,
    flag,
    float_groups,
    floats,
    listing,
    maybe,
    real,
    record,
    settings,
    several,
    spans,
    text,
    token,
    whole,
    word,
)
from shared.errors import RemoteProtocolError
from shared.geometry import Box
from shared.header import Frames, SeriesHeader, Source
from shared.intensity import PreviewWindow, SampleKind, SampleMap
from shared.layer import LayerKey, Quality, Region, RegionKind

MAX_MESSAGE_BYTES = 64 << 10
"""Of any message but a manifest, which has every slice's position, what answers it, and a plan,
which has masks (`limits.MAX_PLAN_BYTES`)."""
_MAX_HELD = 16_384
_U32 = (1 << 32) - 1
_I63 = (1 << 63) - 1
_MANIFEST, _ACCEPT, _PLAN, _STANDING = 2, 3, 5, 20

_name = text(64)
_number = count(limits.MAX_LAYERS)
_series = count(limits.MAX_SERIES)
_corner = several(count(limits.MAX_AXIS), 3)
_box = record(Box, start=_corner, stop=_corner)
_frames = record(
    Frames,
    row_cosines=floats(3),
    column_cosines=floats(3),
    pixel_spacing_mm=floats(2),
    positions_mm=float_groups(3, limits.MAX_FRAMES),
    rescale=float_groups(2, limits.MAX_FRAMES),
)
_header = record(
    SeriesHeader,
    label=text(),
    modality=_name,
    shape=_corner,
    dtype=text(8),
    affine=floats(16),
    affine_known=flag(),
    slope=real(),
    intercept=real(),
    file_header=blob(540),
    voxel_offset=count(limits.MAX_NIFTI_HEADER_BYTES),
    frames=maybe(_frames),
    remarks=listing(text(), 64),
    identity=listing(several(text(), 2), 32),
    source=word(Source),
)
_samples = record(
    SampleMap,
    kind=word(SampleKind),
    bits=count(64),
    offset=whole(),
    step=real(),
    levels=blob(32 << 10),
)
_series_manifest = record(
    m.SeriesManifest,
    header=_header,
    samples=_samples,
    window=record(PreviewWindow, low=real(), high=real()),
    value_range=floats(2),
    digest=digest(),
)
_region = record(
    Region,
    name=_name,
    kind=word(RegionKind),
    box=_box,
    excludes=listing(_name, limits.MAX_REGIONS),
    label=text(),
    rank=count(limits.MAX_REGIONS),
    discarded=flag(),
    mask=blob(limits.MAX_MASK_BYTES),
)
_key = record(
    LayerKey,
    series=_series,
    region=_name,
    quality=word(Quality),
    block=count(limits.MAX_LAYERS),
)
_plan = record(
    m.Plan,
    series=_series,
    version=count(_U32),
    regions=listing(_region, limits.MAX_REGIONS),
    record=blob(54),
)
_offer = record(
    m.LayerOffer,
    number=_number,
    key=_key,
    box=maybe(_box),
    owned_voxels=count(limits.MAX_BLOCK_VOXELS),
    codec=_name,
    settings=settings(16),
    size_bytes=count(limits.MAX_ENCODING_BYTES),
    decoded_bytes=count(limits.MAX_ATTACHMENT_BYTES),
    chunk_digests=blob(limits.DIGEST_BYTES * (limits.MAX_ENCODING_BYTES // limits.CHUNK_BYTES)),
    voxel_digest=digest(optional=True),
    max_error=real(),
    base=maybe(_number),
)

_received = record(
    m.Received,
    number=_number,
    ranges=spans(limits.MAX_ENCODING_BYTES, limits.MAX_STATED_PIECES),
)

_TABLE: tuple[tuple[int, type[Any], Field[Any]], ...] = (
    (1, m.Hello, record(m.Hello, version=count(_U32), role=word(m.Role), software=text())),
    (
        _MANIFEST,
        m.Manifest,
        record(m.Manifest, study=digest(), series=listing(_series_manifest, limits.MAX_SERIES)),
    ),
    (_ACCEPT, m.Accept, record(m.Accept, held=listing(digest(), _MAX_HELD))),
    (4, m.Refuse, record(m.Refuse, reason=text())),
    (_PLAN, m.Plan, _plan),
    (6, m.LayerOffer, _offer),
    (7, m.Withdraw, record(m.Withdraw, number=_number)),
    (
        8,
        m.Ack,
        record(m.Ack, received_bytes=count(_I63), echo_us=count(_U32), held_us=count(_U32)),
    ),
    (9, m.LayerVerdict, record(m.LayerVerdict, number=_number, verdict=word(m.Verdict))),
    (10, m.StageReached, record(m.StageReached, series=_series, mark=word(m.Mark))),
    (11, m.Focus, record(m.Focus, series=_series, box=_box, rank=count(255))),
    (12, m.Pause, record(m.Pause)),
    (13, m.Resume, record(m.Resume)),
    (
        14,
        m.Again,
        record(
            m.Again,
            number=_number,
            offset=count(limits.MAX_ENCODING_BYTES),
            size_bytes=count(limits.CHUNK_BYTES),
        ),
    ),
    (15, m.Want, record(m.Want, number=_number)),
    (16, m.End, record(m.End, study=digest())),
    (17, m.Done, record(m.Done, study=digest(), exact=flag())),
    (18, m.Farewell, record(m.Farewell, why=word(m.Why), reason=text())),
    (
        19,
        m.Attach,
        record(m.Attach, session=token(), generation=count(_U32), accepted=flag()),
    ),
    (
        _STANDING,
        m.Standing,
        record(
            m.Standing,
            known=flag(),
            finished=flag(),
            generation=count(_U32),
            next_number=_number,
            plans=listing(count(_U32), limits.MAX_SERIES),
            settled=spans(limits.MAX_LAYERS, limits.MAX_SPANS),
            wanted=listing(_number, limits.MAX_OPEN_LAYERS),
            under_way=listing(_received, 2 * limits.MAX_OPEN_LAYERS),
        ),
    ),
    (21, m.Stored, record(m.Stored, parts=listing(_received, limits.MAX_OPEN_LAYERS))),
    (
        22,
        m.ChannelOffer,
        record(m.ChannelOffer, number=count(_U32), secret=digest(), sdp=blob(limits.MAX_SDP_BYTES)),
    ),
    (
        23,
        m.ChannelAnswer,
        record(m.ChannelAnswer, number=count(_U32), sdp=blob(limits.MAX_SDP_BYTES), reason=text()),
    ),
)
_LARGEST = {
    _MANIFEST: limits.MAX_FRAME_BYTES,
    _ACCEPT: limits.MAX_FRAME_BYTES,
    _PLAN: limits.MAX_PLAN_BYTES,
    _STANDING: limits.MAX_FRAME_BYTES,
}
_BY_KIND = {kind: field for kind, _, field in _TABLE}
_BY_CLASS = {cls: (kind, field) for kind, cls, field in _TABLE}


def pack_message(message: m.Message) -> bytes:
    """The payload of a control frame."""
    kind, field = _BY_CLASS[type(message)]
    fields: Any = field.pack(message)
    return bytes(msgpack.packb([kind, *fields], use_bin_type=True))


def unpack_message(payload: bytes) -> m.Message:
    """The message in a control frame's payload.

    Raises:
        RemoteProtocolError: it is not msgpack, not a message we know, or out of its limits.
    """
    try:
        items = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            max_array_len=_MAX_HELD,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=4 * limits.MAX_TEXT,
            max_bin_len=limits.MAX_FRAME_BYTES,
        )
    except (ValueError, msgpack.UnpackException, RecursionError, OverflowError) as error:
        raise RemoteProtocolError(f"a message is not msgpack within limits: {error}") from None
    if not isinstance(items, list) or not items or not isinstance(items[0], int):
        raise RemoteProtocolError("a message is a list that begins with its kind")
    kind, *fields = items
    if kind not in _BY_KIND:
        raise RemoteProtocolError(f"a message of unknown kind {kind}")
    largest = _LARGEST.get(kind, MAX_MESSAGE_BYTES)
    if len(payload) > largest:
        raise RemoteProtocolError(f"a message of kind {kind} with {len(payload)} bytes")
    message: m.Message = _BY_KIND[kind].unpack(fields)
    return message
