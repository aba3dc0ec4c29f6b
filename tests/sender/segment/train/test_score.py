from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.train.scans import Kind, Scan
from sender.segment.train.score import score_volume, table
from sender.segment.unet.sight import see
from tests.sender.segment.unet.test_segmenter import head_with_a_lesion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Box

SCAN = Scan("ball", "ball", Kind.OTHER, "", "", None)


class Oracle:
    """A network that says what it is told to, whatever the scan's grid."""

    def __init__(self, wanted: NDArray[np.bool_], crop: Box) -> None:
        self._wanted = wanted.astype(np.float32)[crop.slices]

    def __len__(self) -> int:
        return 1

    def chances(
        self,
        brightness: NDArray[np.float32],
        mirrored: tuple[int, ...] = (),
        member: int = 0,
        *,
        beside: bool = True,
    ) -> NDArray[np.float32]:
        if self._wanted.shape != brightness.shape:  # the coarse look: another grid
            return np.zeros(brightness.shape, np.float32)
        return self._wanted


@pytest.fixture
def crop() -> Box:
    sight = see(head_with_a_lesion()[0])
    assert sight is not None
    return sight.placement.crop


def upright(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The test head's x and y run against the patient's."""
    return marked[:, ::-1, ::-1]


def test_a_perfect_network_has_a_perfect_score(crop: Box) -> None:
    volume, marked = head_with_a_lesion()
    oracle = Oracle(upright(marked), crop)
    found = score_volume(SCAN, volume, marked, oracle)  # type: ignore[arg-type]
    assert found.dice > 0.95
    assert found.recall == 1.0
    assert (found.components, found.missed) == (1, 0)
    assert found.lesion_ml == pytest.approx(marked.sum() * 0.008, abs=0.01)
    assert 1.0 < found.roi_to_lesion < 9  # a small one is widened to the least that an ROI takes
    assert found.roi_share == pytest.approx(found.roi_to_lesion * marked.mean())
    assert "ball | other" in table([found])


def test_a_blind_network_misses_the_component_and_says_so(crop: Box) -> None:
    volume, marked = head_with_a_lesion()
    blind = Oracle(np.zeros_like(marked), crop)
    found = score_volume(SCAN, volume, marked, blind)  # type: ignore[arg-type]
    assert (found.components, found.missed) == (1, 1)
    assert found.recall == found.dice == found.roi_share == 0.0


def test_components_too_small_to_count_are_not_counted(crop: Box) -> None:
    volume, marked = head_with_a_lesion()
    marked[5, 40, 32] = True  # 0.008 ml
    oracle = Oracle(upright(marked), crop)
    assert score_volume(SCAN, volume, marked, oracle).components == 1  # type: ignore[arg-type]
