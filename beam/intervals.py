"""Which bytes of a body are there, when they come in any order.

Arithmetic only: no byte lives here.  An interval is from ``start`` to ``stop``, in bytes from the start of the body;
``stop`` is not in it.
"""

from bisect import bisect_left, bisect_right

from attrs import define, field


@define
class Intervals:
    """A set of offsets, as few intervals as it takes."""

    _starts: list[int] = field(init=False, factory=list)
    _stops: list[int] = field(init=False, factory=list)
    total: int = field(init=False, default=0)  # offsets in it

    @property
    def end(self) -> int:
        """The first offset that is not in it."""
        return self._stops[0] if self._starts[:1] == [0] else 0

    def add(self, start: int, stop: int) -> None:
        """Put an interval in, of which a part may be there already."""
        assert 0 <= start < stop, f"{start}..{stop} is no interval"
        # Those from i to j touch it, and become one with it.
        i, j = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        starts, stops = self._starts[i:j], self._stops[i:j]
        self.total -= sum(stops) - sum(starts)
        start, stop = min([start, *starts]), max([stop, *stops])
        self.total += stop - start
        self._starts[i:j], self._stops[i:j] = [start], [stop]

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of an interval is there."""
        i = bisect_right(self._starts, start) - 1
        return start >= stop or (i >= 0 and stop <= self._stops[i])

    def meets(self, start: int, stop: int) -> bool:
        """Whether any of an interval is there."""
        return bisect_right(self._stops, start) < bisect_left(self._starts, stop)
