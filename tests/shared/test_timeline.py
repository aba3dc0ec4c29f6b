from __future__ import annotations

import pytest

from shared.display import Progress
from shared.timeline import Course, Timeline


def test_the_first_time_a_name_is_marked_counts() -> None:
    ages_s = iter([1.0, 2.0, 3.0])
    timeline = Timeline(lambda: next(ages_s))
    assert timeline.mark("connected")
    assert timeline.mark("roi_exact")
    assert not timeline.mark("connected")
    assert timeline["connected"] == 1.0
    assert timeline["whole_exact"] is None
    assert timeline.now_s() == 3.0


def test_marks_come_in_their_order_as_a_copy() -> None:
    timeline = Timeline(iter([5.0, 6.0]).__next__)
    timeline.mark("b")
    timeline.mark("a")
    marks = timeline.marks()
    assert list(marks.items()) == [("b", 5.0), ("a", 6.0)]
    marks.clear()
    assert timeline["a"] == 6.0


def test_time_counts_from_the_start_of_the_process() -> None:
    timeline = Timeline()
    assert timeline.mark("now")
    marked_s = timeline["now"]
    assert marked_s is not None
    assert 0 < marked_s <= timeline.now_s()


@pytest.mark.parametrize("count", [1, 512, 513, 5000, 100_000])
def test_a_course_has_a_few_hundred_points_over_all_of_a_transfer(count: int) -> None:
    course = Course()
    for at in range(count):
        share = at / count
        course.note(at * 0.2, Progress("", share, share / 2, 1e6, None, None), at * 100)
    times_s = [point[0] for point in course.points]
    assert min(count, 200) <= len(course.points) <= 512
    assert times_s == sorted(times_s)
    assert times_s[0] == 0.0
    assert times_s[-1] >= (count - 1) * 0.2 * 0.99 - 0.2


def test_a_point_has_the_shares_and_the_bytes_of_its_moment() -> None:
    course = Course()
    course.note(1.23456, Progress("roi_exact", 0.123456, 0.5, 1e6, None, None), 77)
    assert course.points == [(1.235, 0.1235, 0.5, 77)]
