"""Those who use a store in its tests: a producer that sends, sinks that drain, and their patience.

``Rehearsal`` and ``Drain`` keep every rule of ``beam.interfaces`` themselves, and complain when a store breaks one.
"""

import random
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from beam.errors import BeamError
from beam.interfaces import IReader, ISink, ISpool, IStore
from beam.store import House

MEMORY = 16 << 20  # bytes that the rings of a store under test may share
PATIENCE = 10.0  # seconds for which an event is waited for


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the reactor run until ``condition`` holds.

    :param what: is waited for, as the failure tells it.
    :raises AssertionError: it did not come within ``PATIENCE`` seconds.
    """
    from twisted.internet import reactor

    clock: Any = reactor
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:g} s in vain: {what}"
        await deferLater(clock, 0.001)


def some_bytes(n: int, seed: int = 0) -> bytes:
    """``n`` bytes of which no two stretches are alike."""
    return random.Random(seed).randbytes(n)


@implementer(ISink)
class Drain:
    """Takes what a reader gives, and checks it.

    :param eager: take everything as soon as it is told of; otherwise only when ``take`` is called.
    :param pace: bytes that it takes at a time.
    """

    def __init__(self, rehearsal: "Rehearsal", reader: IReader, eager: bool, pace: int) -> None:
        self.rehearsal = rehearsal
        self.reader = reader
        self.eager = eager
        self.pace = pace
        self.start = reader.position
        self.got = bytearray()
        self.told = 0  # how often it was told of bytes
        self.complete = False
        self.error: BeamError | None = None
        self.closed = False
        self.on_bytes: Callable[[], object] = lambda: None
        self.on_end: Callable[[], object] = lambda: None

    @property
    def ended(self) -> bool:
        """Whether it was told of the end, or has left."""
        return self.complete or self.error is not None or self.closed

    @property
    def everything(self) -> bytes:
        """What it gets if it gets all."""
        return self.rehearsal.data[self.start :]

    def _called(self) -> None:
        assert not self.complete and self.error is None, "a sink is told nothing more after its end"
        assert not self.closed, "a sink is told nothing more after its reader was closed"

    def bytes_available(self) -> None:
        self._called()
        self.told += 1
        self.on_bytes()
        if self.eager and not self.ended:
            self.take()

    def body_complete(self) -> None:
        self._called()
        assert self.rehearsal.finished is not None, "the end was told and the body is not whole"
        assert self.reader.position == len(self.rehearsal.data), "the end was told before the last byte was taken"
        assert bytes(self.got) == self.everything, "the end was told and some byte is missing"
        self.complete = True
        self.on_end()

    def body_failed(self, error: BeamError) -> None:
        self._called()
        assert isinstance(error, BeamError), "an error is a BeamError"
        self.error = error
        self.on_end()

    def take(self, most: int | None = None) -> int:
        """Take what is there, ``most`` bytes at most; how many there were."""
        taken = 0
        while not self.ended and (most is None or taken < most):
            view = self.reader.peek()
            if not view:
                break
            piece = bytes(view[: self.pace if most is None else min(self.pace, most - taken)])
            at = self.start + len(self.got)
            assert at == self.reader.position, "a reader's position moves by what was taken"
            assert piece == self.rehearsal.data[at : at + len(piece)], f"other bytes came out at {at} than went in"
            self.got += piece
            taken += len(piece)
            self.reader.advance(len(piece))
        return taken

    async def gets(self, n: int) -> None:
        """Wait until it has ``n`` bytes and no more."""
        await until(lambda: len(self.got) >= n, f"the first {n} bytes")
        assert len(self.got) == n

    async def takes(self, n: int) -> None:
        """Take bytes until it has ``n``."""

        def took() -> bool:
            self.take(n - len(self.got))
            return len(self.got) == n

        await until(took, f"the first {n} bytes to take")

    def close(self) -> None:
        """Leave."""
        self.closed = True
        self.reader.close()


@implementer(IPushProducer)
class Rehearsal:
    """One body on its way through a store: a producer that keeps the rules, and the readers that it meets.

    :param data: the body.
    :param step: bytes that are committed at a time at most.
    :param known: whether the store is told the length.
    """

    def __init__(self, store: IStore, data: bytes, step: int = 1 << 16, known: bool = True) -> None:
        self.data = data
        self.step = step
        self.failures: list[BeamError] = []
        self.spool: ISpool = store.create(len(data) if known else None, self.failures.append)
        self.sent = 0
        self.upto = 0
        self.waits = False
        self.pauses = 0
        self.finished: Deferred[None] | None = None
        self.safe = False
        self.aborted = False
        self.over = False  # finished or aborted
        self.drains: list[Drain] = []
        self.spool.registerProducer(self, True)

    def feed(self, upto: int | None = None) -> None:
        """Send on, to the offset ``upto`` or to the end; what the spool has no room for goes when it has."""
        self.upto = len(self.data) if upto is None else min(upto, len(self.data))
        self._go_on()

    def _go_on(self) -> None:
        while self.sent < self.upto and not self.waits and not self.over and not self.failures:
            room = self.spool.room()
            if not room:
                assert self.spool.paused, "there is no room, and yet the producer need not wait"
                self.waits = True
                return
            n = min(len(room), self.step, self.upto - self.sent)
            room[:n] = self.data[self.sent : self.sent + n]
            self.sent += n
            self.spool.commit(n)
            self.check()

    def check(self) -> None:
        """What holds at any time."""
        spool = self.spool
        assert self.over or self.failures or spool.head == self.sent, "head moves by what was committed"
        assert 0 <= spool.base <= spool.head

    def pauseProducing(self) -> None:
        assert self.spool.paused, "paused says what the producer was told"
        self.waits = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        assert not self.over, "a spool that has ended asks for nothing more"
        assert not self.spool.paused, "paused says what the producer was told"
        self.waits = False
        self._go_on()

    def stopProducing(self) -> None:
        self.waits = True

    async def feed_to(self, upto: int) -> None:
        """Send on, and wait until the spool has had room for it."""
        self.feed(upto)
        await until(lambda: self.sent >= upto, f"room for the first {upto} bytes")

    async def feed_all(self) -> None:
        """Send everything."""
        await self.feed_to(len(self.data))

    def finish(self) -> None:
        """Say that the body is whole."""
        assert self.sent == len(self.data)
        self.over = True
        # Set before the call, which may tell readers of the end.
        self.finished = Deferred()
        self.spool.finish().chainDeferred(self.finished)
        self.finished.addCallback(self._is_safe)

    def _is_safe(self, result: None) -> None:
        assert result is None
        self.safe = True

    async def finish_safely(self) -> None:
        """Say that the body is whole, and wait until the store has it in safety."""
        self.finish()
        await until(lambda: self.safe, "the Deferred of finish")

    def abort(self, error: BeamError) -> None:
        """Say that the body will never be whole."""
        self.over = self.aborted = True
        self.spool.abort(error)

    def open(
        self, position: int = 0, eager: bool = True, pace: int = 1 << 20, holds: bool = True, attach: bool = True
    ) -> Drain:
        """A reader at ``position`` with a sink on it.

        :raises Gone: the store has these bytes no more.
        """
        reader = self.spool.open(position, holds)
        assert reader.position == position
        drain = Drain(self, reader, eager, pace)
        self.drains.append(drain)
        if attach:
            reader.attach(drain)
        return drain

    async def close(self) -> None:
        """Close every reader, and let the spool go: once the store has the body in safety, if it is whole."""
        if self.finished is not None and not self.aborted:
            await until(lambda: self.safe, "the Deferred of finish")
        for drain in self.drains:
            drain.close()
        self.spool.release()


@define(eq=False)
class Bench:
    """A started store, and what the house gives it."""

    store: IStore
    house: House
    rehearsals: list[Rehearsal] = field(init=False, factory=list)

    def rehearse(self, data: bytes, step: int = 1 << 16, known: bool = True) -> Rehearsal:
        """Begin to send ``data``."""
        self.rehearsals.append(Rehearsal(self.store, data, step, known))
        return self.rehearsals[-1]

    async def everything_is_back(self) -> None:
        """Wait until nothing counts against any quota."""
        await until(
            lambda: self.store.usage() == 0 and self.house.memory.used == 0,
            f"usage() is {self.store.usage()}, and {self.house.memory.used} bytes of the house's memory are used",
        )
