"""A pace as arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from beam.pace import Pace

RATES = st.sampled_from([1, 3, 1000, 32 << 10, 256 << 10, 10 << 20, 10 << 30])
GAPS = st.floats(0, 10, allow_nan=False)


@given(rate=RATES, start=st.floats(0, 1e7), moves=st.lists(st.tuples(GAPS, st.floats(0, 1)), max_size=30))
def test_never_more_than_the_pace_and_one_burst(rate: int, start: float, moves: list[tuple[float, float]]) -> None:
    """Over any interval, whatever part of the allowance is taken, and whenever."""
    pace = Pace(rate)
    now, taken = start, [(start, 0)]
    for gap, part in moves:
        now += gap
        n = int(part * pace.allowance(now))
        pace.take(n, now)
        taken.append((now, n))
    slack = 1 + 1e-8 * rate  # what clocks of that age can tell apart
    for i, (begin, _) in enumerate(taken):
        moved = 0
        for end, n in taken[i:]:
            moved += n
            assert moved <= rate * (end - begin) + pace.burst + slack


@given(rate=RATES, gaps=st.lists(GAPS, max_size=10), part=st.floats(0, 1))
def test_when_there_is_enough(rate: int, gaps: list[float], part: float) -> None:
    """At that time there is, as far as a clock can tell, and a moment before there is not."""
    pace = Pace(rate)
    now = 0.0
    for gap in gaps:
        now += gap
        pace.take(pace.allowance(now), now)
    n = int(part * pace.burst)
    wait = pace.when(n, now)
    assert pace.allowance(now + wait + 1e-6) >= n - 1
    if wait:
        assert pace.allowance(now + wait * 0.99 - 2 / rate) <= n


@given(rate=RATES)
def test_after_a_rest_there_is_one_burst(rate: int) -> None:
    """At the beginning too; and a step fits into it, and is not worth many wake-ups."""
    pace = Pace(rate)
    assert pace.allowance(0) == pace.allowance(1e6) == pace.burst
    assert 1 <= pace.step <= pace.burst
    assert rate / pace.step <= 20 or pace.step >= 1
    pace.take(pace.burst, 1e6)
    assert pace.allowance(1e6) == 0
    assert pace.when(1, 1e6) > 0


def test_what_did_not_move_goes_back() -> None:
    """But never more than one burst is there."""
    pace = Pace(1000)
    pace.take(pace.burst, 0)
    pace.give(100)
    assert pace.allowance(0) == 100
    pace.give(pace.burst)
    assert pace.allowance(0) == pace.burst
