"""A pace as arithmetic: how many bytes may move by when.

A bucket of ``burst`` bytes that fills at ``rate``; moving bytes empties it.  Time is a number that the caller gives.
"""

from attrs import define, field

STEPS = 20  # a second, at most: each costs a wake-up
LARGE = 16 << 10  # bytes of a step that is worth waiting for, if that does not take too long
LONGEST_STEP = 2  # in a second, at least


@define(eq=False)
class Pace:
    """In any time t no more than ``rate * t + burst`` bytes.

    :param rate: bytes per second, more than none.
    :ivar step: bytes that are worth a wake-up.
    :ivar burst: bytes that may move at once after a rest: a tenth of a second's, or two steps if these are more.
    """

    rate: int
    step: int = field(init=False)
    burst: int = field(init=False)
    _full: float = field(init=False, default=float("-inf"))  # seconds, when the bucket is full again

    def __attrs_post_init__(self) -> None:
        self.step = max(1, self.rate // STEPS, min(LARGE, self.rate // LONGEST_STEP))
        self.burst = max(self.rate // 10, 2 * self.step)

    def allowance(self, now: float) -> int:
        """Bytes that may move at ``now`` (seconds)."""
        return max(0, int(self.burst - max(0.0, self._full - now) * self.rate))

    def take(self, n: int, now: float) -> None:
        """``n`` bytes, which were allowed, move."""
        self._full = max(self._full, now) + n / self.rate

    def give(self, n: int) -> None:
        """``n`` of the bytes that were taken did not move."""
        self._full -= n / self.rate

    def when(self, n: int, now: float) -> float:
        """Seconds until ``n`` bytes may move, which are no more than ``burst``."""
        return max(0.0, self._full - now - (self.burst - n) / self.rate)
