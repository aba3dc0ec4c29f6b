"""Layers painted into the growing volume; the quality of a voxel never falls.

Only here does a voxel become VERIFIED: when the digest of its layer's voxels, computed from what
was decoded, is the one that the sender declared. Blocking; one worker at a time calls it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol.messages import Mark
from protocol.stages import MARKS
from receiver.attachment import Attachment
from receiver.counts import COUNTED, Count, count, is_planned, planes, rois_of
from receiver.files import SeriesFiles, fill_value
from receiver.journal import JournalEntry, append_entry, read_entries, write_entries
from receiver.previews import append_preview, read_previews
from receiver.recovery import recover
from shared.errors import IntegrityError, RemoteProtocolError
from shared.geometry import Box
from shared.header import Source
from shared.layer import LayerKey, Quality, Region, RegionKind
from shared.ownership import holes, marked_in, owned_count, owned_mask
from shared.volume import region_digest, volume_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from protocol import messages as m


class GrowingVolume:
    """One series, as good as it is so far."""

    def __init__(self, folder: Path, stem: str, entry: m.SeriesManifest) -> None:
        self.entry = entry
        self.files, resumed = SeriesFiles.open(folder, stem, entry.header)
        self.previews = (read_previews(self.files.previews) if resumed else None) or []
        """(box, largest error) of every layer that is not exact painted."""
        self.held = recover(self.files, entry.header.shape, self.previews) if resumed else ()
        """Voxel digests of layers that an earlier session verified and this one has checked."""
        self.empty = not self.held and not self.previews
        """Nothing has been painted: all voxels are missing, or will not be sent."""
        self.regions: dict[str, Region] = {}
        self._rois: list[Region] = []
        """The ROIs by what they mark."""
        self.record = b""
        """MedROI's 54 bytes about the tissue box."""
        self.roi, self.whole = Count(), Count(Box.whole(entry.header.shape).voxels)
        """How far the ROI has come; and all that is not discarded, planned already or not."""
        self.discarded_voxels = 0
        self.is_planned = False
        """Every voxel has a region that will make it exact, or is discarded: no ROI is to come."""
        self.attachment = Attachment(self.files.headers)
        self.path: Path | None = None
        """The finished file."""
        self.proven = False
        """The digest of the whole volume, computed from the file, is the manifest's."""
        self._layers: dict[tuple[LayerKey, Box | None], m.LayerOffer] = {}
        """What has been verified in this session, the newest of each: it can be asked for again."""
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
        # A preview may reach over voxels that will never be exact.
        self.whole = self._count([_whole(self.entry)]).without(lost)
        self._rois = rois_of(self.regions)
        self.roi = self._count(self._rois)
        self.is_planned = is_planned(self.regions, self.entry.header.shape)

    def _discard(self, region: Region) -> None:
        for part, owned in planes(region, self.regions):
            quality = self.files.quality[part.slices]
            lost = quality < Quality.DISCARDED
            if owned is not None:
                lost &= owned
            quality[lost] = Quality.DISCARDED

    def _count(self, regions: list[Region]) -> Count:
        return count(regions, self.regions, None if self.empty else self.files.quality)

    # -- painting -----------------------------------------------------------------------------

    def check_offer(self, offer: m.LayerOffer) -> None:
        """Does a layer own what its plan says, and is it the one that has been proven?

        Raises:
            RemoteProtocolError: it declares another number of voxels, or other voxels than those
                that are there and have had its digest.
        """
        assert offer.box is not None  # a layer of voxels
        region = self.regions[offer.key.region]
        without = holes(region, offer.box, self.regions, offer.key.quality)
        owns = owned_count(offer.box, without)
        if owns != offer.owned_voxels:
            raise RemoteProtocolError(f"{offer.key} owns {owns} voxels, not {offer.owned_voxels}")
        proven = self._layers.get((offer.key, offer.box))
        if proven is not None and proven.voxel_digest != offer.voxel_digest:
            raise RemoteProtocolError(f"{offer.key} offered with two different digests")

    def holds(self, offer: m.LayerOffer) -> bool:
        """Whether a layer brings nothing: all that it owns is as good already, and an exact one has
        what it would bring.

        Its digest alone would not tell: every block of so much air has the same.
        """
        if offer.box is None:
            return False
        box, owned = self._place(offer)
        exact = offer.key.quality is Quality.EXACT
        known = self.files.quality[box.slices] >= (Quality.VERIFIED if exact else offer.key.quality)
        if not (known if owned is None else known[owned]).all():
            return False
        if not exact:
            return True
        return self._is_right(offer)

    def paint_lossy(self, offer: m.LayerOffer, samples: NDArray[Any]) -> None:
        """Show a preview or a bounded layer where nothing as good is.

        Raises:
            CodecError: a sample has no stored value.
        """
        box, owned = self._place(offer)
        dtype, level = np.dtype(self.entry.header.dtype), offer.key.quality
        if level is Quality.PREVIEW:
            shown = self.entry.window.from_preview(samples, dtype)
        else:
            shown = self.entry.samples.from_samples(samples, dtype)
        quality = self.files.quality[box.slices]
        wanted = quality < level
        if owned is not None:
            wanted &= owned
        counted = wanted & (quality != Quality.DISCARDED)
        gained = {each: counted & (quality < each) for each in COUNTED if each <= level}
        append_preview(self.files.previews, (box, offer.max_error))
        self.files.voxels[box.slices][wanted] = shown[wanted]
        quality[wanted] = level
        self._add(offer, box, gained)
        self.previews.append((box, offer.max_error))

    def paint_exact(self, offer: m.LayerOffer, samples: NDArray[Any]) -> bool:
        """Prove an exact layer and paint it.

        Where blocks overlap, or come while another encoding of theirs is under way, a peer may have
        two digests for one voxel. The later one is painted, and what was said of the earlier one
        has to be proven anew.

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
            for level in COUNTED
        }
        if _differ(target, values, quality == Quality.VERIFIED, owned):
            self.proven = False
            self._reached -= {Mark.ROI_EXACT, Mark.WHOLE_EXACT}
        if owned is None:
            target[...], quality[...] = values, Quality.VERIFIED
        else:
            target[owned], quality[owned] = values[owned], Quality.VERIFIED
        self._add(offer, box, gained)
        self.note_verified(offer)
        without = holes(self.regions[offer.key.region], box, self.regions)
        append_entry(self.files.journal, JournalEntry(box, without, offer.voxel_digest))
        return True

    def owned(self, offer: m.LayerOffer) -> NDArray[np.bool_] | None:
        """(z, y, x): which voxels of its box a layer owns; None for all."""
        return self._place(offer)[1]

    def note_verified(self, offer: m.LayerOffer) -> None:
        """A layer's voxels are there and right; should they not stay so, it can be asked for."""
        self._layers[offer.key, offer.box] = offer

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

    def _is_right(self, offer: m.LayerOffer) -> bool:
        """Whether a layer's voxels, as they lie in the file, have its digest."""
        box, owned = self._place(offer)
        found = np.ascontiguousarray(self.files.voxels[box.slices])
        return region_digest(found, owned) == offer.voxel_digest

    def _add(
        self,
        offer: m.LayerOffer,
        box: Box,
        gained: dict[Quality, NDArray[np.bool_]],
        sign: int = 1,
    ) -> None:
        """Count the voxels of a box that have come to have a quality, or have lost it."""
        self.empty = False
        if self.regions[offer.key.region].kind is RegionKind.ROI:
            of_roi = None
        else:
            of_roi = marked_in(self._rois, box)
        for level, voxels in gained.items():
            self.whole.at[level] += sign * int(np.count_nonzero(voxels))
            inside = voxels if of_roi is None else voxels & of_roi
            self.roi.at[level] += sign * int(np.count_nonzero(inside))

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

    @property
    def roi_is_due(self) -> bool:
        """Whether the ROI would be called exact now, for the first time or once more."""
        roi = self.roi
        due = self.is_planned and 0 < roi.total == roi.at[Quality.VERIFIED]
        return due and Mark.ROI_EXACT not in self._reached

    def check_roi(self) -> list[m.LayerOffer]:
        """Hash the layers of the ROI from the file; those that are wrong are demoted.

        Returns:
            What has to come again; nothing where all of it is right.
        """
        rois = self._rois
        return self._demote_wrong(
            offer
            for offer in self._layers.values()
            if offer.box is not None and marked_in(rois, offer.box).any()
        )

    def prove(self) -> list[m.LayerOffer]:
        """Hash the whole volume from the file, once all of it is VERIFIED.

        Where that is not the manifest's digest, every layer is hashed, and those that are wrong are
        demoted.

        Returns:
            What has to come again; nothing where the volume is proven.

        Raises:
            IntegrityError: no layer is wrong that came in this session, and the whole is: then
                nothing of it is called exact any more.
        """
        if volume_digest(self.entry.header, self.files.voxels) == self.entry.digest:
            self.proven = True
            return []
        wrong = self._demote_wrong(self._layers.values())
        if not wrong:
            self._doubt()
            raise IntegrityError(
                f"{self.files.stem}: every layer has its digest and the whole volume has not"
            )
        return wrong

    def _doubt(self) -> None:
        """What was VERIFIED is no more than EXACT, and in no journal."""
        for known in self.files.quality:
            known[known == Quality.VERIFIED] = Quality.EXACT
        write_entries(self.files.journal, ())
        self._layers.clear()
        self.whole.at[Quality.VERIFIED] = self.roi.at[Quality.VERIFIED] = 0

    def _demote_wrong(self, offers: Iterable[m.LayerOffer]) -> list[m.LayerOffer]:
        """Layers whose voxels are not what they were are MISSING, and in no journal."""
        wrong = [offer for offer in offers if not self._is_right(offer)]
        for offer in wrong:
            del self._layers[offer.key, offer.box]
            box, owned = self._place(offer)
            quality = self.files.quality[box.slices]
            of_it = np.ones(box.shape, np.bool_) if owned is None else owned
            lost = {level: (quality >= level) & of_it for level in self.whole.at}
            self._add(offer, box, lost, -1)
            quality[of_it] = Quality.MISSING
            self.files.voxels[box.slices][of_it] = fill_value(np.dtype(self.entry.header.dtype))
        if wrong:
            gone = {(offer.box, offer.voxel_digest) for offer in wrong}
            entries = read_entries(self.files.journal)
            kept = [each for each in entries if (each.box, each.digest) not in gone]
            write_entries(self.files.journal, kept)
            self._reached -= {Mark.ROI_PREVIEW, Mark.WHOLE_PREVIEW, Mark.ROI_EXACT}
        return wrong

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


def _differ(
    target: NDArray[Any],
    values: NDArray[Any],
    known: NDArray[np.bool_],
    owned: NDArray[np.bool_] | None,
) -> bool:
    """Whether any voxel that is owned and known would become another, bit by bit."""
    if owned is not None:
        known = known & owned
    if not known.any():
        return False
    word = np.dtype(f"u{target.dtype.itemsize}")  # a NaN is not equal to itself
    return bool((target.view(word) != values.astype(target.dtype).view(word))[known].any())


def _whole(entry: m.SeriesManifest) -> Region:
    return Region("", RegionKind.BACKGROUND, Box.whole(entry.header.shape))
