"""The quality of a voxel never falls, over any order of layers and any number of processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from receiver.api import _about
from receiver.compose import GrowingVolume
from receiver.files import fill_value
from receiver.pictures import draw_picture
from receiver.planes import take_planes
from receiver.publish import badge
from receiver.report import write_sidecar
from shared.layer import Quality
from tests.receiver.studies import PLAN, SHAPE, attended, check_truthful, study

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from protocol import messages as m
    from receiver.session import ReceivingSession
    from tests.receiver.studies import Peer

SENT = study()
LAYERS = SENT.layers()
RESTART = len(LAYERS)


def paint(volume: GrowingVolume, offer: m.LayerOffer) -> None:
    assert offer.box is not None
    part = np.ascontiguousarray(SENT.voxels[offer.box.slices])
    if offer.key.quality < Quality.EXACT:
        volume.paint_lossy(offer, SENT.entry.window.to_preview(part))
    else:
        assert volume.paint_exact(offer, SENT.entry.samples.to_samples(part))


def resumed(folder: Path) -> GrowingVolume:
    volume = GrowingVolume(folder, "series-1", SENT.entry)
    volume.set_plan(PLAN)
    return volume


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, RESTART), min_size=1, max_size=12))
def test_no_voxel_falls_whatever_comes_in_whichever_order_and_process(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("study")
    volume = resumed(folder)
    before = np.array(volume.files.quality)
    for step in steps:
        if step == RESTART:
            volume = resumed(folder)
        else:
            paint(volume, LAYERS[step][0])
        now = np.array(volume.files.quality)
        assert (now >= before).all()
        check_truthful(volume, SENT.voxels)
        assert volume.whole.at[Quality.VERIFIED] == np.count_nonzero(now == Quality.VERIFIED)
        assert volume.whole.at[Quality.PREVIEW] == np.count_nonzero(now >= Quality.PREVIEW)
        before = now


def test_everything_that_leaves_says_that_it_is_partial(tmp_path: Path) -> None:
    """Volume, quality map, side-car, picture and API of one study in mid-transfer."""
    looked: list[ReceivingSession] = []
    said: dict[str, Any] = {}

    async def script(peer: Peer) -> None:
        await peer.begin(SENT.manifest, SENT.plan)
        await peer.offer(*SENT.layer(0, "roi0"))
        from protocol import messages as m

        await peer.hear(m.LayerVerdict)
        said.update(_about(looked[0]))
        await peer.transport.close()

    volume = attended(tmp_path, script, started=looked).session.volumes[0]
    folder = volume.files.folder
    image: Any = nibabel.load(volume.files.path)
    assert ".partial." in volume.files.path.name
    assert bytes(image.header["descrip"]).startswith(b"PARTIAL")
    known = np.asarray(nibabel.load(volume.files.quality_path).dataobj)  # type: ignore[attr-defined]
    stored = np.asarray(image.dataobj.get_unscaled())
    assert np.count_nonzero(known == Quality.VERIFIED) == 32
    missing = stored[known == Quality.MISSING]
    assert missing.size == 448
    assert (missing == fill_value(np.dtype("<i2"))).all()

    write_sidecar(volume)
    beside = json.loads((folder / "series-1.json").read_text())
    assert beside["proven"] is False
    assert beside["state"].startswith("PARTIAL")
    assert beside["quality_map"] == volume.files.quality_path.name
    assert beside["voxels"]["missing"] == 448

    (series,) = said["series"]
    assert series["exact"] is False
    assert series["quality_map"] == str(volume.files.quality_path)
    assert series["whole"] == {
        "voxels": 480,
        "preview": 32,
        "bounded": 32,
        "verified": 32,
        "missing": 448,
    }

    path = folder / "x.png"
    draw_picture(take_planes(volume), volume.entry.window, "x", badge(volume), path)
    with Image.open(path) as picture:
        assert "PREVIEW PARTS ARE NOT FOR PRIMARY DIAGNOSIS" in picture.info["Quality"]


def test_what_is_whole_says_nothing_of_the_kind(tmp_path: Path) -> None:
    from tests.receiver.studies import honest

    session = honest(tmp_path, SENT).session
    volume = session.volumes[0]
    assert volume.path is not None
    assert sorted(path.name for path in volume.path.parent.iterdir()) == ["series-1.nii"]
    (series,) = _about(session)["series"]
    assert (series["exact"], series["quality_map"]) == (True, None)
    assert np.prod(SHAPE) == series["whole"]["verified"]
