"""Does a message fit the limits and what was said before? Fields alone cannot tell.

Products are taken in Python's own integers, before anything is allocated. Every function raises
`RemoteProtocolError` and returns nothing.
"""

from __future__ import annotations

import hashlib
from math import isfinite, isnan, prod
from typing import TYPE_CHECKING

from protocol import limits
from protocol.messages import HEADERS_REGION
from shared.errors import CodecError, RemoteProtocolError
from shared.geometry import Box
from shared.intensity import SampleKind
from shared.layer import QUALITIES, Quality, RegionKind
from shared.mask import MAX_MASK_VOXELS, unpack_mask
from shared.roi import RECORD_BYTES

if TYPE_CHECKING:
    from protocol import messages as m
    from shared.header import SeriesHeader
    from shared.layer import Region

DTYPE_BYTES = {
    f"{order}{kind}{size}": size
    for order in "<>|"
    for kind, sizes in (("i", (1, 2, 4, 8)), ("u", (1, 2, 4, 8)), ("f", (4, 8)))
    for size in sizes
    if (order == "|") == (size == 1)
}
"""Every stored type there is, by numpy's name, and its size."""
_MAX_STEPS = 1 << 53
"""Multiples of a step, either way: what a float64 counts."""
_NIFTI_HEADER_BYTES = (348, 540)
_ENCODED_SLACK_BYTES = 64 << 10


def require(condition: bool, sentence: str) -> None:
    """Raise unless the condition holds."""
    if not condition:
        raise RemoteProtocolError(sentence)


def check_manifest(manifest: m.Manifest) -> None:
    """A manifest that can be rebuilt within our limits."""
    require(len(manifest.series) > 0, "a manifest without a series")
    for entry in manifest.series:
        _check_header(entry.header)
        bits = entry.samples.bits
        raw = entry.samples.kind is SampleKind.RAW
        require(1 <= bits <= (64 if raw else 16), f"samples of {bits} bits")
        if entry.samples.kind is SampleKind.STEP:
            step = entry.samples.step
            require(isfinite(step) and step > 0, f"a step of {step}")
            require(abs(entry.samples.offset) <= _MAX_STEPS, f"steps from {entry.samples.offset}")
        if entry.samples.kind is SampleKind.LEVELS:
            size = DTYPE_BYTES[entry.header.dtype]
            require(
                0 < len(entry.samples.levels) <= size << bits
                and len(entry.samples.levels) % size == 0,
                f"{len(entry.samples.levels)} bytes of levels",
            )
        low, high = entry.window.low, entry.window.high
        require(isfinite(high - low) and low < high, f"a window of {low}..{high}")
    digests = b"".join(entry.digest for entry in manifest.series)
    require(hashlib.sha256(digests).digest() == manifest.study, "a study digest that is not")


def _check_header(header: SeriesHeader) -> None:
    require(header.dtype in DTYPE_BYTES, f"voxels of type {header.dtype!r:.20}")
    require(min(header.shape) >= 1, f"a volume of shape {header.shape}")
    voxels = prod(header.shape)
    size = voxels * DTYPE_BYTES[header.dtype]
    require(
        voxels <= limits.MAX_VOXELS and size <= limits.MAX_VOLUME_BYTES,
        f"a volume of {size} bytes, more than the limit of {limits.MAX_VOLUME_BYTES}",
    )
    require(all(isfinite(value) for value in header.affine), "an affine that is not finite")
    require(
        len(header.file_header) in _NIFTI_HEADER_BYTES
        and header.voxel_offset >= len(header.file_header),
        f"a NIfTI header of {len(header.file_header)} bytes before {header.voxel_offset}",
    )
    if header.frames is not None:
        positions, scales = len(header.frames.positions_mm), len(header.frames.rescale)
        slices = header.shape[0]
        require(
            positions in (0, slices) and scales in (0, 1, slices),
            f"{positions} positions and {scales} scalings for {slices} slices",
        )


def check_plan(plan: m.Plan, header: SeriesHeader, before: m.Plan | None) -> None:
    """A plan in which every voxel has one owner at each quality."""
    require(len(plan.record) in (0, RECORD_BYTES), "a MedROI record of another size")
    if before is not None:
        require(
            plan.version > before.version and plan.regions[: len(before.regions)] == before.regions,
            "a plan that takes back what an earlier one said",
        )
    whole = Box.whole(header.shape)
    masked = sum(region.box.voxels for region in plan.regions if region.mask)
    require(masked <= MAX_MASK_VOXELS, f"masks over {masked} voxels")
    known = {region.name: region.mask for region in before.regions} if before else {}
    earlier: dict[str, Region] = {}
    for region in plan.regions:
        require(region.box.inside(whole), f"region {region.name!r} lies outside the volume")
        if region.mask and region.name not in known:
            _check_mask(region)
        require(
            region.name not in earlier and region.name not in ("", HEADERS_REGION),
            f"a second region {region.name!r}",
        )
        require(set(region.excludes) <= set(earlier), f"region {region.name!r} excludes unknowns")
        require(
            not region.discarded or region.kind is RegionKind.BACKGROUND,
            f"region {region.name!r} is discarded and not background",
        )
        for other in earlier.values():
            shared_quality = QUALITIES[region.kind] & QUALITIES[other.kind]
            if shared_quality and region.box.intersection(other.box) is not None:
                require(
                    other.name in region.excludes,
                    f"regions {other.name!r} and {region.name!r} own the same voxels",
                )
        if region.kind is RegionKind.BACKGROUND:
            all_of_it = region.box == whole and not region.mask
            require(all_of_it, "a background that leaves voxels out")
        earlier[region.name] = region


def _check_mask(region: Region) -> None:
    """A mask that decodes and marks something."""
    try:
        marked = unpack_mask(region.mask, region.box.shape)
    except CodecError as error:
        raise RemoteProtocolError(f"region {region.name!r}: {error}") from None
    require(bool(marked.any()), f"region {region.name!r} has a mask that marks nothing")


def check_offer(offer: m.LayerOffer, plan: m.Plan | None, header: SeriesHeader) -> None:
    """A layer of the plan that a decoder can be asked to hold."""
    chunks = -(-offer.size_bytes // limits.CHUNK_BYTES)
    require(
        offer.size_bytes > 0 and len(offer.chunk_digests) == chunks * limits.DIGEST_BYTES,
        f"{len(offer.chunk_digests)} bytes of chunk digests for {offer.size_bytes} bytes",
    )
    if offer.key.region == HEADERS_REGION:
        decoded = offer.decoded_bytes
        require(offer.box is None and offer.owned_voxels == 0, "a headers layer with voxels")
        require(0 < decoded <= limits.MAX_BLOCK_VOXELS, f"a headers layer of {decoded} bytes")
        require(offer.key.quality is Quality.EXACT, "a headers layer that is not exact")
    else:
        decoded = _check_voxel_layer(offer, plan, header)
    require(
        offer.size_bytes <= 2 * decoded + _ENCODED_SLACK_BYTES,
        f"{offer.size_bytes} bytes that encode {decoded}",
    )
    exact = offer.key.quality is Quality.EXACT
    require(bool(offer.voxel_digest) == exact, f"{offer.key}: digest of voxels missing or too many")
    builds = offer.base is None or (exact and offer.box is not None and offer.base < offer.number)
    require(builds, f"{offer.key}: builds on encoding {offer.base}")
    require(not isnan(offer.max_error) and offer.max_error >= 0, "a largest error below zero")


def _check_voxel_layer(offer: m.LayerOffer, plan: m.Plan | None, header: SeriesHeader) -> int:
    regions = {region.name: region for region in plan.regions} if plan else {}
    region = regions.get(offer.key.region)
    if region is None or offer.box is None:
        raise RemoteProtocolError(f"{offer.key}: not a layer of the plan")
    require(offer.box.inside(region.box), f"{offer.key}: outside its region")
    require(not region.discarded, f"{offer.key}: of a discarded region")
    require(offer.key.quality in QUALITIES[region.kind], f"{offer.key}: no such layer in a plan")
    voxels = offer.box.voxels
    require(voxels <= limits.MAX_BLOCK_VOXELS, f"{offer.key}: {voxels} voxels in one block")
    require(0 < offer.owned_voxels <= voxels, f"{offer.key}: owns {offer.owned_voxels} voxels")
    return voxels * DTYPE_BYTES[header.dtype]
