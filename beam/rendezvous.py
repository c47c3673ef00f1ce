"""Where senders and receivers meet: one transfer a key, and the receivers that wait for a key.

Rules and limits only; nothing here serves a byte, and time is a number.
"""

from attrs import define, field

from beam.errors import KeyInUse, Unavailable
from beam.peers import IReceiver
from beam.policy import Policy
from beam.transfer import Transfer

BROKEN_FOR = 300.0  # seconds for which a resume without If-Range is mistrusted
BROKEN_KEYS = 10_000  # the oldest are forgotten first, so that keys cannot fill the memory


@define(eq=False)
class Rendezvous:
    """Key -> transfer, and key -> waiting receivers in the order in which they came."""

    policy: Policy
    transfers: dict[str, Transfer] = field(init=False, factory=dict)
    waiting: dict[str, dict[IReceiver, None]] = field(init=False, factory=dict)
    waiters: int = field(init=False, default=0)
    _broken: dict[str, float] = field(init=False, factory=dict)

    def check(self, key: str) -> None:
        """May a sender have ``key``?

        :raises KeyInUse: another one has it.
        """
        if key in self.transfers:
            raise KeyInUse("The key is in use by another transfer; choose another key or try again later.")

    def begin(self, transfer: Transfer) -> None:
        """``transfer`` has its key from now on."""
        self.check(transfer.key)
        self.transfers[transfer.key] = transfer

    def end(self, transfer: Transfer, now: float) -> None:
        """``transfer`` has ended: its key is free."""
        if self.transfers.get(transfer.key) is transfer:
            del self.transfers[transfer.key]
            if transfer.broken:
                self._broken.pop(transfer.key, None)
                self._broken[transfer.key] = now + BROKEN_FOR
                if len(self._broken) > BROKEN_KEYS:
                    del self._broken[next(iter(self._broken))]

    def mistrusted(self, transfer: Transfer) -> bool:
        """Whether a receiver may hold a part of an earlier transfer under this key."""
        return transfer.started < self._broken.get(transfer.key, 0)

    def wait(self, key: str, receiver: IReceiver) -> None:
        """``receiver`` waits for a transfer under ``key``.

        :raises Unavailable: too many wait already.
        """
        here = len(self.waiting.get(key, ()))
        if here >= self.policy.max_waiting_per_key or self.waiters >= self.policy.max_waiting:
            raise Unavailable("Too many receivers are waiting; try again later.")
        self.waiting.setdefault(key, {})[receiver] = None
        self.waiters += 1

    def forget(self, key: str, receiver: IReceiver) -> None:
        """``receiver`` waits no more, if it did."""
        here = self.waiting.get(key, {})
        if receiver in here:
            del here[receiver]
            self.waiters -= 1
            if not here:
                del self.waiting[key]
