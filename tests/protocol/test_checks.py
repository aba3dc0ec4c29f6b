from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from protocol import limits
from protocol import messages as m
from protocol.checks import check_manifest, check_offer, check_plan
from shared.errors import RemoteProtocolError
from shared.geometry import Box
from shared.intensity import PreviewWindow, SampleKind, SampleMap
from shared.layer import LayerKey, Quality, Region, RegionKind
from shared.mask import pack_mask
from tests.protocol import examples
from tests.protocol.examples import ENTRY, HEADER, PLAN, REGIONS, ROI, SHAPE, WHOLE

if TYPE_CHECKING:
    from shared.header import SeriesHeader


def _manifest(**changes: Any) -> m.Manifest:
    entry = replace(ENTRY, **changes)
    return m.Manifest(hashlib.sha256(entry.digest).digest(), (entry,))


def _header(**changes: Any) -> m.Manifest:
    return _manifest(header=replace(HEADER, frames=None, **changes))


def test_the_examples_pass() -> None:
    check_manifest(examples.MANIFEST)
    check_plan(PLAN, HEADER, None)
    for offer in (examples.offer(), examples.offer(quality=Quality.PREVIEW), examples.HEADERS):
        check_offer(offer, PLAN, HEADER)


HUGE = (limits.MAX_AXIS, limits.MAX_AXIS, limits.MAX_AXIS)


@pytest.mark.parametrize(
    "manifest",
    [
        m.Manifest(hashlib.sha256(b"").digest(), ()),
        replace(examples.MANIFEST, study=bytes(32)),
        _header(shape=(0, 6, 5)),
        _header(shape=HUGE),
        _header(shape=(2048, 1024, 512), dtype="<f8"),
        _header(dtype="<c8"),
        _header(dtype="O"),
        _header(dtype="<i3"),
        _header(dtype="|i2"),
        _header(affine=(float("nan"),) * 16),
        _header(file_header=bytes(347)),
        _header(voxel_offset=340),
        _manifest(header=replace(HEADER, shape=(5, 6, 5))),
        _manifest(samples=SampleMap(SampleKind.INTEGER, 17)),
        _manifest(samples=SampleMap(SampleKind.INTEGER, 0)),
        _manifest(samples=SampleMap(SampleKind.STEP, 8, step=0.0)),
        _manifest(samples=SampleMap(SampleKind.STEP, 8, step=float("inf"))),
        _manifest(samples=SampleMap(SampleKind.LEVELS, 1, levels=bytes(6))),
        _manifest(samples=SampleMap(SampleKind.LEVELS, 4, levels=bytes(3))),
        _manifest(window=PreviewWindow(5.0, 5.0)),
        _manifest(window=PreviewWindow(float("nan"), 5.0)),
    ],
)
def test_a_manifest_beyond_its_limits_is_refused(manifest: m.Manifest) -> None:
    with pytest.raises(RemoteProtocolError):
        check_manifest(manifest)


def _plan(*regions: Region, **changes: Any) -> m.Plan:
    return replace(PLAN, regions=regions, **changes)


SURROUNDINGS, TISSUE, BACKGROUND = REGIONS[1:]


@pytest.mark.parametrize(
    "plan",
    [
        _plan(REGIONS[0], REGIONS[0]),
        _plan(replace(REGIONS[0], name="")),
        _plan(replace(REGIONS[0], name=m.HEADERS_REGION)),
        _plan(replace(REGIONS[0], box=Box((0, 0, 0), (5, 1, 1)))),
        _plan(TISSUE),
        _plan(REGIONS[0], replace(TISSUE, excludes=())),
        _plan(REGIONS[0], replace(REGIONS[0], name="roi1")),
        _plan(replace(SURROUNDINGS, excludes=()), replace(SURROUNDINGS, name="s2", excludes=())),
        _plan(replace(BACKGROUND, box=ROI, excludes=())),
        _plan(replace(REGIONS[0], discarded=True)),
        _plan(*REGIONS, record=bytes(53)),
    ],
)
def test_a_plan_in_which_a_voxel_has_two_owners_or_none_is_refused(plan: m.Plan) -> None:
    with pytest.raises(RemoteProtocolError):
        check_plan(plan, HEADER, None)


def test_a_mask_that_cannot_be_is_refused() -> None:
    marked = np.zeros(ROI.shape, np.bool_)
    marked[0, 0, 0] = True
    good = replace(REGIONS[0], mask=pack_mask(marked))
    check_plan(_plan(good, *REGIONS[1:]), HEADER, None)
    for mask, why in (
        (b"noise", "not a mask"),
        (pack_mask(np.eye(7, dtype=np.bool_)[np.newaxis]), "not a mask"),
        (pack_mask(np.zeros(ROI.shape, np.bool_)), "marks nothing"),
    ):
        with pytest.raises(RemoteProtocolError, match=why):
            check_plan(_plan(replace(good, mask=mask)), HEADER, None)
    part = replace(BACKGROUND, excludes=(), mask=pack_mask(np.zeros(SHAPE, np.bool_)))
    with pytest.raises(RemoteProtocolError):
        check_plan(_plan(part), HEADER, None)


def test_masks_over_more_voxels_than_we_hold_are_refused_before_they_are_decoded() -> None:
    header: SeriesHeader = replace(HEADER, shape=(1024, 512, 512), frames=None)
    half = Box((0, 0, 0), (129, 512, 512))
    two = (
        Region("roi0", RegionKind.ROI, half, mask=b"never looked at"),
        Region("roi1", RegionKind.ROI, half, ("roi0",), mask=b"nor this"),
    )
    with pytest.raises(RemoteProtocolError, match="masks over"):
        check_plan(_plan(*two), header, None)


def test_a_later_plan_may_only_add() -> None:
    first = _plan(SURROUNDINGS_ALONE := replace(SURROUNDINGS, excludes=()), version=1)
    check_plan(first, HEADER, None)
    check_plan(_plan(SURROUNDINGS_ALONE, BACKGROUND_ALONE, version=2), HEADER, first)
    for wrong in (
        _plan(BACKGROUND_ALONE, version=2),
        _plan(SURROUNDINGS_ALONE, BACKGROUND_ALONE, version=1),
    ):
        with pytest.raises(RemoteProtocolError):
            check_plan(wrong, HEADER, first)


BACKGROUND_ALONE = replace(BACKGROUND, excludes=())
_OFFER = examples.offer()
_PREVIEW = examples.offer(quality=Quality.PREVIEW)


def _key(**changes: Any) -> LayerKey:
    return replace(_OFFER.key, **changes)


@pytest.mark.parametrize(
    "offer",
    [
        replace(_OFFER, size_bytes=0, chunk_digests=b""),
        replace(_OFFER, chunk_digests=bytes(64)),
        replace(_OFFER, box=None),
        replace(_OFFER, box=WHOLE),
        replace(_OFFER, key=_key(region="elsewhere")),
        replace(_OFFER, key=_key(quality=Quality.VERIFIED)),
        replace(_OFFER, key=_key(quality=Quality.BOUNDED)),
        replace(_OFFER, key=_key(region="surroundings"), box=WHOLE),
        replace(_PREVIEW, key=replace(_PREVIEW.key, region="tissue")),
        replace(_OFFER, owned_voxels=0),
        replace(_OFFER, owned_voxels=ROI.voxels + 1),
        replace(_OFFER, voxel_digest=b""),
        replace(_PREVIEW, voxel_digest=bytes(32)),
        replace(_PREVIEW, max_error=-1.0),
        replace(_PREVIEW, max_error=float("nan")),
        replace(_OFFER, size_bytes=64 << 20, chunk_digests=bytes(32 * 1024)),
        replace(examples.HEADERS, decoded_bytes=0),
        replace(examples.HEADERS, box=ROI),
        replace(examples.HEADERS, owned_voxels=1),
        replace(examples.HEADERS, key=replace(examples.HEADERS.key, quality=Quality.PREVIEW)),
    ],
)
def test_an_offer_that_no_plan_asked_for_is_refused(offer: m.LayerOffer) -> None:
    with pytest.raises(RemoteProtocolError):
        check_offer(offer, PLAN, HEADER)


def test_an_offer_before_its_plan_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        check_offer(_OFFER, None, HEADER)


def test_a_block_larger_than_a_decoder_holds_is_refused() -> None:
    shape = (2, 16384, 8192)
    header: SeriesHeader = replace(HEADER, shape=shape, frames=None)
    whole = Box.whole(shape)
    plan = m.Plan(0, 1, (Region("background", RegionKind.BACKGROUND, whole),), b"")
    offer = replace(
        _OFFER, key=_key(region="background"), box=whole, owned_voxels=limits.MAX_BLOCK_VOXELS
    )
    with pytest.raises(RemoteProtocolError, match="one block"):
        check_offer(offer, plan, header)
