"""One peer being served from one transfer, a receiver or a forward's target, and our patience with it."""

from math import inf
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.deadlines import Deadline
from beam.errors import BeamError, Forwarded, ForwardFailed, RequestTimeout
from beam.interfaces import IReader
from beam.paced import PacedReader
from beam.patience import Patience
from beam.peers import IDelivery, IReceiver
from beam.policy import Policy
from beam.transfer import Forward, Span, Transfer

LOOKS = 8  # in the time that patience lasts


class Hub(Protocol):
    """What those who are served need of the broker."""

    clock: IReactorTime
    policy: Policy

    def at(self, deadline: Deadline, when: float) -> None: ...

    def delivered(self, delivery: "Delivery", whole: bool) -> None: ...

    def forwarded(self, transfer: Transfer) -> None: ...


@implementer(IDelivery)
@define(eq=False)
class Delivery:
    """One receiver."""

    hub: Hub
    transfer: Transfer
    receiver: IReceiver
    reader: IReader
    span: Span
    deadline: Deadline = field(init=False)
    patience: Patience = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.deadline = Deadline(self.look)
        now, limit = self.hub.clock.seconds(), self.hub.policy.idle_timeout
        self.patience = Patience(limit, now, self.reader.position)
        self.hub.at(self.deadline, now + limit / LOOKS)

    def look(self, now: float) -> None:
        """Cut a receiver that has bytes to take and takes none, or so few that others wait for it."""
        transfer, policy = self.transfer, self.hub.policy
        # What lies in the system's buffers has not been taken, and can be megabytes.
        position = self.reader.position - self.receiver.untaken()
        others = transfer.receiving > 1 or (transfer.forward is not None and transfer.forward.running)
        least = policy.min_rate if others and not transfer.keeps else 0
        held = isinstance(self.reader, PacedReader) and self.reader.was_held()
        if self.patience.is_over(now, position, position < transfer.spool.head and not held, least):
            self.receiver.cut(RequestTimeout("This receiver took too little for too long."))
        else:
            self.hub.at(self.deadline, now + policy.idle_timeout / LOOKS)

    def done(self, delivered: bool) -> None:
        self.hub.delivered(self, delivered)


@define(eq=False)
class Forwarding:
    """One forward under way, from its first byte to the target's answer."""

    hub: Hub
    transfer: Transfer
    forward: Forward
    deadline: Deadline = field(init=False)
    patience: Patience = field(init=False)

    def begin(self) -> None:
        """Give the target a reader."""
        transfer, hub = self.transfer, self.hub
        self.deadline = Deadline(self.look)
        now = hub.clock.seconds()
        self.patience = Patience(hub.policy.forward_timeout, now)
        self._watch(now)
        reader = self.forward.reader = transfer.spool.open(0, True)
        assert transfer.offer is not None, "a forward begins when the sender has said what it sends"
        started = self.forward.target.start(reader, transfer.length, transfer.offer.content_type)
        started.addCallbacks(lambda _: self._ended(Forwarded.FORWARDED, None), self._failed)

    def _watch(self, now: float) -> None:
        self.hub.at(self.deadline, now + self.hub.policy.forward_timeout / LOOKS)

    def look(self, now: float) -> None:
        """Give up a target that could take bytes, or answer, and does neither."""
        transfer, target = self.transfer, self.forward.target
        position = self.forward.sent - target.untaken()
        if self.patience.is_over(now, position, position < transfer.spool.head or transfer.whole_at is not None):
            limit = f"{self.hub.policy.forward_timeout:g}"
            self.cut(ForwardFailed(f"The forward to {target.name} stood still for {limit} seconds.", Forwarded.STALLED))
        else:
            self._watch(now)

    def cut(self, error: ForwardFailed) -> None:
        """Break it off, if it runs."""
        if self.forward.outcome is None:
            self._ended(error.how, error)
            self.forward.target.cut()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert isinstance(error, BeamError), failure
        self._ended(error.how if isinstance(error, ForwardFailed) else Forwarded.CUT, error)

    def _ended(self, how: Forwarded, error: BeamError | None) -> None:
        forward = self.forward
        if forward.outcome is None:
            forward.outcome, forward.error = how, error
            self.hub.at(self.deadline, inf)
            if forward.reader is not None:
                forward.reader.close()
            self.hub.forwarded(self.transfer)
