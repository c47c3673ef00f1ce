"""Ends with a pace: what stands before a receiver's reader and before what a sender fills, if a connection has one.

Both show no more of what is behind them than their ``Throttle`` has credit for; the ends know nothing of it.
"""

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.errors import BeamError
from beam.interfaces import IIntake, IReader, ISink
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


@implementer(IIntake, IPushProducer)
class PacedIntake:
    """A sender's view of what it fills, with no more room than ``throttle`` allows.

    Several may follow each other before one intake; each is closed when its sender has sent what it has to send.
    """

    def __init__(self, intake: IIntake, throttle: Throttle) -> None:
        self._intake = intake
        self._throttle = throttle
        self._producer: IPushProducer | None = None
        self._held = False  # whether the producer was paused for the pace
        throttle.go_on = self._go_on

    @property
    def head(self) -> int:
        return self._intake.head

    @property
    def paused(self) -> bool:
        """Whether the producer has to wait, for room or for the pace."""
        return self._held or self._intake.paused

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self._producer = producer
        self._intake.registerProducer(self, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self._intake.unregisterProducer()

    def room(self) -> memoryview:
        view = self._intake.room()
        if not view:
            return view
        n = self._throttle.allowance()
        self._held = not n
        return view[:n]

    def overwritten(self, n: int) -> None:
        self._intake.overwritten(n)

    def commit(self, n: int) -> None:
        self._throttle.take(n)
        self._intake.commit(n)
        if self._producer is not None and not self._intake.paused and not self._throttle.allowance():
            self._held = True
            self._producer.pauseProducing()

    def was_held(self) -> bool:
        """See ``Throttle.was_held``."""
        return self._throttle.was_held()

    def close(self) -> None:
        """This sender is done, or gone; what it filled stays as it is.  May be called again."""
        self._producer = None
        self._throttle.close()

    def _go_on(self) -> None:
        held, self._held = self._held, False
        if held and self._producer is not None and not self._intake.paused:
            self._producer.resumeProducing()

    # As the producer of the intake.

    def pauseProducing(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        if self._producer is not None and not self._held:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Whoever fills hears of the end from the broker."""
