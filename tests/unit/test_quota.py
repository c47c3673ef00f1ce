"""A bounded number of bytes that many share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam.quota import Quota


@given(cap=st.integers(0, 100), asks=st.lists(st.integers(0, 60)))
def test_used_never_exceeds_the_cap(cap: int, asks: list[int]) -> None:
    """What fits is charged, what does not changes nothing, and all of it can be returned."""
    quota = Quota(cap)
    taken: list[int] = []
    for n in asks:
        fits = sum(taken) + n <= cap
        assert quota.take(n) is fits
        if fits:
            taken.append(n)
        assert quota.used == sum(taken) <= cap
        assert quota.free == cap - sum(taken)
    for n in taken:
        quota.give(n)
    assert quota.used == 0


def test_more_cannot_be_returned_than_was_taken() -> None:
    """An error of the program is not papered over."""
    quota = Quota(10)
    quota.take(3)
    with pytest.raises(AssertionError):
        quota.give(4)


def test_what_is_there_already_counts() -> None:
    """Also beyond the cap: nothing fits then until enough of it is gone."""
    quota = Quota(10)
    quota.owe(15)
    assert (quota.used, quota.free) == (15, 0)
    assert quota.take(0) and not quota.take(1)
    quota.give(6)
    assert quota.take(1) and not quota.take(1)
