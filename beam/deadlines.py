"""Everything that must happen by some time, in one heap, so that one timer serves all of it.

Time is a number that the caller gives; moving a deadline is cheap, because the old entry stays behind and is passed
over when it comes up.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from attrs import define, field


@define(eq=False)
class Deadline:
    """One thing that is due at ``at`` (seconds; ``inf`` for never), and what to do then."""

    act: Callable[[float], None]
    at: float = inf


@define(eq=False)
class Deadlines:
    """A heap of deadlines.  ``len`` counts those that are pending."""

    _heap: list[tuple[float, int, Deadline]] = field(init=False, factory=list)
    _turn: "count[int]" = field(init=False, factory=count)
    _pending: int = field(init=False, default=0)

    def __len__(self) -> int:
        return self._pending

    def set(self, deadline: Deadline, at: float) -> None:
        """``deadline`` is due at ``at`` from now on, and at no other time; ``inf`` takes it out."""
        self._pending += (at < inf) - (deadline.at < inf)
        deadline.at = at
        if at < inf:
            heappush(self._heap, (at, next(self._turn), deadline))
        if len(self._heap) > 64 + 4 * self._pending:
            self._heap = list({id(entry[2]): entry for entry in self._heap if entry[0] == entry[2].at}.values())
            heapify(self._heap)

    def next(self) -> float:
        """When the first one is due; ``inf`` if none is."""
        while self._heap and self._heap[0][0] != self._heap[0][2].at:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def sweep(self, now: float) -> None:
        """Do all that is due at ``now``.  What an act moves or takes out is not done; what it adds waits its turn."""
        last = next(self._turn)
        while self.next() <= now and self._heap[0][1] < last:
            deadline = heappop(self._heap)[2]
            self._pending -= 1
            deadline.at = inf
            deadline.act(now)
