"""From one spool into another: all of it, at the pace of the slower one, and no error is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer

from beam.body import Body
from beam.errors import BadRequest, BeamError, Gone, TooLarge
from beam.interfaces import ISink
from beam.pump import Pump
from beam.quota import Quota
from beam.store.memory import RingSpool
from beam.testing import some_bytes

RING = 32
LOST = Gone("lost")


@implementer(ISink)
class Taker:
    """Takes what comes out of a spool, when it is told to."""

    def __init__(self, spool: RingSpool) -> None:
        self.reader = spool.open(0, True)
        self.got = bytearray()
        self.reader.attach(self)

    def take(self, most: int = 1 << 30) -> None:
        """At most so many bytes."""
        piece = bytes(self.reader.peek()[:most])
        self.got += piece
        if piece:
            self.reader.advance(len(piece))

    def bytes_available(self) -> None:
        """They wait."""

    def body_complete(self) -> None:
        raise AssertionError("the pump does not say that a body is whole")

    def body_failed(self, error: BeamError) -> None:
        """It is over."""


class Scene:
    """A pump between two rings, the second of which somebody reads."""

    def __init__(self, n: int, length: int | None = None, limit: int | None = None) -> None:
        self.memory = Quota(1 << 20)
        self.data = some_bytes(n)
        self.sent = 0
        self.source = RingSpool(self.memory, None, RING, 0)
        self.target = RingSpool(self.memory, None, RING, 0)
        self.body = Body(self.target, length, limit, {}, None)
        self.ends: list[BeamError | None] = []
        self.taker = Taker(self.target)
        self.pump = Pump(self.source.open(0, True), self.body, self.ends.append)
        self.pump.start()

    def send(self, most: int = 1 << 30) -> None:
        """Into the first ring, what there is room for."""
        view = self.source.room()
        n = min(len(view), len(self.data) - self.sent, most)
        if n:
            view[:n] = self.data[self.sent : self.sent + n]
            self.sent += n
            self.source.commit(n)

    def close(self) -> None:
        """Nobody reads from the source any more, and no memory is left."""
        for spool in (self.source, self.target):
            spool.release()
        self.taker.reader.close()
        assert self.memory.used == 0, "a reader is still open"


@given(n=st.integers(0, 200), steps=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=9))
def test_everything_comes_over(n: int, steps: list[tuple[int, int]]) -> None:
    """However much comes and is taken at a time; who sends is held back by who takes."""
    scene = Scene(n)
    turn = 0
    while scene.sent < n:
        sends, takes = steps[turn % len(steps)]
        scene.send(sends)
        assert scene.sent - len(scene.taker.got) <= 2 * RING
        scene.taker.take(max(takes, turn % 2))
        turn += 1
    assert scene.ends == []
    scene.source.finish()
    while len(scene.taker.got) < n:
        scene.taker.take()
    assert bytes(scene.taker.got) == scene.data and scene.ends == [None]
    scene.close()


def test_it_waits_for_room() -> None:
    """And goes on when there is some, until the last byte is over."""
    scene = Scene(RING + 8)
    scene.send()
    scene.send()
    scene.source.finish()
    assert scene.target.head == RING and scene.ends == []
    scene.taker.take(RING)
    assert scene.target.head == RING + 8 and scene.ends == [None]
    scene.close()


@pytest.mark.parametrize("waits", ["for bytes", "for room"])
def test_the_source_fails(waits: str) -> None:
    """What came stays in the body; whoever started the pump hears why it is not more."""
    scene = Scene(100)
    scene.send(5 if waits == "for bytes" else 100)
    scene.send(100 if waits == "for room" else 0)
    scene.source.abort(LOST)
    assert scene.ends == [LOST]
    head = scene.target.head
    scene.taker.take()
    assert scene.target.head == head and scene.ends == [LOST]
    scene.close()


def test_the_body_refuses_it() -> None:
    """The source is let go at once."""
    scene = Scene(30, limit=20)
    scene.send()
    (error,) = scene.ends
    assert isinstance(error, TooLarge)
    scene.source.release()
    scene.taker.take()
    assert scene.ends == [error]
    scene.close()


@pytest.mark.parametrize("waits", ["for nothing", "for bytes", "for room"])
def test_it_is_stopped(waits: str) -> None:
    """At any time, and more than once: nothing moves any more, and nobody is told."""
    scene = Scene(100)
    scene.send(5)
    if waits == "for room":
        scene.send()
        scene.send()
        scene.send()
    if waits == "for nothing":
        scene.source.finish()
        assert scene.ends == [None]
    head = scene.target.head
    scene.pump.stopProducing()
    scene.pump.stop()
    scene.send()
    scene.taker.take()
    scene.pump.resumeProducing()
    assert scene.target.head == head
    assert scene.ends == ([None] if waits == "for nothing" else [])
    scene.close()


def test_it_is_stopped_by_what_it_moves() -> None:
    """Whoever gets the bytes may end it."""
    scene = Scene(10)
    scene.taker.reader.peek()
    scene.taker.bytes_available = scene.pump.stop  # type: ignore[method-assign]
    scene.send()
    assert scene.target.head == 10 and scene.ends == []
    scene.source.finish()
    assert scene.ends == []
    scene.close()


@pytest.mark.parametrize("n", [21, 30])
def test_the_source_has_more_than_the_body_may_have(n: int) -> None:
    """It does not wait for room that never comes."""
    scene = Scene(n, length=20)
    scene.send()
    (error,) = scene.ends
    assert isinstance(error, BadRequest)
    scene.close()
