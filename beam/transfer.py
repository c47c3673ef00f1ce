"""One key's life as a table: state x event -> state, or the outcome with which it ends.

The upper half of the table is for stores that hold (memory): the sender waits until its bytes are delivered.  The lower
half is for stores that keep (disk): the sender is done when they are stored.  A pair that is not in the table is an
error of the program.  ``docs/architecture.md`` has the picture, drawn from this table.
"""

from enum import StrEnum
from math import inf

from attrs import define, field, frozen

from beam.body import Body
from beam.errors import BeamError, Forwarded, NoReceiver, OffsetDiffers, Outcome, ReceiverLost, SenderLost
from beam.interfaces import IForwardTarget, IReader, ISpool
from beam.options import SendOptions
from beam.policy import Policy


class State(StrEnum):
    """Where a transfer is."""

    WAITING = "waiting"  # the body is coming; no receiver has come yet
    HELD = "held"  # the body is whole; no receiver has come yet
    FLOWING = "flowing"  # the body is coming and receivers are served
    ENDING = "ending"  # the body is whole and receivers are served
    FORSAKEN = "forsaken"  # the body is coming; every receiver has left
    STRANDED = "stranded"  # the body is whole; every receiver has left before its end
    STORING = "storing"  # the body is coming into a store that keeps it
    KEPT = "kept"  # the body is whole in a store that keeps it


class Event(StrEnum):
    """What can happen to a transfer."""

    JOINED = "joined"  # a receiver is being served
    DESERTED = "deserted"  # the last receiver left, and none has got the whole
    SERVED = "served"  # the last receiver or the forward is done, and at least one got the whole
    WHOLE = "whole"  # the last byte of the body is in the store
    LOST = "lost"  # the sender's connection broke
    TIMEOUT = "timeout"  # the state's deadline has come
    SPENT = "spent"  # as many complete downloads as were asked for, or somebody has deleted it


TABLE: dict[tuple[State, Event], State | Outcome] = {
    (State.WAITING, Event.JOINED): State.FLOWING,
    (State.WAITING, Event.WHOLE): State.HELD,
    (State.WAITING, Event.LOST): Outcome.SENDER_LOST,
    (State.WAITING, Event.TIMEOUT): Outcome.EXPIRED,
    (State.HELD, Event.JOINED): State.ENDING,
    (State.HELD, Event.SERVED): Outcome.DELIVERED,
    (State.HELD, Event.LOST): Outcome.SENDER_LOST,
    (State.HELD, Event.TIMEOUT): Outcome.EXPIRED,
    (State.FLOWING, Event.JOINED): State.FLOWING,
    (State.FLOWING, Event.WHOLE): State.ENDING,
    (State.FLOWING, Event.DESERTED): State.FORSAKEN,
    (State.FLOWING, Event.LOST): Outcome.SENDER_LOST,
    (State.ENDING, Event.JOINED): State.ENDING,
    (State.ENDING, Event.SERVED): Outcome.DELIVERED,
    (State.ENDING, Event.DESERTED): State.STRANDED,
    (State.ENDING, Event.LOST): State.ENDING,
    (State.FORSAKEN, Event.JOINED): State.FLOWING,
    (State.FORSAKEN, Event.WHOLE): State.STRANDED,
    (State.FORSAKEN, Event.LOST): Outcome.SENDER_LOST,
    (State.FORSAKEN, Event.TIMEOUT): Outcome.RECEIVER_LOST,
    (State.STRANDED, Event.JOINED): State.ENDING,
    (State.STRANDED, Event.SERVED): Outcome.DELIVERED,
    (State.STRANDED, Event.LOST): State.STRANDED,
    (State.STRANDED, Event.TIMEOUT): Outcome.RECEIVER_LOST,
    (State.STORING, Event.JOINED): State.STORING,
    (State.STORING, Event.DESERTED): State.STORING,
    (State.STORING, Event.SERVED): State.STORING,
    (State.STORING, Event.WHOLE): State.KEPT,
    (State.STORING, Event.LOST): Outcome.SENDER_LOST,
    (State.KEPT, Event.JOINED): State.KEPT,
    (State.KEPT, Event.DESERTED): State.KEPT,
    (State.KEPT, Event.SERVED): State.KEPT,
    (State.KEPT, Event.LOST): State.KEPT,
    (State.KEPT, Event.SPENT): Outcome.STORED,
    (State.KEPT, Event.TIMEOUT): Outcome.STORED,
}

BODY_IS_COMING = frozenset({State.WAITING, State.FLOWING, State.FORSAKEN, State.STORING})
NOBODY_CAME = frozenset({State.WAITING, State.HELD})
BEING_SERVED = frozenset({State.FLOWING, State.ENDING})


@frozen
class Offer:
    """What a sender says about its file.  Header values are as the receivers get them.

    :param length: bytes of the body, if known before its end.
    :param filename: for people; already without path separators and control characters.
    :param disposition: ``Content-Disposition``.
    :param peer: the sender's address, for the log.
    """

    length: int | None = None
    content_type: str | None = "application/octet-stream"
    content_encoding: str | None = None
    last_modified: str | None = None
    filename: str = ""
    disposition: str | None = "attachment"
    x_piping: tuple[str, ...] = ()
    peer: str = "-"


@define(eq=False)
class Forward:
    """A transfer's way on to a target.

    :param target: who takes it there.
    :param spooled: whether it begins when the body is whole, so that its length is known.
    :param best_effort: whether the receivers' delivery decides when it fails.
    """

    target: IForwardTarget
    spooled: bool = False
    best_effort: bool = False
    reader: IReader | None = None  # since it began
    outcome: Forwarded | None = None
    error: BeamError | None = None

    @property
    def running(self) -> bool:
        """Whether the target may still take it."""
        return self.reader is not None and self.outcome is None

    @property
    def failed(self) -> bool:
        """Whether the sender has to hear that the target did not take it."""
        return self.error is not None and not self.best_effort

    @property
    def sent(self) -> int:
        """Bytes that were read for the target."""
        return 0 if self.reader is None else self.reader.position


@frozen
class Span:
    """The part of a body that a receiver wants: from ``start`` to before ``stop`` (``None``: to the end).

    A *look* is a part that ends before the end: it neither counts as a delivery nor holds the sender back.
    """

    start: int = 0
    stop: int | None = None
    look: bool = False


@define(eq=False)
class Transfer:
    """One body on its way, from admission to its outcome.

    :param started: seconds, on the clock of whoever made it.
    :param created: seconds since 1970, for people.
    :param upload: the name by which its sender finds it again, if that is not the key.
    :param notes: what its way of sending has to know when the sender is back.
    """

    key: str
    options: SendOptions
    etag: str
    started: float
    state: State
    spool: ISpool
    keeps: bool
    created: float = 0
    upload: str = ""
    notes: dict[str, str] = field(factory=dict)
    forward: Forward | None = None
    body: Body | None = None  # since its first byte
    start: bytes = b""  # of its body, if a former server has taken that
    saved: bool = False  # whether the server, when it comes back, goes on with it
    offer: Offer | None = None  # a form's is known when its file begins; no receiver is served before
    outcome: Outcome | None = None
    error: BeamError | None = None
    claimed_at: str | None = None  # its key, if it has moved to an address that one receiver knows
    is_whole: bool = False  # whether the last byte of the body has come
    length: int | None = None  # of the body; known from the offer, or once it is whole
    digests: dict[str, bytes] = field(factory=dict)
    receiving: int = 0  # receivers that are being served
    deliveries: int = 0  # receivers that got the last byte
    left: int = 0  # receivers that left before it
    bytes_out: int = 0
    whole_at: float | None = None  # seconds, when the store had the whole body
    served_at: float | None = None  # seconds, when the last complete download ended
    left_at: float | None = None  # seconds, when the last incomplete one ended
    peers: list[str] = field(factory=list)  # addresses of the first receivers, for the log

    def on(self, event: Event) -> bool:
        """Take ``event``: sets ``state`` or ``outcome``.  Whether the transfer has ended by it.

        :raises KeyError: the table has no such pair, or the transfer has ended: an error of the program.
        """
        if self.outcome is not None:
            raise KeyError(f"{event} after the end of a transfer")
        after = TABLE[self.state, event]
        if isinstance(after, State):
            self.state = after
        else:
            self.outcome = after
        return self.outcome is not None

    def check_offset(self, offset: int) -> None:
        """Whether a sender may go on at ``offset``.

        :raises OffsetDiffers: the body does not end there.
        """
        head = self.spool.head
        if self.is_whole or offset != head:
            text = "is whole" if self.is_whole else f"goes on at {head}, and not at {offset}"
            raise OffsetDiffers(f"The file {text}; ask for its Upload-Offset before you go on.", head)

    def fail(self, error: BeamError) -> None:
        """End with ``error`` from whatever state: the store broke, a limit was hit, a shutdown came."""
        if self.outcome is not None:
            raise KeyError(f"{error!r} after the end of a transfer")
        self.outcome, self.error = error.outcome, error

    def reason(self) -> BeamError:
        """The error that stands for an outcome of the table which is none of success."""
        match self.outcome:
            case Outcome.EXPIRED:
                wait = f"{self.options.wait:g}"
                return NoReceiver(f"No receiver came within {wait} seconds; send it again when there is one.")
            case Outcome.RECEIVER_LOST if self.forward is not None and self.forward.failed and self.forward.error:
                return self.forward.error
            case Outcome.RECEIVER_LOST:
                return ReceiverLost("Every receiver left before the end, and none came back in time; send it again.")
            case _:
                return SenderLost("The sender left before the end.")

    def due(self, policy: Policy) -> float:
        """When ``TIMEOUT`` happens; ``inf`` where bytes move, and patience is with those who move them."""
        if self.forward is not None and self.forward.running:
            return inf
        if self.state in NOBODY_CAME:
            wait = self.options.wait
            if self.forward is not None and self.options.readers is None and self.offer is None:
                wait = max(wait, policy.idle_timeout)  # the target is there; it waits for what the sender sends
            return self.started + wait
        back = inf if self.left_at is None else self.left_at + policy.resume_timeout
        if self.state in (State.FORSAKEN, State.STRANDED):
            return back
        if self.state is not State.KEPT or self.receiving or self.whole_at is None:
            return inf
        if self.options.ttl is not None:
            end = self.whole_at + self.options.ttl
        elif self.served_at is not None:
            end = max(self.served_at, self.whole_at) + policy.get_ttl
        else:
            end = self.whole_at + policy.put_ttl
        return max(end, back) if self.left else end

    @property
    def delivered(self) -> bool:
        """Whether somebody has it all."""
        return self.deliveries > 0 or (self.forward is not None and self.forward.outcome is Forwarded.FORWARDED)

    @property
    def broken(self) -> bool:
        """Whether some receiver has a part of this body and not the whole."""
        return self.left > 0 or (self.receiving > 0 and self.outcome is not None)
