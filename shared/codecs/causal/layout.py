"""The fixed numbers of the exact coder's model: what both ends must agree on.

A change of any of them, or of the tables, is another format and another version byte.
"""

from __future__ import annotations

PAD = 3
"""Voxels around a plane that taps may reach into."""
FRACTION = 4
"""Bits behind the point of predictions and errors: sixteenths of a sample."""
LOG_ONE = 4096
"""One natural unit of log-odds inside a question."""
STRETCH_LIMIT = 3072
"""Log-odds of answers are clamped to 12, in 1/256."""
SCALES = 64
"""Quarter octaves of expected error, from an eighth of a sample on."""
STEPS = 16
"""Questions on one side of a prediction before they double."""
EXPERTS = 4
"""Space, plane, corrected, blend; more of them are asked for `archive`."""
BIAS = 77
"""The mixer's constant input."""
PLACES = 128
"""Contexts of an answer: how seven things lie to the first threshold."""
WEIGHT_BITS = 12
"""Behind the point of transmitted weights."""
MOST_TAPS = 48
LENGTHS = {
    "softplus": 2561,
    "near": 1024,
    "far": 1281,
    "squash": 2 * STRETCH_LIMIT + 1,
    "stretch": 4096,
    "quarters": 4096,
    "inverse_square": SCALES,
    "rate": 256,
    "steps": SCALES * STEPS,
}

SOFTPLUS, NEAR, FAR, SQUASH, STRETCH, QUARTERS, INVERSE_SQUARE, RATE, STEP_TABLE = (
    sum(list(LENGTHS.values())[:place]) for place in range(len(LENGTHS))
)
"""Where each of `LENGTHS` begins in the table of all."""

Tap = tuple[int, int, int]


def plane_taps(count: int) -> list[Tap]:
    """The nearest ``count`` voxels before (0, 0, 0) in its own plane, as (z, y, x) offsets."""
    before = [(0, y, x) for y in range(-PAD, 1) for x in range(-PAD, PAD + 1) if y < 0 or x < 0]
    return sorted(before, key=lambda tap: (tap[1] ** 2 + tap[2] ** 2, tap[1] < 0, tap[2] > 0))[
        :count
    ]


def disc_taps(z: int, count: int) -> list[Tap]:
    """The nearest ``count`` voxels of an earlier plane, around the one that is coded."""
    disc = [(z, y, x) for y in range(-PAD, PAD + 1) for x in range(-PAD, PAD + 1)]
    return sorted(disc, key=lambda tap: (tap[1] ** 2 + tap[2] ** 2, tap[1] < 0, tap[2] < 0))[:count]


def space_taps(depth: int, *, few: bool = False) -> list[Tap]:
    """What the expert of space looks at, in a brick of ``depth`` planes; ``few`` for `fast`."""
    if depth == 1:
        return plane_taps(12 if few else 20)
    if few:
        return plane_taps(8) + disc_taps(-1, 9)
    if depth == 2:
        return plane_taps(12) + disc_taps(-1, 13)
    return plane_taps(12) + disc_taps(-1, 13) + disc_taps(-2, 5)


def own_plane_count(depth: int) -> int:
    """How many of `space_taps`, the first ones, lie in a voxel's own plane."""
    return sum(z == 0 for z, _, _ in space_taps(depth))


def online_taps(depth: int) -> list[Tap]:
    """What the online expert looks at."""
    if depth == 1:
        return plane_taps(18)
    return plane_taps(10) + disc_taps(-1, 12) + disc_taps(-2, 2)


def side_taps(*, rung: bool, wide: bool = False) -> list[Tap]:
    """What both linear experts look at in what is known of the whole brick beforehand.

    A preview shows the voxel itself. The rung above has said in which interval it lies, which is
    taken for what it is when questions are asked: here it shows the neighbours to come only;
    more of them where that is ``wide``.
    """
    to_come = [(0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1), (1, 0, 0)]
    near = [*to_come, (0, 0, 2), (1, 0, 1), (1, 1, 0)]
    if rung and wide:
        beside = [(1, 0, -1), (1, -1, 0), (0, 2, 0)]
        corners = [(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1), (0, 1, 2), (0, 1, -2)]
        return near + beside + corners
    if rung:
        return near
    return [(0, 0, 0), *to_come, (0, 0, -1), (0, -1, 0)]


def flat_taps(*, few: bool = False) -> list[Tap]:
    """What the expert of the plane looks at."""
    return plane_taps(10 if few else 18)
