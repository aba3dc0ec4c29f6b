from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ranges import RangeSet

_RANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 12)), max_size=30)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(_RANGES)
def test_it_agrees_with_a_set_of_numbers(steps: list[tuple[bool, int, int]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for add, start, size in steps:
        numbers = set(range(start, start + size))
        if add:
            assert ranges.add(start, start + size) == len(numbers - model)
            model |= numbers
        else:
            ranges.remove(start, start + size)
            model -= numbers
        assert {i for low, high in ranges for i in range(low, high)} == model
        pairs = list(ranges)
        assert all(low < high for low, high in pairs)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(pairs))
        assert ranges.covers(start, start + size) == (numbers <= model)


def test_asking_whether_it_is_true_raises() -> None:
    with pytest.raises(TypeError):
        bool(RangeSet())
