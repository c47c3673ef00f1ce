"""The producer end of a download: feeds any ``IConsumer`` from a reader, at the consumer's pace."""

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from beam.errors import BeamError, RangeNotSatisfiable
from beam.interfaces import IReader, ISink

WRITE = 112 << 10  # bytes a write; above 128K malloc would map and unmap each

T = TypeVar("T")


@implementer(IPushProducer, ISink)
class SpoolProducer:
    """Copies what ``reader`` has into a consumer.

    :param limit: bytes to give at most, or ``None`` for all.
    """

    def __init__(self, reader: IReader, limit: int | None = None) -> None:
        self._reader = reader
        self._missing = limit
        self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred()

    def feed(self, consumer: IConsumer) -> Deferred[None]:
        """Register with ``consumer`` and begin; see ``startProducing``."""
        consumer.registerProducer(self, True)

        def leave(result: T) -> T:
            consumer.unregisterProducer()
            return result

        return self.startProducing(consumer).addBoth(leave)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Begin.  Fires with ``None`` after the last write; fails with the ``BeamError`` that cut the body short.

        Whoever calls this has registered us already, as ``twisted.web.iweb.IBodyProducer`` has it.
        """
        self._consumer = consumer
        if self._missing == 0:
            self.body_complete()
        else:
            self._reader.attach(self)
        return self._done

    def bytes_available(self) -> None:
        while self._consumer is not None and not self._paused:
            view = self._reader.peek()
            if not view:
                return
            data = bytes(view[: WRITE if self._missing is None else min(WRITE, self._missing)])
            self._consumer.write(data)
            if self._missing is not None:
                self._missing -= len(data)
            self._reader.advance(len(data))
            if self._missing == 0 and self._consumer is not None:
                self.body_complete()

    def body_complete(self) -> None:
        if self._missing:
            self.body_failed(RangeNotSatisfiable("The file ended before the range did."))
        elif self._end():
            self._done.callback(None)

    def body_failed(self, error: BeamError) -> None:
        if self._end():
            self._done.errback(error)

    def _end(self) -> bool:
        """Leave the consumer; whether we had not: a part may be over long before the body is."""
        consumer, self._consumer = self._consumer, None
        return consumer is not None

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.bytes_available()

    def stopProducing(self) -> None:
        """The consumer is gone; whoever started this hears of it from the connection, and closes the reader."""
        self._paused = True
