from __future__ import annotations

import pytest

from sender.ladder import builds, exact_above, first_rung, ladder_for, largest_error
from shared.codecs.causal3d import LADDERS


@pytest.mark.parametrize(
    ("noise", "step"), [(5.0, 5), (8.9, 5), (9.0, 9), (16.0, 9), (20.0, 17), (500.0, 33)]
)
def test_the_first_step_is_as_coarse_as_the_noise(noise: float, step: int) -> None:
    ladder = ladder_for(noise)
    assert ladder is not None
    assert LADDERS[ladder] == (step, 1)
    assert largest_error(first_rung(ladder)) == step // 2


def test_where_there_is_hardly_any_noise_there_is_no_ladder() -> None:
    assert ladder_for(4.9) is None


def test_the_exact_rung_builds_on_the_first_and_has_no_error() -> None:
    ladder = ladder_for(9.0)
    assert ladder is not None
    first = first_rung(ladder)
    above = exact_above(first)
    assert not builds(first)
    assert builds(above)
    assert largest_error(above) == 0
    assert not builds({})
