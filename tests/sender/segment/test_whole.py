from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.whole import WholeSegmenter
from shared.errors import SettingsError
from tests.contracts.segmenter import SegmenterContract
from tests.sender.segment.volumes import volume_of

if TYPE_CHECKING:
    from shared.volume import Volume


class TestWholeSegmenter(SegmenterContract):
    @pytest.fixture
    def segmenter(self) -> WholeSegmenter:
        return WholeSegmenter.parse(None)

    @pytest.fixture
    def volume(self) -> Volume:
        return volume_of(np.ones((2, 3, 4), np.int16))

    def test_it_finds_no_roi(self, segmenter: WholeSegmenter, volume: Volume) -> None:
        (answer,) = segmenter.segment(volume)
        assert answer.rois == ()

    def test_it_takes_nothing_behind_its_name(self) -> None:
        with pytest.raises(SettingsError, match="takes nothing"):
            WholeSegmenter.parse("3")
