"""Shaping: peers are held back so that each connection, and all of one address together, keep a pace.

An end has a ``Throttle``, whose credit comes from the ``Gate`` of the connection and then from that of the address;
whoever finds too little there stands in line.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from beam.pace import Pace
from beam.policy import Policy

UNIX = "unix"  # what stands for the address of a peer that has none
SOON = 0.001  # seconds; a timer that comes too early by a rounding must not come at once again


class Request(Protocol):
    """What has a body that is held back.

    :ivar channel: its connection.
    :ivar peer: the address behind it.
    """

    @property
    def channel(self) -> Hashable: ...

    @property
    def peer(self) -> str: ...


class Gate:
    """Hands out what one pace allows, to one after the other of those who wait.

    :ivar users: throttles that it serves.
    """

    def __init__(self, clock: IReactorTime, rate: int) -> None:
        self.pace = Pace(rate)
        self.users = 0
        self._clock = clock
        self._line: dict[Throttle, int] = {}  # who waits, and for how many bytes at most
        self._timer: IDelayedCall | None = None

    def ask(self, throttle: "Throttle", most: int) -> int:
        """Bytes that ``throttle`` may move, at most ``most``; if 0, it stands in line and hears ``granted``."""
        now = self._clock.seconds()
        n = min(most, self.pace.allowance(now))
        if not self._line and n >= min(most, self.pace.step):
            self.pace.take(n, now)
            return n
        self._line[throttle] = most
        self._arm(now)
        return 0

    def leave(self, throttle: "Throttle") -> None:
        """``throttle`` waits no more."""
        self._line.pop(throttle, None)
        self._rest()

    def _rest(self) -> None:
        if not self._line and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now: float) -> None:
        if self._line and self._timer is None:
            enough = min(self.pace.step, next(iter(self._line.values())))
            self._timer = self._clock.callLater(max(SOON, self.pace.when(enough, now)), self._serve)

    def _serve(self) -> None:
        """Let those in line have their shares."""
        self._timer = None
        now = self._clock.seconds()
        try:
            while self._line:
                throttle, most = next(iter(self._line.items()))
                enough = min(self.pace.step, most)
                allowed = self.pace.allowance(now)
                if allowed < enough:
                    break
                n = min(most, max(enough, allowed // len(self._line)))
                del self._line[throttle]
                self.pace.take(n, now)
                throttle.granted(n)
        finally:
            self._arm(now)
            self._rest()


class Throttle:
    """The credit of one end: bytes that it may move.

    :param gates: that of its connection, that of its address, or both.
    :param closed: called once, when the end is over.
    """

    def __init__(self, gates: list[Gate], closed: Callable[[], None]) -> None:
        self._gates = gates
        self._closed: Callable[[], None] | None = closed
        self._credit = 0
        self._most = 0  # what the gates before ``_passed`` have granted
        self._passed = 0  # gates
        self._waits = False
        self._waited = False
        self.go_on: Callable[[], None] = lambda: None  # called when there is credit after there was none

    def allowance(self) -> int:
        """Bytes that may move now; if none, ``go_on`` is called when there are some."""
        if not self._credit and not self._waits and self._closed is not None:
            self._ask()
        return self._credit

    def take(self, n: int) -> None:
        """``n`` bytes move."""
        self._credit -= n

    def _ask(self) -> None:
        """Go through the gates, as far as they let us."""
        self._waits = False
        while self._passed < len(self._gates):
            most = self._most if self._passed else self._gates[0].pace.burst
            n = self._gates[self._passed].ask(self, most)
            if not n:
                self._waits = self._waited = True
                return
            self._pass(n)
        self._credit, self._most, self._passed = self._credit + self._most, 0, 0

    def _pass(self, n: int) -> None:
        """The next gate lets us have ``n`` bytes; what those before it gave beyond that goes back."""
        for gate in self._gates[: self._passed]:
            gate.pace.give(self._most - n)
        self._most = n
        self._passed += 1

    def granted(self, n: int) -> None:
        """The gate at which we stood gives ``n`` bytes."""
        self._pass(n)
        self._ask()
        if self._credit:
            self.go_on()

    def was_held(self) -> bool:
        """Whether the end is held back, or has been since this was last asked."""
        waited, self._waited = self._waited, self._waits
        return waited

    def close(self) -> None:
        """The end is over.  May be called again."""
        closed, self._closed = self._closed, None
        if closed is not None:
            for i, gate in enumerate(self._gates):
                gate.leave(self)
                gate.pace.give(self._credit + (self._most if i < self._passed else 0))
            self._waits = False
            self._credit = self._most = self._passed = 0
            closed()


class Shaper:
    """The gates of connections and addresses, each for as long as somebody needs it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._gates: dict[tuple[Hashable, int], Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def throttle(self, policy: Policy, request: Request) -> Throttle | None:
        """What holds back the body of ``request``; ``None`` if nothing does."""
        names: list[tuple[Hashable, int]] = []
        if policy.bandwidth is not None:
            names.append((request.channel, policy.bandwidth))
        if policy.bandwidth_per_address is not None and request.peer != UNIX:
            names.append((request.peer, policy.bandwidth_per_address))
        if not names:
            return None
        gates = []
        for name in names:
            gate = self._gates.setdefault(name, Gate(self._clock, name[1]))
            gate.users += 1
            gates.append(gate)
        return Throttle(gates, lambda: self._leave(names))

    def _leave(self, names: list[tuple[Hashable, int]]) -> None:
        """An end is over.  Who comes back at once must not find a full bucket: the gates stay until theirs are."""
        for name in names:
            gate = self._gates[name]
            gate.users -= 1
            if not gate.users:
                rest = gate.pace.when(gate.pace.burst, self._clock.seconds())
                self._clock.callLater(rest + SOON, self._look, name)

    def _look(self, name: tuple[Hashable, int]) -> None:
        gate = self._gates.get(name)
        if gate is not None and not gate.users and not gate.pace.when(gate.pace.burst, self._clock.seconds()):
            del self._gates[name]
