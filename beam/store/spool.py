"""What all spools have in common: their readers, who is told what and when, and how they end.

A store subclasses ``Spool`` and says where the bytes are: ``room``, ``take``, ``bytes_at`` and ``let_go``.  No byte is
moved here.
"""

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.errors import BeamError, Gone, RangeNotSatisfiable
from beam.interfaces import IReader, ISink, ISpool
from beam.window import Cursor

EMPTY = memoryview(b"")


@implementer(IReader)
class Reader:
    """One receiver's cursor.  ``cursor`` is its place in the window of a store that does not keep."""

    def __init__(self, spool: "Spool", position: int, cursor: Cursor | None) -> None:
        self.spool = spool
        self.position = position
        self.cursor = cursor
        self.sink: ISink | None = None

    def attach(self, sink: ISink) -> None:
        self.sink = sink
        self.spool.greet(self)

    def peek(self) -> memoryview:
        spool = self.spool
        if self.position < spool.head:
            view = spool.bytes_at(self)
            if view:
                return view
        spool.starve(self)
        return EMPTY

    def advance(self, n: int) -> None:
        self.position += n
        self.spool.advanced(self, n)

    def close(self) -> None:
        self.sink = None
        self.spool.closed(self)


@implementer(ISpool)
class Spool:
    """The readers and the ends of one body; ``base`` and ``head`` as in ``ISpool``."""

    base: int = 0
    head: int = 0

    def __init__(self) -> None:
        self.whole = False
        self.error: BeamError | None = None
        self._released = False
        self._readers: dict[Reader, None] = {}
        self._starved: dict[Reader, None] = {}
        self._producer: IPushProducer | None = None
        self._paused = False

    # What a store says about its bytes.

    def room(self) -> memoryview:
        """See ``ISpool.room``."""
        raise NotImplementedError

    def overwritten(self, n: int) -> None:
        """See ``ISpool.overwritten``; here nothing was in that place."""

    def take(self, n: int) -> None:
        """``n`` bytes of the last ``room`` are in: move ``head``."""
        raise NotImplementedError

    def bytes_at(self, reader: Reader) -> memoryview:
        """The bytes at ``reader.position``, which is below ``head``; empty if they are not at hand yet."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Nobody reads and nobody will: free everything.  Called once."""

    def has_room(self) -> bool:
        """Whether ``room`` would be worth a call."""
        return len(self.room()) > 0

    def secured(self) -> Deferred[None]:
        """Fires when the whole body is where the store wants it."""
        return succeed(None)

    def cursor(self, position: int) -> Cursor | None:
        """A place in the window for a reader that the sender has to wait for."""
        return None

    # The producer's side.

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming, "a spool is filled by a push producer"
        self._producer = producer
        self._paused = False

    def unregisterProducer(self) -> None:
        self._producer = None

    def commit(self, n: int) -> None:
        self.take(n)
        self.wake_all()
        if self._producer is not None and not self.has_room():
            self._paused = True
            self._producer.pauseProducing()

    @property
    def paused(self) -> bool:
        """Whether the producer has to wait for room."""
        return self._paused

    def finish(self) -> Deferred[None]:
        self.whole = True
        self.unregisterProducer()
        self._starved.clear()
        for reader in list(self._readers):
            if reader.position >= self.head:  # the others reach the end later
                self.wake(reader)
        return self.secured()

    def abort(self, error: BeamError) -> None:
        self.error = error
        self.unregisterProducer()
        for reader in list(self._readers):
            self.fail(reader, error)
        self.release()

    # The readers' side.

    def open(self, position: int, holds: bool) -> Reader:
        if position < self.base or self._released:
            raise self.gone()
        reader = Reader(self, position, self.cursor(min(position, self.head)) if holds else None)
        self._readers[reader] = None
        return reader

    @staticmethod
    def gone() -> Gone:
        """What a reader hears who asks for bytes that are no longer here."""
        return Gone("These bytes are no longer here; ask the sender to send the file again.")

    def release(self) -> None:
        if not self._released:
            self._released = True
            if not self._readers:
                self.let_go()

    def greet(self, reader: Reader) -> None:
        """Tell a new reader what is already so."""
        if self.error is not None:
            self.fail(reader, self.error)
        else:
            self.wake(reader)
            self.resume()  # a sender that waited for a receiver goes on

    def starve(self, reader: Reader) -> None:
        """``reader`` found nothing: it is told when there is something."""
        self._starved[reader] = None

    def wake_all(self) -> None:
        """Tell those that found nothing to look again."""
        starved, self._starved = self._starved, {}
        for reader in starved:
            self.wake(reader)

    def wake(self, reader: Reader) -> None:
        """Tell ``reader`` to look again, or that this was all."""
        if reader.sink is None:
            return
        if reader.position < self.head:
            reader.sink.bytes_available()
        elif not self.whole:
            self.starve(reader)
        elif reader.position > self.head:
            text = f"The range begins beyond the end; the file has {self.head} bytes."
            self.fail(reader, RangeNotSatisfiable(text, {"content-range": f"bytes */{self.head}"}))
        else:
            sink, reader.sink = reader.sink, None
            sink.body_complete()

    def advanced(self, reader: Reader, n: int) -> None:
        """``reader`` took ``n`` bytes."""
        if self.whole and reader.position >= self.head:
            self.wake(reader)
        self.resume()

    def resume(self) -> None:
        """Let the producer go on if it waits and there is room."""
        if self._paused and self._producer is not None and self.has_room():
            self._paused = False
            self._producer.resumeProducing()

    def fail(self, reader: Reader, error: BeamError) -> None:
        """Cut ``reader``."""
        sink = reader.sink
        reader.close()
        if sink is not None:
            sink.body_failed(error)

    def closed(self, reader: Reader) -> None:
        """``reader`` is gone."""
        if reader in self._readers:
            del self._readers[reader]
            if self._released and not self._readers:
                self.let_go()
            else:
                self.resume()
