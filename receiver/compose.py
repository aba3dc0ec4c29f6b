"""Layers painted into the growing volume; the quality of a voxel never falls.

Only here does a voxel become VERIFIED: when the digest of its layer's voxels, computed from what
was decoded, is the one that the sender declared. Blocking; one worker at a time calls it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol.messages import Mark
from protocol.stages import MARKS
from receiver.attachment import Attachment
from receiver.files import SeriesFiles
from receiver.journal import JournalEntry, append_entry, read_entries, write_entries
from shared.errors import IntegrityError, RemoteProtocolError
from shared.geometry import Box
from shared.header import Source
from shared.layer import QUALITIES, Quality, Region, RegionKind
from shared.ownership import holes, marked_in, owned_count, owned_mask
from shared.volume import region_digest, volume_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from protocol import messages as m


@dataclass(slots=True)
class Count:
    """How far a set of voxels has come."""

    total: int = 0
    at: dict[Quality, int] = field(
        default_factory=lambda: {Quality.PREVIEW: 0, Quality.VERIFIED: 0}
    )
    """Voxels that have at least this quality."""

    def share(self, quality: Quality) -> float:
        """From 0 to 1; 1 for no voxels."""
        return self.at[quality] / self.total if self.total else 1.0


class GrowingVolume:
    """One series, as good as it is so far."""

    def __init__(self, folder: Path, stem: str, entry: m.SeriesManifest) -> None:
        self.entry = entry
        self.files, resumed = SeriesFiles.open(folder, stem, entry.header)
        self.held = self._recover() if resumed else ()
        """Voxel digests of layers that an earlier session verified and this one has checked."""
        self.empty = not self.held
        """Nothing has been painted: all voxels are missing, or will not be sent."""
        self.regions: dict[str, Region] = {}
        self.record = b""
        """MedROI's 54 bytes about the tissue box."""
        self.roi, self.whole = Count(), Count(Box.whole(entry.header.shape).voxels)
        """How far the ROI has come; and all that is not discarded, planned already or not."""
        self.discarded_voxels = 0
        self.is_planned = False
        """Every voxel has a region that will make it exact, or is discarded: no ROI is to come."""
        self.previews: list[tuple[Box, float]] = []
        """(box, largest error) of every preview painted."""
        self.attachment = Attachment(self.files.headers)
        self.path: Path | None = None
        """The finished file."""
        self.proven = False
        """The digest of the whole volume, computed from the file, is the manifest's."""
        self._reached: set[Mark] = set()

    # -- the plan -----------------------------------------------------------------------------

    def set_plan(self, plan: m.Plan) -> None:
        """Take the regions: count them, and mark what will not be sent."""
        self.regions = {region.name: region for region in plan.regions}
        self.record = plan.record
        discarded = [region for region in plan.regions if region.discarded]
        for region in discarded:
            self._discard(region)
        lost = self._count(discarded)
        self.discarded_voxels = lost.total
        self.whole = self._count([_whole(self.entry)])
        self.whole.total -= lost.total
        for level in lost.at:  # a preview may reach over voxels that will never be exact
            self.whole.at[level] -= lost.at[level]
        self.roi = self._count(self._rois())
        planned = sum(
            owned_count(region.box, holes(region, region.box, self.regions))
            for region in plan.regions
            if Quality.EXACT in QUALITIES[region.kind]
        )
        self.is_planned = planned == Box.whole(self.entry.header.shape).voxels

    def _rois(self) -> list[Region]:
        """The ROIs by what they mark, less what earlier ones mark: whoever sends those voxels.

        An ROI that was found late does not own what was on its way already; it is not exact before
        that is.
        """
        rois = [region for region in self.regions.values() if region.kind is RegionKind.ROI]
        names = {region.name for region in rois}
        return [
            replace(roi, excludes=tuple(name for name in roi.excludes if name in names))
            for roi in rois
        ]

    def _discard(self, region: Region) -> None:
        for part, owned in self._planes(region):
            quality = self.files.quality[part.slices]
            lost = quality < Quality.DISCARDED
            if owned is not None:
                lost &= owned
            quality[lost] = Quality.DISCARDED

    def _count(self, regions: list[Region]) -> Count:
        count = Count()
        for region in regions:
            count.total += owned_count(region.box, holes(region, region.box, self.regions))
            for part, owned in self._planes(region) if not self.empty else ():
                quality = self.files.quality[part.slices]
                chosen = quality if owned is None else quality[owned]
                for level in count.at:
                    count.at[level] += int(np.count_nonzero(chosen >= level))
        return count

    def _planes(self, region: Region) -> Iterator[tuple[Box, NDArray[np.bool_] | None]]:
        """A region slice by slice, with the voxels that it owns."""
        (z0, y0, x0), (z1, y1, x1) = region.box.start, region.box.stop
        for z in range(z0, z1):
            plane = Box((z, y0, x0), (z + 1, y1, x1))
            yield plane, owned_mask(plane, holes(region, plane, self.regions))

    # -- painting -----------------------------------------------------------------------------

    def check_offer(self, offer: m.LayerOffer) -> None:
        """Does a layer own what its plan says?

        Raises:
            RemoteProtocolError: it declares another number of voxels.
        """
        assert offer.box is not None  # a layer of voxels
        region = self.regions[offer.key.region]
        without = holes(region, offer.box, self.regions, offer.key.quality)
        owns = owned_count(offer.box, without)
        if owns != offer.owned_voxels:
            raise RemoteProtocolError(f"{offer.key} owns {owns} voxels, not {offer.owned_voxels}")

    def holds(self, offer: m.LayerOffer) -> bool:
        """Whether a layer brings nothing: all that it owns is as good already, and an exact one has
        what it would bring.

        Its digest alone would not tell: every block of so much air has the same.
        """
        if offer.box is None:
            return False
        box, owned = self._place(offer)
        exact = offer.key.quality is Quality.EXACT
        known = self.files.quality[box.slices] >= (Quality.VERIFIED if exact else Quality.PREVIEW)
        if not (known if owned is None else known[owned]).all():
            return False
        if not exact:
            return True
        found = np.ascontiguousarray(self.files.voxels[box.slices])
        return region_digest(found, owned) == offer.voxel_digest

    def owned(self, offer: m.LayerOffer) -> NDArray[np.bool_] | None:
        """Which voxels of its box a layer owns: (z, y, x); None for all."""
        return self._place(offer)[1]

    def paint_preview(self, offer: m.LayerOffer, samples: NDArray[Any]) -> None:
        """Show a preview where nothing better is."""
        box, owned = self._place(offer)
        quality = self.files.quality[box.slices]
        wanted = quality < Quality.PREVIEW
        if owned is not None:
            wanted &= owned
        shown = self.entry.window.from_preview(samples, np.dtype(self.entry.header.dtype))
        gained = wanted & (quality == Quality.MISSING)
        self.files.voxels[box.slices][wanted] = shown[wanted]
        quality[wanted] = Quality.PREVIEW
        self._add(offer, box, {Quality.PREVIEW: gained})
        self.previews.append((box, offer.max_error))

    def paint_exact(self, offer: m.LayerOffer, samples: NDArray[Any]) -> bool:
        """Prove an exact layer and paint it.

        Returns:
            False where its voxels do not have the declared digest; then nothing is painted.
        """
        box, owned = self._place(offer)
        values = self.entry.samples.from_samples(samples, np.dtype(self.entry.header.dtype))
        values = np.ascontiguousarray(values)
        if region_digest(values, owned) != offer.voxel_digest:
            return False
        quality = self.files.quality[box.slices]
        target = self.files.voxels[box.slices]
        gained = {
            level: quality < level if owned is None else (quality < level) & owned
            for level in (Quality.PREVIEW, Quality.VERIFIED)
        }
        if owned is None:
            target[...], quality[...] = values, Quality.VERIFIED
        else:
            target[owned], quality[owned] = values[owned], Quality.VERIFIED
        self._add(offer, box, gained)
        without = holes(self.regions[offer.key.region], box, self.regions)
        append_entry(self.files.journal, JournalEntry(box, without, offer.voxel_digest))
        return True

    def keep_headers(self, offer: m.LayerOffer, samples: NDArray[Any]) -> bool:
        """Prove a piece of the headers layer and keep it.

        Returns:
            False where it does not have the declared digest.
        """
        piece = samples.tobytes()
        if hashlib.sha256(piece).digest() != offer.voxel_digest:
            return False
        self.attachment.put(offer.key.block, piece)
        return True

    def _place(self, offer: m.LayerOffer) -> tuple[Box, NDArray[np.bool_] | None]:
        assert offer.box is not None  # a layer of voxels
        region = self.regions[offer.key.region]
        without = holes(region, offer.box, self.regions, offer.key.quality)
        return offer.box, owned_mask(offer.box, without)

    def _add(self, offer: m.LayerOffer, box: Box, gained: dict[Quality, NDArray[np.bool_]]) -> None:
        """Count the voxels of a box that have come to have a quality."""
        self.empty = False
        if self.regions[offer.key.region].kind is RegionKind.ROI:
            of_roi = None
        else:
            of_roi = marked_in(self._rois(), box)
        for level, voxels in gained.items():
            self.whole.at[level] += int(np.count_nonzero(voxels))
            inside = voxels if of_roi is None else voxels & of_roi
            self.roi.at[level] += int(np.count_nonzero(inside))

    # -- what has been reached ----------------------------------------------------------------

    def new_marks(self) -> list[Mark]:
        """Marks reached since this was last asked. WHOLE_EXACT waits for `prove`."""
        fresh = []
        for mark, (of_roi, quality) in MARKS.items():
            count = self.roi if of_roi else self.whole
            reached = 0 < count.total == count.at[quality]
            if mark is Mark.WHOLE_EXACT:
                reached = self.proven
            elif mark is Mark.ROI_EXACT:  # what a coarse answer found is not all of it
                reached = reached and self.is_planned
            if reached and mark not in self._reached:
                self._reached.add(mark)
                fresh.append(mark)
        return fresh

    @property
    def complete(self) -> bool:
        """Whether every voxel that is to be exact is VERIFIED; what no plan names is missing."""
        return self.missing_voxels == 0

    @property
    def missing_voxels(self) -> int:
        """Voxels that are not VERIFIED, and not said to stay away either."""
        return self.whole.total - self.whole.at[Quality.VERIFIED]

    def prove(self) -> None:
        """Hash the whole volume from the file, once all of it is VERIFIED.

        Raises:
            IntegrityError: it has not the manifest's digest, though every layer had its own.
        """
        if volume_digest(self.entry.header, self.files.voxels) != self.entry.digest:
            raise IntegrityError(
                f"{self.files.stem}: every layer has its digest and the whole volume has not"
            )
        self.proven = True

    def finish(self) -> None:
        """Put the series on disk under its final name, if it is proven; else sync what there is."""
        if not self.proven:
            self.files.sync()
            return
        content = self.attachment.take()
        nifti = self.entry.header.source is Source.NIFTI
        if content and not nifti:
            self.files.attach(content)
        self.path = self.files.finish(content if nifti else b"")

    def _recover(self) -> tuple[bytes, ...]:
        """Believe of an earlier session only what its digests still prove.

        A layer that brings nothing beside those before it is dropped: who compares digests has to
        know how many places have one.
        """
        whole = Box.whole(self.entry.header.shape)
        good = []
        self.files.quality[...] = Quality.MISSING
        for entry in read_entries(self.files.journal):
            if not entry.box.inside(whole) or not all(
                (hole if isinstance(hole, Box) else hole.box).inside(entry.box)
                for hole in entry.holes
            ):
                break
            owned = owned_mask(entry.box, entry.holes)
            chosen = slice(None) if owned is None else owned
            quality = self.files.quality[entry.box.slices]
            found = np.ascontiguousarray(self.files.voxels[entry.box.slices])
            new = (quality[chosen] != Quality.VERIFIED).any()
            if new and region_digest(found, owned) == entry.digest:
                quality[chosen] = Quality.VERIFIED
                good.append(entry)
        self.files.clear()
        write_entries(self.files.journal, good)
        return tuple(entry.digest for entry in good)


def _whole(entry: m.SeriesManifest) -> Region:
    return Region("", RegionKind.BACKGROUND, Box.whole(entry.header.shape))
