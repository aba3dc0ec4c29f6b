from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.checks import check_plan
from protocol.messages import Mark
from receiver.compose import GrowingVolume
from receiver.files import fill_value
from sender.layering import make_plan
from shared.errors import IntegrityError, RemoteProtocolError
from shared.geometry import Box
from shared.header import Source
from shared.layer import QUALITIES, Quality, Region, RegionKind
from shared.mask import pack_mask, unpack_mask
from shared.ownership import holes, owned_mask
from shared.roi import Roi
from shared.volume import region_digest
from tests.receiver.studies import (
    PLAN,
    REGIONS,
    ROI,
    WHOLE,
    Study,
    entry_of,
    headers_layer,
    series_header,
    some_voxels,
    study,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from protocol import messages as m

SMALL = (4, 5, 6)


def samples_of(sent: Study, offer: m.LayerOffer) -> NDArray[Any]:
    assert offer.box is not None
    part = np.ascontiguousarray(sent.voxels[offer.box.slices])
    if offer.key.quality > Quality.PREVIEW:
        return sent.entry.samples.to_samples(part)
    return sent.entry.window.to_preview(part)


def paint(volume: GrowingVolume, sent: Study, offer: m.LayerOffer) -> bool:
    volume.check_offer(offer)
    if offer.key.quality is Quality.EXACT:
        return volume.paint_exact(offer, samples_of(sent, offer))
    volume.paint_lossy(offer, samples_of(sent, offer))
    return True


def grown(folder: Path, sent: Study, *, plan: bool = True) -> GrowingVolume:
    volume = GrowingVolume(folder, "series-1", sent.entry)
    if plan:
        volume.set_plan(sent.plan)
    return volume


# -- any order of layers, against a model that knows nothing but voxels ---------------------------


@dataclass
class Model:
    """What each voxel should be, worked out one voxel at a time."""

    sent: Study
    regions: tuple[Region, ...] = ()
    voxels: NDArray[Any] = field(init=False)
    quality: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        header = self.sent.entry.header
        self.voxels = np.full(header.shape, fill_value(np.dtype(header.dtype)), header.dtype)
        self.quality = np.zeros(header.shape, np.uint8)

    def marked(self, region: Region) -> NDArray[np.bool_]:
        mask = np.zeros(self.quality.shape, bool)
        mask[region.box.slices] = unpack_mask(region.mask, region.box.shape)
        return mask

    def owned(self, region: Region, quality: Quality = Quality.EXACT) -> NDArray[np.bool_]:
        mask = self.marked(region)
        for other in self.regions:
            if other.name in region.excludes and quality in QUALITIES[other.kind]:
                mask &= ~self.marked(other)
        return mask

    def set_plan(self, plan: m.Plan) -> None:
        self.regions = plan.regions
        for region in self.regions:
            if region.discarded:
                here = self.owned(region) & (self.quality == Quality.MISSING)
                self.quality[here] = Quality.DISCARDED

    def paint(self, offer: m.LayerOffer) -> None:
        assert offer.box is not None
        region = next(each for each in self.regions if each.name == offer.key.region)
        mask = np.zeros(self.quality.shape, bool)
        mask[offer.box.slices] = True
        mask &= self.owned(region, offer.key.quality)
        if offer.key.quality is Quality.EXACT:
            self.voxels[mask] = self.sent.voxels[mask]
            self.quality[mask] = Quality.VERIFIED
        else:
            level = offer.key.quality
            mask &= self.quality < level
            window, dtype = self.sent.entry.window, self.sent.voxels.dtype
            shown = window.from_preview(window.to_preview(self.sent.voxels), dtype)
            if level is Quality.BOUNDED:  # of error 0 here
                shown = self.sent.voxels
            self.voxels[mask] = shown[mask]
            self.quality[mask] = level

    def marks(self) -> set[Mark]:
        """Every mark whose claim is true now."""
        roi, kept = np.zeros(self.quality.shape, bool), np.ones(self.quality.shape, bool)
        for region in self.regions:
            if region.kind is RegionKind.ROI:
                roi |= self.marked(region)
            if region.discarded:
                kept &= ~self.owned(region)
        true = set()
        if roi.any():
            if (self.quality[roi] >= Quality.PREVIEW).all():
                true.add(Mark.ROI_PREVIEW)
            if (self.quality[roi] == Quality.VERIFIED).all():
                true.add(Mark.ROI_EXACT)
        if kept.any() and (self.quality[kept] >= Quality.PREVIEW).all():
            true.add(Mark.WHOLE_PREVIEW)
        if (self.quality == Quality.VERIFIED).all():
            true.add(Mark.WHOLE_EXACT)
        return true


@st.composite
def boxes(draw: st.DrawFn, within: Box) -> Box:
    corners = []
    for low, high in zip(within.start, within.stop, strict=True):
        start = draw(st.integers(low, high - 1))
        corners.append((start, draw(st.integers(start + 1, high))))
    (z0, z1), (y0, y1), (x0, x1) = corners
    return Box((z0, y0, x0), (z1, y1, x1))


@st.composite
def plans(draw: st.DrawFn) -> m.Plan:
    header = series_header(SMALL)
    whole = Box.whole(SMALL)
    rois = [
        Roi(box := draw(boxes(whole)), "", rank, draw(masks(box)))
        for rank in range(draw(st.integers(0, 2)))
    ]
    discard = draw(st.booleans())
    plan = make_plan(0, header, rois, draw(boxes(whole)), discard_background=discard)
    if draw(st.booleans()):  # a preview that reaches over what is discarded
        names = tuple(region.name for region in plan.regions if region.kind is RegionKind.ROI)
        regions = (
            replace(region, box=whole, excludes=names)
            if region.kind is RegionKind.SURROUNDINGS
            else region
            for region in plan.regions
        )
        plan = replace(plan, regions=tuple(regions))
    if draw(st.booleans()):
        plan = late(plan, draw(boxes(whole)))
    check_plan(plan, header, None)
    return plan


@st.composite
def masks(draw: st.DrawFn, box: Box) -> bytes:
    """Some voxels of a box, at least one; or all of it."""
    marked = np.random.default_rng(draw(st.integers(0, 99))).random(box.shape) < 0.6
    marked.flat[0] = True
    return draw(st.sampled_from((b"", pack_mask(marked))))


def late(plan: m.Plan, ahead: Box) -> m.Plan:
    """The same regions, but the ROI was found after a preview and an exact piece had begun."""
    regions = {region.name: region for region in plan.regions}
    surroundings = regions.pop("surroundings", None)
    piece = Region("ahead0", RegionKind.TISSUE, ahead)
    first = {"ahead0": piece}
    if surroundings is not None:
        first = {"surroundings": replace(surroundings, excludes=()), "ahead0": piece}
    for region in regions.values():
        excludes = [
            other.name
            for other in first.values()
            if QUALITIES[other.kind] & QUALITIES[region.kind]
            and other.box.intersection(region.box) is not None
        ]
        first[region.name] = replace(region, excludes=tuple(excludes))
    return replace(plan, regions=tuple(first.values()))


def cut(box: Box, seed: random.Random) -> Iterator[Box]:
    """A box in up to four pieces that share no voxel."""
    pieces = [box]
    for _ in range(seed.randrange(3)):
        piece = pieces.pop(seed.randrange(len(pieces)))
        axis = seed.randrange(3)
        if piece.shape[axis] < 2:
            pieces.append(piece)
            continue
        at = seed.randrange(piece.start[axis] + 1, piece.stop[axis])
        stop, start = list(piece.stop), list(piece.start)
        stop[axis] = start[axis] = at
        pieces += [Box(piece.start, _triple(stop)), Box(_triple(start), piece.stop)]
    yield from pieces


def _triple(values: list[int]) -> tuple[int, int, int]:
    z, y, x = values
    return z, y, x


def all_layers(sent: Study, seed: random.Random) -> list[m.LayerOffer]:
    offers: list[m.LayerOffer] = []
    regions = {region.name: region for region in sent.plan.regions}
    for region in regions.values():
        for quality in QUALITIES[region.kind] if not region.discarded else ():
            for box in cut(region.box, seed):
                owned = owned_mask(box, holes(region, box, regions, quality))
                if owned is None or owned.any():
                    offers.append(sent.layer(len(offers), region.name, quality, box)[0])
    return offers


@settings(derandomize=True, deadline=None, database=None, max_examples=120)
@given(plans(), st.integers(0, 1 << 16), st.booleans())
def test_any_order_of_layers_makes_the_same_volume_and_every_mark_is_true_and_said_once(
    plan: m.Plan, seed: int, twice: bool
) -> None:
    chance = random.Random(seed)
    voxels = some_voxels(SMALL, seed=seed)
    sent = Study(entry_of(series_header(SMALL), voxels), voxels, plan)
    offers = all_layers(sent, chance) * (2 if twice else 1)
    chance.shuffle(offers)
    with tempfile.TemporaryDirectory() as folder:
        volume = grown(Path(folder), sent)
        model = Model(sent)
        model.set_plan(plan)
        said: list[Mark] = volume.new_marks()
        for offer in offers:
            if offer.key.quality is Quality.EXACT and chance.random() < 0.3:
                wrong = replace(offer, voxel_digest=bytes(32))
                assert not volume.paint_exact(wrong, samples_of(sent, wrong))
            assert paint(volume, sent, offer)
            model.paint(offer)
            if volume.complete and not volume.proven and not volume.discarded_voxels:
                volume.prove()
            assert np.array_equal(volume.files.quality, model.quality)
            assert np.array_equal(volume.files.voxels, model.voxels)
            said += volume.new_marks()
            assert set(said) == model.marks()
        assert len(said) == len(set(said))
        assert volume.complete
        assert volume.missing_voxels == 0
        kept = model.quality != Quality.DISCARDED
        assert volume.discarded_voxels == np.count_nonzero(~_kept(model))
        assert np.array_equal(volume.files.voxels[_kept(model)], voxels[_kept(model)])
        assert volume.whole.total == np.count_nonzero(_kept(model)) <= np.count_nonzero(kept)
        assert volume.proven == (volume.discarded_voxels == 0)


def _kept(model: Model) -> NDArray[np.bool_]:
    kept = np.ones(model.quality.shape, bool)
    for region in model.regions:
        if region.discarded:
            kept &= ~model.owned(region)
    return kept


@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(plans(), st.integers(0, 1 << 16))
def test_a_plan_that_grows_while_layers_come_loses_count_of_nothing(
    plan: m.Plan, seed: int
) -> None:
    chance = random.Random(seed)
    voxels = some_voxels(SMALL, seed=seed)
    sent = Study(entry_of(series_header(SMALL), voxels), voxels, plan)
    first = replace(plan, regions=plan.regions[: chance.randrange(1, len(plan.regions) + 1)])
    known = {region.name for region in first.regions}
    offers = all_layers(sent, chance)
    chance.shuffle(offers)
    early = [offer for offer in offers if offer.key.region in known][: chance.randrange(5)]
    with tempfile.TemporaryDirectory() as folder:
        volume, model = grown(Path(folder), sent, plan=False), Model(sent)
        said: list[Mark] = []
        for version, layers in ((first, early), (replace(plan, version=2), offers)):
            volume.set_plan(version)
            model.set_plan(version)
            for offer in layers:
                assert paint(volume, sent, offer)
                model.paint(offer)
                assert np.array_equal(volume.files.quality, model.quality)
                said += volume.new_marks()
                assert set(volume.new_marks()) <= model.marks()
        assert len(said) == len(set(said))
        assert volume.complete
        assert volume.discarded_voxels == np.count_nonzero(~_kept(model))
        assert volume.whole.at[Quality.VERIFIED] == volume.whole.total


# -- one thing at a time --------------------------------------------------------------------------


def test_a_preview_after_the_exact_layer_paints_over_nothing(tmp_path: Path) -> None:
    sent = study()
    volume = grown(tmp_path, sent)
    assert paint(volume, sent, sent.layer(0, "roi0")[0])
    before = volume.files.voxels.copy(), volume.files.quality.copy()
    volume.paint_lossy(
        sent.layer(1, "roi0", Quality.PREVIEW)[0], np.full(ROI.shape, 4000, np.uint16)
    )
    assert np.array_equal(volume.files.voxels, before[0])
    assert np.array_equal(volume.files.quality, before[1])


def test_what_a_layer_does_not_own_is_not_painted(tmp_path: Path) -> None:
    sent = study()
    volume = grown(tmp_path, sent)
    offer = sent.layer(0, "background")[0]
    samples = samples_of(sent, offer)
    owned = owned_mask(WHOLE, tuple(r.box for r in REGIONS if r.name in ("roi0", "tissue")))
    assert owned is not None
    samples[~owned] = 7  # filled as the encoder likes
    assert volume.paint_exact(offer, samples)
    assert np.all((volume.files.quality == Quality.VERIFIED) == owned)
    assert np.all(volume.files.voxels[~owned] == -32768)


def test_a_wrong_digest_paints_nothing_and_is_not_written_down(tmp_path: Path) -> None:
    sent = study()
    volume = grown(tmp_path, sent)
    offer = sent.layer(0, "roi0")[0]
    samples = samples_of(sent, offer)
    samples[0, 0, 0] ^= 1
    assert not volume.paint_exact(offer, samples)
    assert not volume.files.quality.any()
    assert np.all(volume.files.voxels == -32768)
    assert not volume.files.journal.exists()
    assert volume.empty


@pytest.mark.parametrize("owned", [31, 33])
def test_a_layer_that_owns_another_number_of_voxels_is_refused(tmp_path: Path, owned: int) -> None:
    volume = grown(tmp_path, study())
    offer = replace(study().layer(0, "roi0")[0], owned_voxels=owned)
    with pytest.raises(RemoteProtocolError, match=f"owns 32 voxels, not {owned}"):
        volume.check_offer(offer)


def test_layers_that_are_right_one_by_one_and_not_together_are_no_exact_volume(
    tmp_path: Path,
) -> None:
    sent = study()
    sent = replace(sent, entry=replace(sent.entry, digest=bytes(32)))
    volume = grown(tmp_path, sent)
    for region in ("roi0", "tissue", "background"):
        assert paint(volume, sent, sent.layer(0, region)[0])
    assert volume.complete
    with pytest.raises(IntegrityError, match="whole volume has not"):
        volume.prove()
    assert not volume.proven
    assert Mark.WHOLE_EXACT not in volume.new_marks()


def other_voxels(sent: Study, offer: m.LayerOffer, number: int) -> tuple[m.LayerOffer, Any]:
    """The same layer of voxels that are one more each, which have the digest that it declares."""
    assert offer.box is not None
    part = np.ascontiguousarray(sent.voxels[offer.box.slices]) + 1
    regions = {region.name: region for region in sent.plan.regions}
    owned = owned_mask(offer.box, holes(regions[offer.key.region], offer.box, regions))
    other = replace(offer, number=number, voxel_digest=region_digest(part, owned))
    return other, sent.entry.samples.to_samples(part)


def whole_and_proven(folder: Path, sent: Study) -> GrowingVolume:
    volume = grown(folder, sent)
    for region in ("roi0", "tissue", "background"):
        assert paint(volume, sent, sent.layer(0, region)[0])
    assert volume.prove() == []
    assert {Mark.ROI_EXACT, Mark.WHOLE_EXACT} <= set(volume.new_marks())
    return volume


@pytest.mark.parametrize("region", ["roi0", "tissue", "background"])
def test_a_layer_that_is_proven_may_not_be_offered_with_another_digest(
    tmp_path: Path, region: str
) -> None:
    sent = study()
    volume = grown(tmp_path, sent)
    offer = sent.layer(0, region)[0]
    other, _ = other_voxels(sent, offer, 9)
    volume.check_offer(other)  # which of them is the sender's is not known yet
    assert paint(volume, sent, offer)
    volume.check_offer(replace(offer, number=8))
    with pytest.raises(RemoteProtocolError, match="two different digests"):
        volume.check_offer(other)


def test_a_layer_that_was_demoted_may_be_offered_with_another_digest(tmp_path: Path) -> None:
    sent = study()
    volume = whole_and_proven(tmp_path, sent)
    offer = sent.layer(0, "roi0")[0]
    volume.files.voxels[ROI.slices] += 1
    assert volume.check_roi() == [offer]
    volume.check_offer(other_voxels(sent, offer, 9)[0])


@pytest.mark.parametrize("region", ["roi0", "tissue", "background"])
def test_what_was_proven_is_not_any_more_once_it_is_painted_over(
    tmp_path: Path, region: str
) -> None:
    """Two encodings of a layer were under way at once, or its box is cut in another way."""
    sent = study()
    volume = whole_and_proven(tmp_path, sent)
    assert volume.paint_exact(*other_voxels(sent, sent.layer(0, region)[0], 9))
    assert volume.complete
    assert not volume.proven
    assert volume.roi_is_due
    with pytest.raises(IntegrityError, match="whole volume has not"):
        volume.prove()
    assert not {Mark.ROI_EXACT, Mark.WHOLE_EXACT} & set(volume.new_marks())
    volume.finish()
    assert volume.path is None


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f4"])
def test_the_same_voxels_once_more_change_nothing_that_was_said(tmp_path: Path, dtype: str) -> None:
    sent = study(dtype=dtype)
    if np.dtype(dtype).kind == "f":
        sent.voxels[::2, ::3] = np.nan
        sent = Study(entry_of(series_header(dtype=dtype), sent.voxels), sent.voxels, sent.plan)
    volume = whole_and_proven(tmp_path, sent)
    for region in ("roi0", "tissue", "background"):
        assert paint(volume, sent, sent.layer(9, region)[0])
    assert volume.proven
    assert volume.new_marks() == []


@pytest.mark.parametrize("names", [(), ("surroundings",), ("roi0",), ("roi0", "tissue")])
def test_a_plan_that_leaves_voxels_out_is_never_complete(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    regions = tuple(
        replace(region, excludes=tuple(other for other in region.excludes if other in names))
        for region in REGIONS
        if region.name in names
    )
    sent = study(plan=replace(PLAN, regions=regions))
    volume = grown(tmp_path, sent)
    assert not volume.complete
    for region in regions:
        for quality in QUALITIES[region.kind]:
            assert paint(volume, sent, sent.layer(0, region.name, quality)[0])
    assert not volume.complete
    assert volume.missing_voxels > 0
    marks = volume.new_marks()
    assert Mark.WHOLE_EXACT not in marks
    assert (Mark.WHOLE_PREVIEW in marks) == ("surroundings" in names)


def test_what_will_not_be_sent_is_discarded_and_never_exact(tmp_path: Path) -> None:
    discarded = (*REGIONS[:3], replace(REGIONS[3], discarded=True))
    sent = study(plan=replace(PLAN, regions=discarded))
    volume = grown(tmp_path, sent)
    volume.set_plan(replace(sent.plan, version=2))  # said twice, counted once
    kept = 4 * 8 * 6
    assert volume.discarded_voxels == 480 - kept
    assert np.count_nonzero(volume.files.quality == Quality.DISCARDED) == 480 - kept
    for region in ("roi0", "tissue"):
        assert paint(volume, sent, sent.layer(0, region)[0])
    assert volume.complete
    assert set(volume.new_marks()) >= {Mark.ROI_EXACT, Mark.WHOLE_PREVIEW}
    volume.finish()
    assert volume.path is None
    assert volume.files.path.exists()


def test_shares_are_of_all_voxels(tmp_path: Path) -> None:
    sent = study()
    volume = grown(tmp_path, sent)
    paint(volume, sent, sent.layer(0, "roi0")[0])
    assert volume.roi.share(Quality.VERIFIED) == 1
    assert volume.whole.share(Quality.VERIFIED) == 32 / 480


# -- headers --------------------------------------------------------------------------------------


def as_samples(content: bytes) -> NDArray[Any]:
    return np.frombuffer(content, np.uint8).reshape(1, 1, -1)


def test_headers_are_kept_where_they_have_their_digest(tmp_path: Path) -> None:
    volume = grown(tmp_path, study())
    offer, _ = headers_layer(0, b"vendor")
    assert not volume.keep_headers(offer, as_samples(b"wendor"))
    assert volume.keep_headers(offer, as_samples(b"vendor"))
    assert volume.attachment.take() == b"vendor"


@pytest.mark.parametrize("source", Source)
def test_headers_go_into_the_nifti_file_or_beside_the_dicom_one(
    tmp_path: Path, source: Source
) -> None:
    sent = study()
    header = replace(series_header(offset=368), source=source)
    sent = replace(sent, entry=entry_of(header, sent.voxels))
    volume = grown(tmp_path, sent)
    for block, piece in ((1, b"two."), (0, b"part one and ")):
        volume.keep_headers(headers_layer(0, piece, block=block)[0], as_samples(piece))
    for region in ("roi0", "tissue", "background"):
        paint(volume, sent, sent.layer(0, region)[0])
    volume.prove()
    volume.finish()
    assert volume.path is not None
    gap = b"part one and two." + bytes(3) if source is Source.NIFTI else bytes(20)
    assert volume.path.read_bytes() == header.file_header + gap + sent.voxels.tobytes()
    beside = tmp_path / "series-1.dicom-headers.zip"
    assert beside.exists() == (source is Source.DICOM)
    assert source is Source.NIFTI or beside.read_bytes() == b"part one and two."
