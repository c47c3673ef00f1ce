"""Where senders and receivers meet: one transfer a key, and the receivers that wait for a key.

Rules and limits only; nothing here serves a byte, and time is a number.
"""

from typing import TypeVar

from attrs import define, field

from beam.deadlines import Deadline
from beam.errors import (
    BeamError,
    Claimed,
    Established,
    KeyInUse,
    NotFound,
    ReceiversDiffer,
    TooManyReceivers,
    Unavailable,
    Underway,
)
from beam.options import SendOptions
from beam.peers import IReceiver
from beam.policy import Policy, Rival
from beam.transfer import BEING_SERVED, NOBODY_CAME, Transfer

BROKEN_FOR = 300.0  # seconds for which a resume without If-Range is mistrusted
CLAIMED_FOR = 3600.0  # seconds for which a key tells that its file was claimed
REMEMBERED = 10_000  # keys of the past; the oldest are forgotten first, so that they cannot fill the memory

IN_USE = "The key is in use by another transfer; choose another key or try again later."
RESUMABLE = "The key is in use by a file that its sender can go on with, from Upload-Offset on; choose another key."
DIFFER = "The number of receivers should be {} but {}."
HAS_RECEIVERS = "This transfer has its receivers already; ask the sender to send it again."

T = TypeVar("T")


def remember(past: dict[str, T], key: str, value: T) -> None:
    """Put ``key`` at the young end of ``past``."""
    past.pop(key, None)
    past[key] = value
    if len(past) > REMEMBERED:
        del past[next(iter(past))]


@define(eq=False)
class Waiting:
    """How long a receiver waits.

    :param seconds: when nothing is there.
    :param over: due when it gives up.
    """

    seconds: float
    over: Deadline


@define(eq=False)
class Rendezvous:
    """Key -> transfer, and key -> waiting receivers in the order in which they came."""

    policy: Policy
    transfers: dict[str, Transfer] = field(init=False, factory=dict)
    waiting: dict[str, dict[IReceiver, Waiting]] = field(init=False, factory=dict)
    waiters: int = field(init=False, default=0)
    _broken: dict[str, float] = field(init=False, factory=dict)
    _claimed: dict[str, tuple[Transfer, float]] = field(init=False, factory=dict)
    _uploads: dict[str, Transfer] = field(init=False, factory=dict)
    _past_uploads: dict[str, Transfer] = field(init=False, factory=dict)

    def admit(self, key: str, options: SendOptions) -> Transfer | None:
        """May a sender have ``key``?  Gives the transfer that it replaces, if it does.

        :raises BeamError: it may not.
        """
        taken = self.transfers.get(key)
        if taken is not None and taken.options.exact and taken.state in BEING_SERVED:
            raise Underway(IN_USE)
        if taken is not None and (self.policy.rival is Rival.REFUSED or taken.state not in NOBODY_CAME):
            if taken.options.resume is None or taken.is_whole:
                raise KeyInUse(IN_USE)
            raise KeyInUse(RESUMABLE, {"Upload-Offset": str(taken.spool.head)})
        for receiver in self.waiting.get(key, ()) if options.exact else ():
            if receiver.company not in (None, options.needed):
                raise ReceiversDiffer(DIFFER.format(receiver.company, options.needed))
        return taken

    def greet(self, key: str, receiver: IReceiver) -> None:
        """May ``receiver`` wait at ``key``, or be served?

        :raises BeamError: it may not.
        """
        transfer, waiting = self.transfers.get(key), self.waiting.get(key, {})
        if transfer is not None and transfer.options.exact and transfer.state in BEING_SERVED:
            raise Established(HAS_RECEIVERS)
        if receiver.company is None:
            return
        company = transfer.options.needed if transfer is not None else None
        for other in waiting:
            company = company or other.company
        if company is not None and company != receiver.company:
            raise ReceiversDiffer(DIFFER.format(company, receiver.company))
        if len(waiting) >= receiver.company:
            raise TooManyReceivers("The number of receivers has reached limits.")

    def begin(self, transfer: Transfer) -> None:
        """``transfer`` has its key from now on."""
        assert transfer.key not in self.transfers, transfer.key
        self._claimed.pop(transfer.key, None)
        self.transfers[transfer.key] = transfer
        if transfer.upload:
            self._uploads[transfer.upload] = transfer

    def upload(self, name: str) -> Transfer | None:
        """The transfer that its sender finds again by ``name``; it may have ended a while ago."""
        return self._uploads.get(name) or self._past_uploads.get(name)

    def end(self, transfer: Transfer, now: float) -> None:
        """``transfer`` has ended: its key is free."""
        if self.transfers.get(transfer.key) is transfer:
            del self.transfers[transfer.key]
            if self._uploads.pop(transfer.upload, None) is not None:
                remember(self._past_uploads, transfer.upload, transfer)
            if transfer.broken:
                remember(self._broken, transfer.key, now + BROKEN_FOR)

    def move(self, transfer: Transfer, address: str, now: float) -> None:
        """A receiver has claimed ``transfer``: it is at ``address`` from now on, and its key is free."""
        del self.transfers[transfer.key]
        remember(self._claimed, transfer.key, (transfer, now + CLAIMED_FOR))
        transfer.key, transfer.claimed_at = address, transfer.key
        self.transfers[address] = transfer

    def claimed(self, key: str, now: float) -> Transfer | None:
        """What was claimed at ``key`` a while ago, and nothing has taken its place."""
        transfer, until = self._claimed.get(key, (None, 0.0))
        return transfer if now < until else None

    def nothing(self, key: str, now: float) -> BeamError:
        """Why there is nothing at ``key``."""
        if self.claimed(key, now) is not None:
            return Claimed("Another receiver has claimed this file; ask the sender to send it again.")
        return NotFound("Nothing is here now; start the sender, or wait for it with ?wait=SECONDS.")

    def mistrusted(self, transfer: Transfer) -> bool:
        """Whether a receiver may hold a part of an earlier transfer under this key."""
        return transfer.started < self._broken.get(transfer.key, 0)

    def wait(self, key: str, receiver: IReceiver, waiting: Waiting) -> None:
        """``receiver`` waits for a transfer under ``key``.

        :raises Unavailable: too many wait already.
        """
        here = len(self.waiting.get(key, ()))
        if here >= self.policy.max_waiting_per_key or self.waiters >= self.policy.max_waiting:
            raise Unavailable("Too many receivers are waiting; try again later.")
        self.waiting.setdefault(key, {})[receiver] = waiting
        self.waiters += 1

    def forget(self, key: str, receiver: IReceiver) -> Waiting | None:
        """``receiver`` waits no more.  How it did, if it did."""
        here = self.waiting.get(key, {})
        waiting = here.pop(receiver, None)
        if waiting is not None:
            self.waiters -= 1
            if not here:
                del self.waiting[key]
        return waiting
