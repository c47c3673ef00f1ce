"""How long a peer may do nothing where it could do something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam.patience import Patience


def test_a_peer_that_never_moves() -> None:
    """It is over when the limit is reached, not before."""
    patience = Patience(10, since=100)
    assert not patience.is_over(100, 0, True)
    assert not patience.is_over(109.9, 0, True)
    assert patience.is_over(110, 0, True)


def test_a_peer_that_has_nothing_to_do() -> None:
    """A paused sender and a receiver with nothing to take are not idle; their time begins when they could."""
    patience = Patience(10, since=0)
    for now in (5, 10, 50, 1000):
        assert not patience.is_over(now, 0, False)
    assert not patience.is_over(1009, 0, True)
    assert patience.is_over(1010, 0, True)


def test_a_peer_that_moves() -> None:
    """One byte within the limit is enough, and begins another term."""
    patience = Patience(10, since=0)
    for position, now in enumerate(range(9, 1000, 9), 1):
        assert not patience.is_over(now, position, True)


def test_a_peer_that_stops() -> None:
    """It is noticed within two terms, whenever it moved its last byte, and not within one."""
    patience = Patience(10, since=0)
    position = 0
    over: list[int] = []
    for now in range(1, 100):
        if now <= 33:
            position += 1
        if patience.is_over(now, position, True):
            over.append(now)
            break
    assert over and 33 + 10 <= over[0] <= 33 + 20


@pytest.mark.parametrize(("rate", "over"), [(5, True), (9, True), (10, False), (100, False)])
def test_a_peer_that_moves_too_little(rate: int, over: bool) -> None:
    """Fewer bytes per second than the least, over a whole term."""
    patience = Patience(10, since=0)
    found = [patience.is_over(now, now * rate, True, 10) for now in range(1, 41)]
    assert any(found) is over
    assert not any(found[:9])


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.booleans()), max_size=40),
)
def test_nobody_is_given_up_who_moved_within_the_limit(limit: int, steps: list[tuple[int, int, bool]]) -> None:
    """Nor one that could not; and whoever stands still for two terms in which it could is given up."""
    patience = Patience(limit, since=0)
    now = position = 0
    idle_since = 0  # since when it could and moved nothing
    for passed, moved, could in steps:
        now += passed
        position += moved
        if moved or not could:
            idle_since = now
        over = patience.is_over(now, position, could)
        if over:
            assert could and now - idle_since >= limit
            return
        assert now - idle_since < 2 * limit + 5
