"""What every segmenter promises; a segmenter's own tests inherit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.geometry import Box
from shared.mask import unpack_mask

if TYPE_CHECKING:
    from sender.segment.base import Segmentation, Segmenter
    from shared.volume import Volume


class SegmenterContract:
    """Give ``segmenter`` and ``volume``, a volume it answers for; ``foreign`` if there is any."""

    @pytest.fixture
    def segmenter(self) -> Segmenter:
        raise NotImplementedError

    @pytest.fixture
    def volume(self) -> Volume:
        raise NotImplementedError

    @pytest.fixture
    def foreign(self) -> Volume | None:
        """A volume that it has no answer for; None where it answers for all."""
        return None

    @pytest.fixture
    def answers(self, segmenter: Segmenter, volume: Volume) -> list[Segmentation]:
        return list(segmenter.segment(volume))

    def test_it_answers_at_least_once(self, answers: list[Segmentation]) -> None:
        assert answers

    def test_each_answer_names_its_source_and_gives_one_sentence(
        self, segmenter: Segmenter, answers: list[Segmentation]
    ) -> None:
        for answer in answers:
            assert answer.source == segmenter.name
            assert answer.reason.endswith(".")
            assert "\n" not in answer.reason

    def test_every_box_lies_inside_the_volume(
        self, volume: Volume, answers: list[Segmentation]
    ) -> None:
        whole = Box.whole(volume.header.shape)
        assert all(roi.box.inside(whole) for answer in answers for roi in answer.rois)

    def test_no_two_rois_of_an_answer_share_a_voxel(
        self, volume: Volume, answers: list[Segmentation]
    ) -> None:
        for answer in answers:
            held = np.zeros(volume.header.shape, np.int64)
            for roi in answer.rois:
                held[roi.box.slices] += unpack_mask(roi.mask, roi.box.shape)
            assert held.max(initial=0) <= 1

    def test_every_mask_marks_something_and_is_no_wider_than_it(
        self, answers: list[Segmentation]
    ) -> None:
        for roi in (roi for answer in answers for roi in answer.rois):
            marked = unpack_mask(roi.mask, roi.box.shape)
            for others in ((1, 2), (0, 2), (0, 1)):
                edges = np.flatnonzero(marked.any(axis=others))
                assert edges[0] == 0
                assert edges[-1] == marked.any(axis=others).size - 1

    def test_the_same_volume_gets_the_same_answers(
        self, segmenter: Segmenter, volume: Volume, answers: list[Segmentation]
    ) -> None:
        assert list(segmenter.segment(volume)) == answers

    def test_it_leaves_the_voxels_alone(self, segmenter: Segmenter, volume: Volume) -> None:
        before = volume.voxels.copy()
        volume.voxels.flags.writeable = False
        list(segmenter.segment(volume))
        np.testing.assert_array_equal(volume.voxels, before)

    def test_a_series_it_answers_for_is_no_misfit(
        self, segmenter: Segmenter, volume: Volume
    ) -> None:
        assert segmenter.misfit(volume.header) is None
        assert segmenter.native(volume.header)

    def test_a_misfit_is_what_segment_raises(
        self, segmenter: Segmenter, foreign: Volume | None
    ) -> None:
        if foreign is None:
            return
        misfit = segmenter.misfit(foreign.header)
        assert misfit is not None
        with pytest.raises(type(misfit)) as raised:
            next(segmenter.segment(foreign))
        assert str(raised.value) == str(misfit)
