"""The sender of one transfer, and our patience with it: it is there, or it is away and may come back."""

from math import inf
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from beam.deadlines import Deadline
from beam.errors import BeamError, RequestTimeout, TakenOver
from beam.patience import Patience
from beam.peers import ISender, News
from beam.policy import Policy
from beam.transfer import BODY_IS_COMING, Transfer

TAKEN_OVER = "The sender goes on with this file by another connection."
TICK = 1.0  # seconds between two looks at a sender: whether its peer is gone, or idle


class Hub(Protocol):
    """What a sender needs of the broker."""

    clock: IReactorTime
    policy: Policy

    def at(self, deadline: Deadline, when: float) -> None: ...

    def lost(self, transfer: Transfer, sender: ISender) -> None: ...

    def given_up(self, transfer: Transfer) -> None: ...

    def fail(self, transfer: Transfer, error: BeamError) -> None: ...


@define(eq=False)
class Sending:
    """One transfer's sender.

    :ivar sender: while it is there.
    :ivar told: whether it knows how its part ended.
    """

    hub: Hub
    transfer: Transfer
    sender: ISender | None = None
    told: bool = False
    _watch: Deadline = field(init=False)
    _absence: Deadline = field(init=False)
    _patience: Patience = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._watch = Deadline(self._look)
        self._absence = Deadline(lambda _: self.hub.given_up(self.transfer))

    def come(self, sender: ISender) -> None:
        """``sender`` is there; one that was loses its place.  It may come back at once, and take this one's."""
        now = self.hub.clock.seconds()
        former, self.sender = self.sender, sender
        self._patience = Patience(self.hub.policy.idle_timeout, now)
        self.hub.at(self._absence, inf)
        self.hub.at(self._watch, now + TICK)
        if former is not None:
            self.transfer.spool.unregisterProducer()
            former.cut(TakenOver(TAKEN_OVER))

    def go(self, absence: float) -> None:
        """It is away, and has ``absence`` seconds to come back if there is more to come."""
        self.sender = None
        self.transfer.spool.unregisterProducer()
        self.hub.at(self._watch, inf)
        if self.transfer.state in BODY_IS_COMING:
            self.hub.at(self._absence, self.hub.clock.seconds() + absence)

    @property
    def due(self) -> float:
        """When it has to be back (seconds of the clock); ``inf`` while it is there."""
        return self._absence.at

    def tell(self, news: News) -> None:
        """Tell it what happens, unless it has its answer."""
        if self.sender is not None:
            self.sender.heard(news)

    def tell_end(self) -> None:
        """Tell it that its part is over."""
        sender, self.sender = self.sender, None
        if not self.told:
            self.told = True
            if sender is not None:
                sender.transfer_ended(self.transfer)

    def stop(self) -> None:
        """Nothing is due any more."""
        self.hub.at(self._watch, inf)
        self.hub.at(self._absence, inf)

    def _look(self, now: float) -> None:
        """Whether it is gone, or idle."""
        transfer, sender = self.transfer, self.sender
        if sender is None:
            return
        could = transfer.state in BODY_IS_COMING and not transfer.spool.paused and not sender.was_held()
        gone = sender.peer_gone()
        if gone or self._patience.is_over(now, sender.moved(), could):
            error = RequestTimeout("Nothing came from the sender for too long; send the file again.")
            if gone or transfer.options.resume is not None:
                self.hub.lost(transfer, sender)
            else:
                self.hub.fail(transfer, error)
            if transfer.options.resume is not None:
                sender.cut(error)  # what of it has not been read must not come in behind another connection's bytes
        if transfer.outcome is None and self.sender is not None:
            self.hub.at(self._watch, now + TICK)
