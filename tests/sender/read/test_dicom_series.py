from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sender.read.dicom_series import SeriesWords, Stack, stacks_of
from tests.sender.read.files import AXIAL
from tests.sender.read.test_dicom_geometry import FRAME, IMAGE

if TYPE_CHECKING:
    from sender.read.dicom_frames import Frame

WORDS = {uid: SeriesWords("Abdomen", (("PatientID", uid),)) for uid in ("1.2", "1.3", "1.4")}
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def frame(z_mm: float | None, instance: int = 1, **changes: Any) -> Frame:
    """A frame at a depth; changes to the frame or its image."""
    of_image = {name: changes.pop(name) for name in list(changes) if hasattr(IMAGE, name)}
    image = replace(IMAGE, instance_number=instance, **of_image)
    order = (0.0, 0.0, 0.0, float(instance), 0.0)
    made = replace(FRAME, image=image, order=order, **changes)
    return replace(made, position=None if z_mm is None else (0.0, 0.0, z_mm))


def depths(stack: Stack) -> list[float]:
    return [found.position[2] for found in stack.frames if found.position is not None]


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)), st.permutations(range(8)))
def test_slices_are_sorted_by_place_whatever_their_numbers(
    order: list[int], numbers: list[int]
) -> None:
    frames = [frame(5.0 * k, numbers[k]) for k in order]
    (stack,) = stacks_of(frames, WORDS)
    assert depths(stack) == [5.0 * k for k in range(8)]
    assert stack.label == "CT Abdomen, series 1"
    assert stack.identity == (("PatientID", "1.2"),)
    assert stack.remarks == ()


def test_slices_are_sorted_along_their_own_normal() -> None:
    places = [(x, 0.0, 0.0) for x in (4.0, -4.0, 0.0)]
    frames = [replace(frame(0), position=p, cosines=SAGITTAL) for p in places]
    (stack,) = stacks_of(frames, WORDS)
    assert [found.position for found in stack.frames] == [
        (4.0, 0.0, 0.0), (0.0, 0.0, 0.0), (-4.0, 0.0, 0.0)
    ]  # fmt: skip


def test_several_images_at_one_position_make_stacks() -> None:
    frames = [frame(5.0 * z, 10 * time + z) for z in range(3) for time in range(2)]
    random.Random(1).shuffle(frames)
    first, second = stacks_of(frames, WORDS)
    assert depths(first) == depths(second) == [0, 5, 10]
    assert [found.image.instance_number for found in second.frames] == [10, 11, 12]
    assert first.label == "CT Abdomen, series 1, stack 1 of 2"
    assert second.label == "CT Abdomen, series 1, stack 2 of 2"
    assert first.remarks == ("up to 2 images lie at one position: this is stack 1 of 2",)


def test_time_goes_before_instance_numbers() -> None:
    late, early = frame(0, 1), frame(0, 2)
    late = replace(late, order=(0.0, 9.0, 0.0, 1.0, 0.0))
    first, second = stacks_of([late, early], WORDS)
    assert (first.frames, second.frames) == ((early,), (late,))


def test_uneven_counts_leave_later_stacks_shorter() -> None:
    frames = [frame(5.0 * z, z) for z in range(3)] + [frame(5.0, 9)]
    first, second = stacks_of(frames, WORDS)
    assert (depths(first), depths(second)) == ([0, 5, 10], [5])
    assert second.remarks[1] == "stacks have different numbers of slices"


def test_positions_written_with_few_digits_are_one_position() -> None:
    first, second = stacks_of([frame(0, 1), frame(0.004, 2), frame(5, 3), frame(5.001, 4)], WORDS)
    assert len(first.frames) == len(second.frames) == 2


def test_series_come_by_number_then_uid_then_instance() -> None:
    frames = [
        frame(0, series_uid="1.4", series_number=2),
        frame(0, 7, cosines=SAGITTAL),
        frame(0, 3),
        frame(0, series_uid="1.3", series_number=2),
    ]
    stacks = stacks_of(frames, WORDS)
    assert [stack.frames[0].image.series_uid for stack in stacks] == ["1.2", "1.2", "1.3", "1.4"]
    assert [stack.label for stack in stacks[:2]] == [
        "CT Abdomen, series 1, part 1 of 2",
        "CT Abdomen, series 1, part 2 of 2",
    ]
    assert stacks[0].frames[0].cosines == AXIAL


def test_what_differs_goes_apart() -> None:
    other = replace(IMAGE.format, bits_stored=12)
    for change in (
        {"format": other},
        {"sop_class": "9"},
        {"spacing_mm": (0.5, 0.8)},
        {"spacing_mm": None},
        {"cosines": (1.0, 0.0, 0.0, 0.0, 0.9998, 0.02)},
        {"series_uid": "1.3"},
    ):
        assert len(stacks_of([frame(0, 1), frame(5, 2, **change)], WORDS)) == 2


def test_orientations_that_differ_by_rounding_stay_together() -> None:
    near = (1.0, 0.0, 0.00005, 0.0, 1.0, 0.0)
    assert len(stacks_of([frame(0, 1), frame(5, 2, cosines=near)], WORDS)) == 1


def test_frames_without_a_place_keep_the_order_of_their_numbers() -> None:
    frames = [frame(None, number) for number in (3, 1, 2)]
    (stack,) = stacks_of(frames, WORDS)
    assert [found.image.instance_number for found in stack.frames] == [1, 2, 3]


def test_runs_without_a_place_stay_volumes_of_their_own() -> None:
    runs = []
    for number in (2, 1):
        path = IMAGE.file.path.with_name(f"{number}.dcm")
        image = {"frame_count": 3, "file": replace(IMAGE.file, path=path)}
        runs += [replace(frame(None, number, **image), index=index) for index in range(3)]
    first, second = stacks_of(runs, WORDS)
    assert [found.index for found in first.frames] == [0, 1, 2]
    assert {found.image.file.path.name for found in first.frames} == {"1.dcm"}
    assert {found.image.file.path.name for found in second.frames} == {"2.dcm"}


def test_a_series_without_words_is_still_named() -> None:
    words = {"1.2": SeriesWords("", ())}
    (stack,) = stacks_of([frame(0, modality="", series_number=0)], words)
    assert stack.label == "DICOM"
