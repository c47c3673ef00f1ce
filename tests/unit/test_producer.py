"""The producer end of a download: the consumer's pace, and one answer."""

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from beam.errors import BeamError, RangeNotSatisfiable, SenderLost
from beam.interfaces import ISink
from beam.producer import WRITE, SpoolProducer
from beam.quota import Quota
from beam.store.memory import MemoryStore
from beam.testing import Rehearsal, some_bytes

WINDOW = 64 << 10


@implementer(IConsumer)
class Consumer:
    """Takes ``capacity`` bytes, then pauses the producer until it is emptied."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.buffered = 0
        self.got = bytearray()
        self.producer: IPushProducer | None = None
        self.largest = 0

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        assert self.producer is None and streaming and IPushProducer.providedBy(producer)
        self.producer = producer

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None

    def write(self, data: bytes) -> None:
        assert self.producer is not None, "nothing is written behind the end"
        assert self.buffered < self.capacity, "nothing is written while paused"
        assert data
        self.largest = max(self.largest, len(data))
        self.got += data
        self.buffered += len(data)
        if self.buffered >= self.capacity:
            self.producer.pauseProducing()

    def empty(self) -> None:
        """What was written has gone out."""
        self.buffered = 0
        if self.producer is not None:
            self.producer.resumeProducing()


class Answer:
    """What a ``Deferred`` fired with."""

    def __init__(self, deferred: "Deferred[None]") -> None:
        self.fired = 0
        self.error: BeamError | None = None
        deferred.addCallbacks(self._done, self._failed)

    def _done(self, result: None) -> None:
        assert result is None
        self.fired += 1

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, BeamError)
        self.fired += 1
        self.error = failure.value


@pytest.fixture
def memory() -> Iterator[Quota]:
    """Memory that is all given back in the end."""
    quota = Quota(64 << 20)
    yield quota
    assert quota.used == 0


def rehearse(memory: Quota, data: bytes) -> Rehearsal:
    """``data`` on its way through a ring of twice the window."""
    return Rehearsal(MemoryStore(memory, WINDOW, WINDOW), data, step=10_007)


def finish(rehearsal: Rehearsal) -> None:
    """Release everything, as the broker does."""
    rehearsal.finish()
    rehearsal.spool.release()


def test_provides_its_interfaces(memory: Quota) -> None:
    """It is what Twisted asks for, and what a spool does."""
    rehearsal = rehearse(memory, b"")
    producer = SpoolProducer(rehearsal.spool.open(0, True))
    verifyObject(IPushProducer, producer)
    verifyObject(ISink, producer)
    rehearsal.abort(SenderLost("x"))


@pytest.mark.parametrize("size", [0, 1, 1000, 5 * WINDOW + 1])
@pytest.mark.parametrize("late", [False, True], ids=["from-the-start", "late"])
def test_everything_comes_through(memory: Quota, size: int, late: bool) -> None:
    """All bytes, then the answer, and the consumer is free for the next producer."""
    rehearsal = rehearse(memory, some_bytes(size))
    if late:
        rehearsal.feed(min(size, WINDOW))
    reader, consumer = rehearsal.spool.open(0, True), Consumer()
    answer = Answer(SpoolProducer(reader).feed(consumer))
    rehearsal.feed()
    assert bytes(consumer.got) == rehearsal.data
    assert answer.fired == 0, "more could come"
    finish(rehearsal)
    assert (answer.fired, answer.error, consumer.producer) == (1, None, None)
    reader.close()


@pytest.mark.parametrize("capacity", [1, 1000, WINDOW, 3 * WINDOW])
def test_the_consumer_sets_the_pace(memory: Quota, capacity: int) -> None:
    """A consumer that takes nothing holds the sender, across the spool."""
    rehearsal = rehearse(memory, some_bytes(20 * WINDOW))
    reader, consumer = rehearsal.spool.open(0, True), Consumer(capacity)
    answer = Answer(SpoolProducer(reader).feed(consumer))
    rehearsal.feed()
    assert rehearsal.waits, "the sender has to wait"
    while rehearsal.sent < len(rehearsal.data):
        assert rehearsal.sent - len(consumer.got) <= WINDOW
        before = len(consumer.got)
        consumer.empty()
        assert len(consumer.got) > before
    finish(rehearsal)
    while not answer.fired:
        consumer.empty()
    assert bytes(consumer.got) == rehearsal.data
    assert consumer.largest <= WRITE
    reader.close()


def test_paused_at_the_last_byte(memory: Quota) -> None:
    """A consumer that is full with the last byte hears of the end nevertheless."""
    rehearsal = rehearse(memory, some_bytes(1000))
    reader, consumer = rehearsal.spool.open(0, True), Consumer(1000)
    answer = Answer(SpoolProducer(reader).feed(consumer))
    rehearsal.feed()
    assert len(consumer.got) == 1000
    finish(rehearsal)
    consumer.empty()
    assert (answer.fired, answer.error, consumer.producer) == (1, None, None)
    reader.close()


@pytest.mark.parametrize("capacity", [1, 100, 1 << 30])
@pytest.mark.parametrize(("start", "limit"), [(0, 0), (0, 1), (0, 1000), (10, 500), (999, 1), (0, 999), (1000, 0)])
def test_a_part(memory: Quota, start: int, limit: int, capacity: int) -> None:
    """Not a byte more than was asked for; the answer does not wait for the rest of the body."""
    rehearsal = rehearse(memory, some_bytes(1000))
    rehearsal.feed(min(1000, start + limit))
    reader, consumer = rehearsal.spool.open(start, False), Consumer(capacity)
    answer = Answer(SpoolProducer(reader, limit).feed(consumer))
    while not answer.fired:
        before = len(consumer.got)
        consumer.empty()
        assert len(consumer.got) > before or answer.fired
    assert bytes(consumer.got) == rehearsal.data[start : start + limit]
    assert answer.error is None
    reader.close()
    rehearsal.feed()
    finish(rehearsal)
    assert answer.fired == 1


def test_a_part_that_the_body_does_not_have(memory: Quota) -> None:
    """The body ends before the range does: the receiver is cut, because it was promised more."""
    rehearsal = rehearse(memory, some_bytes(100))
    reader, consumer = rehearsal.spool.open(50, False), Consumer()
    answer = Answer(SpoolProducer(reader, 100).feed(consumer))
    rehearsal.feed()
    finish(rehearsal)
    assert isinstance(answer.error, RangeNotSatisfiable)
    assert (answer.fired, len(consumer.got), consumer.producer) == (1, 50, None)
    reader.close()


@pytest.mark.parametrize("capacity", [10, 1 << 30])
def test_an_abort_cuts_it_short(memory: Quota, capacity: int) -> None:
    """The answer is the error, also for a consumer that is paused; nothing is written after it."""
    rehearsal = rehearse(memory, some_bytes(1000))
    consumer = Consumer(capacity)
    answer = Answer(SpoolProducer(rehearsal.spool.open(0, True)).feed(consumer))
    rehearsal.feed(500)
    got = len(consumer.got)
    error = SenderLost("gone")
    rehearsal.abort(error)
    assert (answer.fired, answer.error, consumer.producer) == (1, error, None)
    consumer.empty()
    assert len(consumer.got) == got


def test_an_abort_behind_a_part(memory: Quota) -> None:
    """A part that was delivered stays delivered, whatever becomes of the transfer before its reader is closed."""
    rehearsal = rehearse(memory, some_bytes(1000))
    rehearsal.feed(500)
    reader = rehearsal.spool.open(0, False)
    answer = Answer(SpoolProducer(reader, 10).feed(Consumer()))
    assert (answer.fired, answer.error) == (1, None)
    rehearsal.abort(SenderLost("gone"))
    assert (answer.fired, answer.error) == (1, None)
    reader.close()


def test_the_end_behind_a_part(memory: Quota) -> None:
    """So does one whose body goes on to its end."""
    rehearsal = rehearse(memory, some_bytes(10))
    rehearsal.feed(10)
    reader = rehearsal.spool.open(0, False)
    answer = Answer(SpoolProducer(reader, 10).feed(Consumer()))
    assert (answer.fired, answer.error) == (1, None)
    finish(rehearsal)
    assert (answer.fired, answer.error) == (1, None)
    reader.close()


def test_a_consumer_that_is_gone(memory: Quota) -> None:
    """Nothing is written to a connection that has closed; its owner closes the reader."""
    rehearsal = rehearse(memory, some_bytes(1000))
    reader, consumer = rehearsal.spool.open(0, True), Consumer()
    producer = SpoolProducer(reader)
    answer = Answer(producer.feed(consumer))
    rehearsal.feed(100)
    producer.stopProducing()
    rehearsal.feed(200)
    assert (len(consumer.got), answer.fired) == (100, 0)
    reader.close()
    rehearsal.abort(SenderLost("gone"))
