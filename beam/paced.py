"""Ends with a pace: what stands before a receiver's reader and a sender's spool, where a connection has one.

Both show no more of what is behind them than their ``Throttle`` has credit for; the ends know nothing of it.
"""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.errors import BeamError
from beam.interfaces import IReader, ISink, ISpool
from beam.throttle import Throttle

EMPTY = memoryview(b"")


@implementer(IReader, ISink)
class PacedReader:
    """A receiver's reader that shows no more than ``throttle`` allows."""

    def __init__(self, reader: IReader, throttle: Throttle) -> None:
        self._reader = reader
        self._throttle = throttle
        self._sink: ISink | None = None
        throttle.go_on = self.bytes_available

    @property
    def position(self) -> int:
        """Offset of the next byte that this reader gives."""
        return self._reader.position

    def attach(self, sink: ISink) -> None:
        self._sink = sink
        self._reader.attach(self)

    def peek(self) -> memoryview:
        view = self._reader.peek()
        return view[: self._throttle.allowance()] if view else EMPTY

    def advance(self, n: int) -> None:
        self._throttle.take(n)
        self._reader.advance(n)

    def close(self) -> None:
        self._sink = None
        self._throttle.close()
        self._reader.close()

    def was_held(self) -> bool:
        """See ``Throttle.was_held``."""
        return self._throttle.was_held()

    # As the sink of the reader.

    def bytes_available(self) -> None:
        if self._sink is not None:
            self._sink.bytes_available()

    def body_complete(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.body_complete()

    def body_failed(self, error: BeamError) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.body_failed(error)


@implementer(ISpool, IPushProducer)
class PacedSpool:
    """A sender's view of a spool that has no more room than ``throttle`` allows.

    Several may follow each other before one spool; each is closed when its sender has sent what it has to send.
    """

    def __init__(self, spool: ISpool, throttle: Throttle) -> None:
        self._spool = spool
        self._throttle = throttle
        self._producer: IPushProducer | None = None
        self._held = False  # whether the producer was paused for the pace
        throttle.go_on = self._go_on

    @property
    def base(self) -> int:
        return self._spool.base

    @property
    def head(self) -> int:
        return self._spool.head

    @property
    def paused(self) -> bool:
        """Whether the producer has to wait, for room or for the pace."""
        return self._held or self._spool.paused

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self._producer = producer
        self._spool.registerProducer(self, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self._spool.unregisterProducer()

    def room(self) -> memoryview:
        view = self._spool.room()
        if not view:
            return view
        n = self._throttle.allowance()
        self._held = not n
        return view[:n]

    def overwritten(self, n: int) -> None:
        self._spool.overwritten(n)

    def commit(self, n: int) -> None:
        self._throttle.take(n)
        self._spool.commit(n)
        if self._producer is not None and not self._spool.paused and not self._throttle.allowance():
            self._held = True
            self._producer.pauseProducing()

    def finish(self) -> "Deferred[None]":
        self.close()
        return self._spool.finish()

    def abort(self, error: BeamError) -> None:
        self.close()
        self._spool.abort(error)

    def open(self, position: int, holds: bool) -> IReader:
        return self._spool.open(position, holds)

    def release(self) -> None:
        self._spool.release()

    def was_held(self) -> bool:
        """See ``Throttle.was_held``."""
        return self._throttle.was_held()

    def close(self) -> None:
        """This sender is done, or gone; the spool stays as it is.  May be called again."""
        self._producer = None
        self._throttle.close()

    def _go_on(self) -> None:
        held, self._held = self._held, False
        if held and self._producer is not None and not self._spool.paused:
            self._producer.resumeProducing()

    # As the producer of the spool.

    def pauseProducing(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        if self._producer is not None and not self._held:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        if self._producer is not None:
            self._producer.stopProducing()
