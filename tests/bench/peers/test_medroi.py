from __future__ import annotations

from math import inf
from typing import Any

from tests.bench.peers.course import Point
from tests.bench.peers.medroi import Look, _outcome

REPORT: dict[str, Any] = {
    "times_s": {
        "connected": 0.5,
        "roi_preview": 1.0,
        "roi_exact": 2.0,
        "whole_preview": 3.0,
        "whole_exact": 9.0,
    },
    "psnr_db": {"roi_preview": 40.0, "whole_preview": 41.0},
    "bytes": {"wire": 1000},
    "course": [[0.6, 0.0, 0.0, 10], [2.5, 1.0, 0.1, 300], [9.5, 1.0, 1.0, 990]],
    "link": {"transport": "websocket", "congestion": "bbr"},
}
START = Point(0.0, 0, 11.0, 19.0)
"""Of a picture that is not there."""


def test_quality_is_what_was_seen_or_said_last_and_never_falls() -> None:
    looks = [Look(0.8, 12.0, 20.0, False), Look(5.0, inf, 45.0, True), Look(6.0, inf, 44.0, True)]
    points = [
        (point.at_s, point.size_bytes, point.roi_db, point.whole_db)
        for point in _outcome(REPORT, looks, START).points
    ]
    assert points == [
        (0.6, 10, 11.0, 19.0),
        (0.8, 10, 12.0, 20.0),
        (1.0, 10, 40.0, 20.0),
        (2.0, 10, inf, 20.0),
        (2.5, 300, inf, 20.0),
        (3.0, 300, inf, 41.0),
        (5.0, 300, inf, 45.0),
        (6.0, 300, inf, 45.0),
        (9.0, 1000, inf, inf),
    ]


def test_a_look_that_sees_no_error_is_not_yet_proof() -> None:
    looks = [Look(1.5, inf, inf, True)]
    points = {point.at_s: point for point in _outcome(REPORT, looks, START).points}
    assert (points[1.5].roi_db, points[1.5].whole_db) == (99.0, 99.0)


def test_the_first_whole_picture_is_the_preview_or_what_was_seen_to_be_good_enough() -> None:
    assert _outcome(REPORT, [], START).first_whole_s == 3.0
    poor = {**REPORT, "psnr_db": {"roi_preview": 40.0, "whole_preview": 29.0}}
    looks = [
        Look(3.5, inf, 29.0, True),
        Look(4.0, inf, 33.0, False),
        Look(5.0, inf, 34.0, True),
    ]
    assert _outcome(poor, looks, START).first_whole_s == 5.0
    assert _outcome(poor, [], START).first_whole_s == 9.0
