from __future__ import annotations

import pytest

from sender.segment.base import Segmentation
from shared.geometry import Box
from shared.roi import Roi

_BOX = Box((0, 0, 0), (1, 1, 1))


def test_an_answer_may_have_no_roi() -> None:
    assert Segmentation((), "Nothing.", "none").rois == ()


@pytest.mark.parametrize("ranks", [(1,), (1, 0), (0, 0), (0, 2)])
def test_rois_come_in_the_order_of_their_ranks(ranks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rank"):
        Segmentation(tuple(Roi(_BOX, "lesion", rank) for rank in ranks), "Why.", "mask")
