"""What moves a ring into a file: nothing but one more reader of it.

It writes in large steps, off the reactor's thread, at the offset that its own position is.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.errors import BeamError, StoreFull
from beam.interfaces import ISink
from beam.store.blob import BLOCK, LARGE, Blob, Offload, failure_of
from beam.store.memory import RingSpool

QUOTA_STEP = 1 << 20  # bytes by which a file of unknown length is charged


@implementer(ISink)
class Writer:
    """Moves what comes into the ring on into the file; one write runs at a time, and waits until it is worth it.

    :param charge: is told to which offset the file will grow, and raises ``StoreFull``.
    :param written: hears that all is in the file, or why that cannot be.
    """

    def __init__(
        self,
        ring: RingSpool,
        blob: Blob,
        offload: Offload,
        charge: Callable[[int], None],
        written: Callable[[BeamError | None], None],
    ) -> None:
        self._ring = ring
        self._blob = blob
        self._offload = offload
        self._charge = charge
        self._written = written
        self._busy = False
        self._there = ring.base  # up to where the file has it; all but the last of it in whole blocks
        self._urged = 0  # up to where to write at once, however little it is
        self._settling: list[tuple[int, Deferred[None]]] = []
        self._reader = ring.open(ring.base, holds=True)
        self._reader.attach(self)

    def bytes_available(self) -> None:
        view = self._reader.peek()
        if self._busy or not view:
            return
        position = self._reader.position
        try:
            self._charge(position + len(view))
        except StoreFull as error:
            self._written(error)
            return
        if not self._is_worth_it(self._ring.head - position):
            self._ring.starve(self._reader)
            return
        self._busy = True
        self._blob.hold()
        self._offload(lambda: self._blob.write(view, position)).addCallbacks(self._wrote, self._failed)

    def _is_worth_it(self, n: int) -> bool:
        """Whether to write ``n`` bytes now: the sender must not wait for more to come from itself."""
        ring = self._ring
        if self._there >= ring.head and not ring.whole:
            return False
        if n >= min(LARGE, ring.window.lead // 2) or self._there < self._urged:
            return True
        return ring.whole or not ring.has_room()

    def settle(self) -> Deferred[None]:
        """Write all that is there, however little: who knows when more comes.  Fires when the file has it."""
        settled: Deferred[None] = Deferred()
        self._urged = self._ring.head
        self._settling.append((self._urged, settled))
        if self._there < self._urged and self._reader.sink is not None:
            self.bytes_available()
        self._tell_settled()
        return settled

    def _tell_settled(self) -> None:
        done = [settled for mark, settled in self._settling if mark <= self._there]
        self._settling = [each for each in self._settling if each[0] > self._there]
        for settled in done:
            settled.callback(None)

    def _wrote(self, n: int) -> None:
        self._busy = False
        self._blob.drop()
        if self._reader.sink is not None:
            there = self._reader.position + n
            self._there = max(self._there, there)
            # A block of which more is to come is written again with the rest of it, so that it can go around the cache.
            is_done = self._ring.whole or there < self._ring.head or not self._ring.has_room()
            self._reader.advance(n if is_done else n - n % BLOCK)
        self._tell_settled()
        if self._reader.sink is not None:
            self.bytes_available()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        self._blob.drop()
        if self._reader.sink is not None:
            self._written(failure_of(failure))

    def write_rest(self) -> None:
        """Write all that is there in one call, which nobody waits for; the ring may end meanwhile.

        A write that is under way does the same with its own bytes, which lie where the rest begins.
        """
        position, steps = self._reader.position, list[tuple[memoryview, int]]()
        while view := self._ring.view(position):
            steps.append((view, position))
            position += len(view)
        try:
            self._charge(position)
        except StoreFull:
            return

        def write() -> None:
            for view, position in steps:
                done = 0
                while done < len(view):
                    done += self._blob.write(view[done:], position + done)

        def written(_: object) -> None:
            self._blob.drop()

        if steps:
            self._blob.hold()
            self._offload(write).addErrback(failure_of).addBoth(written)

    def body_complete(self) -> None:
        self._reader.close()
        self._written(None)

    def body_failed(self, error: BeamError) -> None:
        """The spool is being aborted, which also removes the file."""
