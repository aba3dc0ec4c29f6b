from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.box import BoxSegmenter
from shared.errors import SettingsError
from shared.geometry import Box
from shared.roi import Roi
from tests.contracts.segmenter import SegmenterContract
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    from shared.volume import Volume


class TestBoxSegmenter(SegmenterContract):
    @pytest.fixture
    def segmenter(self) -> BoxSegmenter:
        return BoxSegmenter.parse("1:3,0:5,2:6")

    @pytest.fixture
    def volume(self) -> Volume:
        return volume_of(np.zeros((3, 5, 6), np.int16))

    @pytest.fixture
    def foreign(self) -> Volume:
        return volume_of(np.zeros((3, 5, 5), np.int16), label="MR T1")

    def test_the_roi_is_the_box(self, segmenter: BoxSegmenter, volume: Volume) -> None:
        (answer,) = segmenter.segment(volume)
        assert answer.rois == (Roi(Box((1, 0, 2), (3, 5, 6)), "box", 0),)
        assert "44.4% of the volume" in answer.reason  # 2 * 5 * 4 of 3 * 5 * 6

    def test_the_refusal_of_a_box_outside_names_both(
        self, segmenter: BoxSegmenter, foreign: Volume
    ) -> None:
        assert str(segmenter.misfit(foreign.header)) == (
            "--roi box:1:3,0:5,2:6 does not lie inside MR T1, which is 0:3,0:5,0:5"
        )

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_one_voxel_too_far_on_any_axis_is_refused(self, axis: int) -> None:
        stop = [3, 5, 6]
        stop[axis] += 1
        segmenter = BoxSegmenter.parse(",".join(f"0:{end}" for end in stop))
        assert segmenter.misfit(volume_of(np.zeros((3, 5, 6), np.int16)).header) is not None

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "1:2",
            "1:2,3:4",
            "1:2,3:4,5:6,7:8",
            "1:2,3:4,5:6 ",
            "1:2, 3:4,5:6",
            "1:2,3:4,5:",
            "1.0:2,3:4,5:6",
            "\u0661:2,3:4,5:6",
            "0:9999999999,0:1,0:1",
        ],
    )
    def test_what_is_no_box_is_refused(self, text: str | None) -> None:
        with pytest.raises(SettingsError, match="Z0:Z1,Y0:Y1,X0:X1 expected"):
            BoxSegmenter.parse(text)

    @pytest.mark.parametrize(
        "text", ["1:1,0:5,2:6", "3:1,0:5,2:6", "-1:3,0:5,2:6", "1:3,0:5,-6:-2"]
    )
    def test_an_empty_or_negative_box_is_refused(self, text: str) -> None:
        with pytest.raises(SettingsError, match="holds no voxel"):
            BoxSegmenter.parse(text)
