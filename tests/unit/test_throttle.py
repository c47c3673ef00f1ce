"""Ends that are held back: the line at a gate, readers and spools with a pace, and what is left of them."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from unit.actors import Stage
from zope.interface import implementer
from zope.interface.verify import verifyObject

from beam.errors import Outcome, SenderLost
from beam.interfaces import IIntake, IReader, ISink, ISpool
from beam.paced import PacedIntake, PacedReader
from beam.policy import Policy
from beam.quota import Quota
from beam.store.memory import MemoryStore
from beam.testing import Rehearsal, some_bytes
from beam.throttle import UNIX, Shaper, Throttle

RATE = 100_000  # bytes per second
BURST = 32 << 10
STEP = 16 << 10
BOTH = Policy(bandwidth=RATE, bandwidth_per_address=2 * RATE)


@frozen
class Request:
    """Who asks."""

    channel: object
    peer: str


class House:
    """A clock and a shaper; after each test nothing may be left of them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.shaper = Shaper(self.clock)
        self.throttles: list[Throttle] = []

    def throttle(self, policy: Policy = BOTH, connection: object = None, address: str = "192.0.2.1") -> Throttle:
        """One that holds something back."""
        found = self.shaper.throttle(policy, Request(connection or object(), address))
        assert found is not None
        self.throttles.append(found)
        return found

    def run(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def check_empty(self) -> None:
        """Everybody is gone; a moment later nothing is left."""
        for throttle in self.throttles:
            throttle.close()
            throttle.close()
        assert len(self.clock.getDelayedCalls()) <= 2 * len(self.throttles)
        self.run(3000, 500)
        assert len(self.shaper) == 0
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def house() -> Any:
    """Checked behind the test."""
    made = House()
    yield made
    made.check_empty()


def greedy(throttle: Throttle, moved: list[int], most: int = 1 << 40) -> Callable[[], None]:
    """An end that moves all it may; how much is in ``moved``."""

    def move() -> None:
        while n := min(most, throttle.allowance()):
            throttle.take(n)
            moved.append(n)

    throttle.go_on = move
    return move


def test_without_a_rate_nothing_is_made(house: House) -> None:
    """Nothing costs where nothing is asked for; a UNIX socket has no address."""
    assert house.shaper.throttle(Policy(), Request(object(), "192.0.2.1")) is None
    assert house.shaper.throttle(Policy(bandwidth_per_address=1), Request(object(), UNIX)) is None
    assert house.shaper.throttle(Policy(bandwidth=1), Request(object(), UNIX)) is not None
    assert len(house.shaper) == 1
    house.shaper = Shaper(house.clock)


def test_one_connection_keeps_its_pace(house: House) -> None:
    """A burst at once, then the pace, in steps that are worth a wake-up."""
    moved: list[int] = []
    greedy(house.throttle(), moved)()
    assert sum(moved) == BURST
    house.run(10)
    assert 9.5 * RATE <= sum(moved) <= 10 * RATE + BURST
    assert len(moved) < 10 * 20 + 2


def test_connections_of_one_address_share(house: House) -> None:
    """Four get what the address may have, each as much as the others; another address has its own."""
    moved: list[list[int]] = [[] for _ in range(5)]
    for i, each in enumerate(moved):
        greedy(house.throttle(address=f"192.0.2.{i // 4}"), each)()
    house.run(20)
    sums = [sum(each) for each in moved]
    assert 19 * 2 * RATE <= sum(sums[:4]) <= 20 * 2 * RATE + 2 * BURST
    assert max(sums[:4]) - min(sums[:4]) <= 3 * STEP
    assert sums[4] >= 19 * RATE


@given(
    ends=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40_000), st.floats(0.001, 0.5)), max_size=60),
)
def test_no_connection_and_no_address_is_faster(
    ends: list[tuple[int, int]], steps: list[tuple[int, int, float]]
) -> None:
    """Whoever takes what and when; and what is left untaken is lost to nobody."""
    house = House()
    throttles = [house.throttle(connection=(c, a), address=str(a)) for c, a in ends]
    sums = [0] * len(ends)
    for who, n, gap in steps:
        throttle = throttles[who % len(ends)]
        n = min(n, throttle.allowance())
        throttle.take(n)
        sums[who % len(ends)] += n
        house.clock.advance(gap)
    passed = house.clock.seconds()
    for each in set(ends):
        assert sum(n for end, n in zip(ends, sums, strict=True) if end == each) <= passed * RATE + BURST + 1
    for address in (0, 1):
        assert sum(n for end, n in zip(ends, sums, strict=True) if end[1] == address) <= passed * 2 * RATE + BURST + 1
    house.check_empty()


def test_who_leaves_gives_back_what_was_not_moved(house: House) -> None:
    """An end of one byte costs the address one byte; who comes back on the same connection finds no new burst."""
    connection = object()
    for _ in range(100):
        throttle = house.throttle(connection=connection)
        assert throttle.allowance() > 0
        throttle.take(1)
        throttle.close()
    throttle = house.throttle(connection=connection)
    while n := throttle.allowance():
        throttle.take(n)
    throttle.close()
    assert house.throttle(connection=connection).allowance() == 0


def test_who_leaves_the_line_is_not_served(house: House) -> None:
    """And those behind it are."""
    first, second, third = (house.throttle() for _ in range(3))
    told: list[str] = []
    for name, each in (("first", first), ("second", second), ("third", third)):
        each.take(each.allowance())
        each.allowance()
        each.go_on = lambda name=name: told.append(name)  # type: ignore[misc]
    second.close()
    house.run(2)
    assert sorted(told) == ["first", "third"]
    assert [first.was_held(), first.was_held()] == [True, False]


@given(data=st.binary(min_size=1, max_size=200), rate=st.integers(20, 100))
def test_the_slowest_pace_moves(data: bytes, rate: int) -> None:
    """Some bytes a second are a pace, too."""
    house = House()
    moved: list[int] = []
    throttle = house.throttle(Policy(bandwidth=rate))
    throttle.take(throttle.allowance())
    greedy(throttle, moved)()
    house.run(len(data) / rate + 1, 0.1)
    assert sum(moved) >= len(data)
    house.check_empty()


# Readers and spools.


@implementer(ISink)
class Sink:
    """Takes all that there is."""

    def __init__(self, reader: IReader) -> None:
        self.reader = reader
        self.got = bytearray()
        self.told = 0
        self.end: list[object] = []
        reader.attach(self)

    def bytes_available(self) -> None:
        assert not self.end
        self.told += 1
        while view := self.reader.peek():
            self.got += view
            self.reader.advance(len(view))

    def body_complete(self) -> None:
        assert not self.end
        self.end.append("complete")

    def body_failed(self, error: Exception) -> None:
        assert not self.end
        self.end.append(error)


def store() -> MemoryStore:
    """Rings that hold less than the bodies."""
    return MemoryStore(Quota(64 << 20), 256 << 10, 256 << 10)


def test_the_wrappers_provide_their_interfaces(house: House) -> None:
    """Of both sides."""
    spool = store().create(None, lambda error: None)
    reader = PacedReader(spool.open(0, True), house.throttle())
    verifyObject(IReader, reader)
    verifyObject(ISink, reader)
    paced = PacedIntake(spool, house.throttle())
    verifyObject(IIntake, paced)
    verifyObject(IPushProducer, paced)
    spool.abort(SenderLost("x"))


class Shaped:
    """``spool``, which is filled by way of ``intake``."""

    def __init__(self, intake: IIntake, spool: ISpool) -> None:
        self.intake = intake
        self.spool = spool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.intake if name in IIntake else self.spool, name)


@pytest.mark.parametrize("held", ["receiver", "sender", "both"])
def test_everything_comes_through_at_the_pace(house: House, held: str) -> None:
    """Held back on either side, in time, whole, and each hears its end once."""
    data = some_bytes(1 << 20)
    memory = store()
    throttle = house.throttle(Policy(bandwidth=RATE))

    class Paced(MemoryStore):
        def create(self, length: int | None, failed: Any) -> Any:
            spool = memory.create(length, failed)
            return spool if held == "receiver" else Shaped(PacedIntake(spool, throttle), spool)

    rehearsal = Rehearsal(Paced(Quota(0), 0, 0), data)
    reader: IReader = rehearsal.spool.open(0, True)
    if held != "sender":
        reader = PacedReader(reader, house.throttle(Policy(bandwidth=RATE)))
    sink = Sink(reader)
    rehearsal.feed()
    house.run(0.9 * len(data) / RATE)
    assert not sink.end
    assert 0.85 * len(data) < len(sink.got) <= 0.9 * len(data) + BURST
    house.run(0.15 * len(data) / RATE)
    rehearsal.finish()
    house.run(0.05 * len(data) / RATE)
    assert bytes(sink.got) == data
    assert sink.end == ["complete"]
    assert sink.told < 25 * len(data) / RATE
    reader.close()
    rehearsal.spool.release()


def test_a_reader_that_is_held_hears_of_the_end_once(house: House) -> None:
    """The pace calls nobody behind it."""
    rehearsal = Rehearsal(store(), some_bytes(200_000))
    reader = PacedReader(rehearsal.spool.open(0, True), house.throttle())
    sink = Sink(reader)
    rehearsal.feed()
    assert 0 < len(sink.got) < 200_000
    assert reader.was_held()
    error = SenderLost("gone")
    rehearsal.abort(error)
    told = sink.told
    house.run(3)
    assert sink.end == [error]
    assert sink.told == told
    reader.close()


def test_a_reader_that_has_caught_up_is_not_held(house: House) -> None:
    """It waits for the sender, and not for the pace."""
    rehearsal = Rehearsal(store(), some_bytes(1000))
    reader = PacedReader(rehearsal.spool.open(0, True), house.throttle())
    sink = Sink(reader)
    rehearsal.feed(500)
    assert len(sink.got) == 500
    house.run(1)
    assert not reader.was_held()
    rehearsal.abort(SenderLost("x"))
    reader.close()


def test_a_sender_that_has_left_is_asked_for_nothing(house: House) -> None:
    """While the spool waits for another one, which has the pace of its own connection."""
    spool = store().create(None, lambda error: None)
    asked: list[str] = []

    @implementer(IPushProducer)
    class Producer:
        def __init__(self, name: str) -> None:
            self.name = name

        def pauseProducing(self) -> None:
            asked.append(f"{self.name} pause")

        def resumeProducing(self) -> None:
            asked.append(f"{self.name} resume")

        def stopProducing(self) -> None:
            asked.append(f"{self.name} stop")

    first = PacedIntake(spool, house.throttle(Policy(bandwidth=RATE)))
    first.registerProducer(Producer("first"), True)
    n = len(first.room())
    first.commit(n)
    assert asked == ["first pause"] and first.paused and n == BURST
    assert not first.room()
    second = PacedIntake(spool, house.throttle(Policy(bandwidth=RATE)))
    second.registerProducer(Producer("second"), True)
    first.close()
    house.run(1)
    assert asked == ["first pause"]
    assert not second.paused and len(second.room()) == BURST
    second.commit(len(second.room()))
    assert second.was_held()
    house.run(1)
    assert asked == ["first pause", "second pause", "second resume"]
    while view := second.room():
        second.commit(len(view))
    assert not second.room()
    asked.clear()
    second.unregisterProducer()
    house.run(1)
    assert asked == []
    spool.abort(SenderLost("x"))


def test_the_room_and_the_pace_both_hold(house: House) -> None:
    """A sender goes on when there is room and credit, whichever comes last."""
    memory = MemoryStore(Quota(64 << 20), 256 << 10, 0)
    spool = memory.create(None, lambda error: None)
    reader = spool.open(0, True)
    throttle = house.throttle(Policy(bandwidth=10 << 20))
    paced = PacedIntake(spool, throttle)
    log: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            log.append("pause")

        def resumeProducing(self) -> None:
            log.append("resume")

        def stopProducing(self) -> None:
            """Nothing."""

    producer: Any = Producer()
    paced.registerProducer(producer, True)
    while view := paced.room():
        paced.commit(len(view))
    assert spool.head == 256 << 10 and log == ["pause"], "the ring is full"
    house.run(1)
    assert log == ["pause"]
    while n := throttle.allowance():
        throttle.take(n)
    reader.advance(256 << 10)
    assert log[-1] == "resume"
    assert not paced.room() and paced.paused
    before = list(log)
    paced.resumeProducing()
    assert log == before, "there is room, and no credit"
    house.run(1)
    assert log == [*before, "resume"]
    spool.abort(SenderLost("x"))


def test_what_an_intake_takes_back(house: House) -> None:
    """Its gate goes with it, and with what it had of it; what is overwritten is told to what lies behind."""
    spool = Mock()
    paced = PacedIntake(spool, house.throttle(Policy(bandwidth=RATE)))
    paced.overwritten(7)
    spool.overwritten.assert_called_once_with(7)
    assert len(house.shaper) == 1
    paced.close()
    paced.close()
    house.run(3, 1)
    assert len(house.shaper) == 0


# Patience.


def test_a_sender_that_is_held_is_not_idle() -> None:
    """However long; once it is not held any more its time begins."""
    stage = Stage()
    sender = stage.offer()
    receiver = stage.receive()
    sender.send(10)
    sender.held = True
    stage.wait(10 * stage.policy.idle_timeout)
    assert sender.lives
    sender.held = False
    stage.wait(2 * stage.policy.idle_timeout)
    assert stage.outcomes() == [Outcome.SENDER_IDLE]
    assert receiver.over
    stage.check_empty()


@pytest.mark.parametrize("receivers", [1, 2])
def test_a_receiver_that_is_held_is_neither_idle_nor_too_slow(house: House, receivers: int) -> None:
    """Nor while others wait for it; once it is not held any more its time begins."""
    stage = Stage()
    sender = stage.offer()
    for _ in range(receivers):
        receiver = stage.receive(eager=False)
        assert receiver.delivery is not None
        throttle = house.throttle(Policy(bandwidth=RATE))
        while n := throttle.allowance():
            throttle.take(n)
        receiver.delivery.reader = PacedReader(receiver.delivery.reader, throttle)
    sender.send()
    stage.wait(10 * stage.policy.idle_timeout)  # on a clock that is not the pace's
    assert all(each.was_cut is None for each in stage.receivers)
    house.run(2)
    stage.wait(2 * stage.policy.idle_timeout)
    assert all(each.was_cut is not None for each in stage.receivers)
    stage.wait(stage.policy.resume_timeout)
    stage.check_empty()
