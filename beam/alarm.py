"""One reactor timer for every deadline."""

from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from beam.deadlines import Deadline, Deadlines


class Alarm:
    """Does what is due when it is.

    :param clock: its ``seconds`` must not jump.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.deadlines = Deadlines()
        self._timer: IDelayedCall | None = None
        self._armed = inf  # when it comes

    def set(self, deadline: Deadline, when: float) -> None:
        """``deadline`` is due at ``when`` (seconds of the clock; ``inf`` for never)."""
        if when != deadline.at:
            self.deadlines.set(deadline, when)
            self._rearm()

    def stop(self) -> None:
        """Nothing is due any more; let go of the clock."""
        self.deadlines = Deadlines()
        self._rearm()

    def _rearm(self) -> None:
        due, timer = self.deadlines.next(), self._timer
        if timer is not None and timer.active():
            if self._armed <= due < inf:
                return  # it comes too early, and looks again
            timer.cancel()  # to reset it, Twisted would look for it among all there are
        self._armed = due
        if due < inf:
            self._timer = self._clock.callLater(max(0, due - self._clock.seconds()), self._sweep)

    def _sweep(self) -> None:
        try:
            self.deadlines.sweep(self._clock.seconds())
        finally:
            self._rearm()
