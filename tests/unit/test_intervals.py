"""Bytes that come in any order, checked against a plain set of offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam.intervals import Intervals

INTERVALS = st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda pair: (pair[0], sum(pair)))


@given(adds=st.lists(INTERVALS, max_size=12), asks=st.lists(INTERVALS, min_size=1, max_size=6))
def test_it_is_a_set_of_offsets(adds: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
    """Whatever overlaps, touches or comes twice."""
    there, offsets = Intervals(), set[int]()
    for add in adds:
        there.add(*add)
        offsets |= set(range(*add))
        assert there.total == len(offsets)
        assert there.end == next(offset for offset in range(100) if offset not in offsets)
        for ask in asks:
            assert there.covers(*ask) is (set(range(*ask)) <= offsets)
            assert there.meets(*ask) is bool(set(range(*ask)) & offsets)


@given(order=st.permutations(range(9)))
def test_neighbours_become_one(order: list[int]) -> None:
    """In whatever order the pieces of a body come, it is one in the end, and costs no more."""
    there, other = Intervals(), Intervals()
    for number in order:
        there.add(number * 10, number * 10 + 10)
    other.add(0, 90)
    assert there == other and there.end == there.total == 90


def test_nothing_is_there_at_first() -> None:
    """And of nothing everything is there."""
    there = Intervals()
    assert (there.end, there.total) == (0, 0)
    assert there.covers(5, 5) and not there.covers(5, 6) and not there.meets(0, 1000)


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (4, 3), (-1, 3)])
def test_what_is_no_interval(start: int, stop: int) -> None:
    """An error of the program."""
    with pytest.raises(AssertionError):
        Intervals().add(start, stop)
