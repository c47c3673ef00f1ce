"""A body that comes in pieces, in any order: a file with holes, and a small ring for each piece on its way.

A piece is there when its bytes are on the disk and the journal says so.  Readers see what is there from the start of
the body without a hole, and read it from the file.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.errors import BeamError, Unavailable
from beam.interfaces import IPieceSpool, ISpool
from beam.quota import Quota
from beam.store.blob import Blob, Offload, T, failure_of
from beam.store.journal import Journal
from beam.store.lasting import Lasting
from beam.store.memory import RingSpool
from beam.store.places import LastingPlace
from beam.store.spool import EMPTY
from beam.store.writer import Writer


@implementer(ISpool)
class Piece(RingSpool):
    """The bytes from ``start`` to ``stop``, on their way into the file of ``spool``.

    :param failed: hears why it cannot be gone on with.
    """

    def __init__(
        self,
        spool: "PieceSpool",
        memory: Quota,
        window: int,
        start: int,
        stop: int,
        failed: Callable[[BeamError], None],
    ) -> None:
        super().__init__(memory, stop, window, 0, origin=start)
        self.start, self.stop = start, stop
        self._spool = spool
        self._failed = failed
        self._secured: Deferred[None] = Deferred()
        self._calls = 0  # that run elsewhere
        self._writer: Writer | None = None
        spool.blob.hold()

    def meets(self, start: int, stop: int) -> bool:
        """Whether it has any byte between ``start`` and ``stop``."""
        return self.start < stop and start < self.stop

    def begin(self) -> None:
        """Write, unless it does already: nobody else writes here any more."""
        if self._writer is None:
            self._writer = Writer(self, self._spool.blob, self._run, lambda _: None, self._file_written)

    def finish(self) -> Deferred[None]:
        assert self.head == self.stop, "a piece that is not whole"
        super().finish()
        if self._writer is not None:
            self._writer.bytes_available()
        return self._secured

    def _run(self, call: Callable[[], T], /) -> "Deferred[T]":
        return self._count(self._spool.offload(call))

    def _count(self, deferred: "Deferred[T]") -> "Deferred[T]":
        self._calls += 1
        self._spool.blob.hold()
        return deferred.addBoth(self._ran)

    def _ran(self, result: T) -> T:
        self._calls -= 1
        if self.error is not None and not self._calls:
            self._spool.left(self)
        self._spool.blob.drop()
        return result

    def _file_written(self, error: BeamError | None) -> None:
        if error is not None:
            self._failed(error)
        else:
            self._count(Deferred.fromCoroutine(self._note())).addCallbacks(self._noted, self._not_noted)

    async def _note(self) -> None:
        spool, start, length = self._spool, self.start, self.stop - self.start

        def note() -> None:
            spool.blob.sync()
            spool.journal.note(start, length)

        await spool.offload(note)
        if self.error is not None:  # it was given up meanwhile, and another may be about to take its place
            try:
                await spool.offload(lambda: spool.journal.strike(start, length))
            except Exception:  # whatever it is, the piece would be there after a restart
                spool.fail_all(Failure())

    def _noted(self, _: None) -> None:
        if self.error is None:
            self.release()
            self._spool.is_there(self)
            self._secured.callback(None)

    def _not_noted(self, failure: Failure) -> None:
        if self.error is None:
            self._failed(failure_of(failure))

    def abort(self, error: BeamError) -> None:
        if not self._released:
            self._spool.leaves(self)
            super().abort(error)
            if not self._calls:
                self._spool.left(self)

    def cut(self, error: BeamError) -> None:
        """The spool has ended: whoever fills this hears of it."""
        if not self._released:
            self.abort(error)
            self._failed(error)

    def let_go(self) -> None:
        super().let_go()
        self._spool.blob.drop()


@implementer(IPieceSpool)
class PieceSpool(Lasting):
    """A file with holes.

    :param length: of the body, if it is known; it is charged then.
    :param window: bytes of each piece that may be in memory.
    """

    def __init__(
        self,
        blob: Blob,
        place: LastingPlace,
        journal: Journal,
        memory: Quota,
        offload: Offload,
        failed: Callable[[BeamError], None],
        length: int | None,
        window: int,
    ) -> None:
        super().__init__(blob, place, memory, offload, failed)
        self.blob = blob
        self.offload = offload
        self.journal = journal
        self._memory = memory
        self._length = length
        self._window = window
        self._there = journal.there
        self._taken = self._there.total  # bytes that are there, or on their way
        self._coming: list[Piece] = []
        self._leaving: list[Piece] = []  # those that were given up, and whose last write still runs

    @property
    def head(self) -> int:  # type: ignore[override]
        return self._there.end

    def room(self) -> memoryview:
        return EMPTY  # it is its pieces that are filled

    def has(self, start: int, length: int) -> bool:
        """See ``IPieceSpool.has``."""
        return self._there.covers(start, start + length)

    def piece(self, start: int, length: int, failed: Callable[[BeamError], None]) -> Piece:
        """See ``IPieceSpool.piece``."""
        stop = start + length
        assert not self.whole and 0 <= start < stop, f"{start}..{stop} is no piece of this body"
        assert self._length is None or stop <= self._length, f"{start}..{stop} is beyond the end"
        assert not self._there.meets(start, stop), f"a part of {start}..{stop} is there"
        assert not any(each.meets(start, stop) for each in self._coming), f"a part of {start}..{stop} is on its way"
        self.blob.charge(self._taken + length)
        try:
            piece = Piece(self, self._memory, self._window, start, stop, failed)
        except Unavailable:
            self._settle()
            raise
        self._taken += length
        self._coming.append(piece)
        self._begin(piece)
        return piece

    def _begin(self, piece: Piece) -> None:
        if not any(each.meets(piece.start, piece.stop) for each in self._leaving):
            piece.begin()

    def _settle(self) -> None:
        """Give back what was charged for a piece that does not come."""
        if self._length is None and not self._released:
            self.blob.settle(self._taken)

    # What its pieces say.

    def is_there(self, piece: Piece) -> None:
        """``piece`` is on the disk, and the journal says so."""
        self._coming.remove(piece)
        self._there.add(piece.start, piece.stop)
        self.wake_all()

    def leaves(self, piece: Piece) -> None:
        """``piece`` has been given up."""
        self._coming.remove(piece)
        self._leaving.append(piece)

    def left(self, piece: Piece) -> None:
        """It writes no more: who waits for its place can begin."""
        self._leaving.remove(piece)
        self._taken -= piece.stop - piece.start
        self._settle()
        for each in list(self._coming):
            self._begin(each)

    def fail_all(self, failure: Failure) -> None:
        """The journal says what is not so."""
        if not self._released:
            self._failed(failure_of(failure))

    # The ends.

    def finish(self) -> Deferred[None]:
        assert not self._coming and self.head == self._there.total, "a body with holes"
        secured = super().finish()
        self.keep()
        return secured

    def abort(self, error: BeamError) -> None:
        for piece in list(self._coming):
            piece.cut(error)
        super().abort(error)
