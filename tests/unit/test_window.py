"""Flow control: how far a sender may run ahead, checked against a plain list of the bytes that were sent."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from beam.window import Cursor, Window


class WindowMachine(RuleBasedStateMachine):
    """A window over a real ring, beside the whole body as it was sent."""

    @initialize(capacity=st.integers(1, 40), lead=st.integers(1, 60), origin=st.sampled_from([0, 0, 1, 7, 40, 1000]))
    def begin(self, capacity: int, lead: int, origin: int) -> None:
        self.window = Window(capacity, lead, origin)
        self.ring = bytearray(200)  # as large as it can become
        self.origin = origin
        self.sent = bytearray(origin)  # what lies before the origin came elsewhere
        self.cursors: dict[Cursor, int] = {}
        self.place: int | None = None  # where the slowest is, or the last one was

    def room(self) -> int:
        """The rules, written once more."""
        if self.place is None:
            return self.window.capacity + self.origin - len(self.sent)
        ahead = len(self.sent) - self.place
        return max(0, min(self.window.lead, self.window.capacity) - ahead)

    def place_of(self, position: int) -> int:
        """Where in the ring a byte of the body is."""
        return (position - self.origin) % self.window.capacity

    def moved(self) -> None:
        if self.cursors:
            self.place = min(self.cursors.values())

    @rule(data=st.binary(min_size=1, max_size=50))
    def commit(self, data: bytes) -> None:
        data = data[: self.window.room]
        for byte in data:
            self.ring[self.place_of(len(self.sent))] = byte
            self.sent.append(byte)
        self.window.commit(len(data))

    @rule()
    def commit_all(self) -> None:
        self.commit(bytes(i % 251 for i in range(self.window.room)))
        assert self.window.room == 0

    @rule(more=st.integers(1, 5))
    def commit_too_much(self, more: int) -> None:
        with pytest.raises(AssertionError):
            self.window.commit(self.window.room + more)

    @precondition(lambda self: len(self.cursors) < 4)
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(self.window.base, self.window.head))
        cursor = self.window.open(position)
        assert cursor.position == position
        self.cursors[cursor] = position
        self.moved()

    @rule(off=st.integers(1, 5))
    def open_outside(self, off: int) -> None:
        for position in (self.window.base - off, self.window.head + off):
            with pytest.raises(AssertionError):
                self.window.open(position)

    @precondition(lambda self: self.cursors)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        cursor = data.draw(st.sampled_from(list(self.cursors)))
        n = data.draw(st.integers(0, self.window.head - cursor.position))
        self.window.advance(cursor, n)
        self.cursors[cursor] += n
        self.moved()

    @precondition(lambda self: self.cursors)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        cursor = data.draw(st.sampled_from(list(self.cursors)))
        self.window.close(cursor)
        del self.cursors[cursor]
        self.moved()

    @precondition(lambda self: self.window.came <= self.window.capacity < 150)
    @rule(step=st.integers(1, 40))
    def grow(self, step: int) -> None:
        self.window.capacity += step

    @invariant()
    def numbers_hold(self) -> None:
        window = self.window
        assert window.head == len(self.sent)
        assert window.came == len(self.sent) - self.origin
        assert self.origin <= window.base <= window.head <= window.base + window.capacity
        assert window.slowest == self.place
        assert window.room == self.room() >= 0
        for cursor, position in self.cursors.items():
            assert window.base <= cursor.position == position <= window.head
        if self.place is not None:
            assert window.base <= self.place, "who comes back misses nothing"
            assert window.head + window.room <= self.place + window.capacity, "a byte that is wanted is overwritten"

    @invariant()
    def bytes_hold(self) -> None:
        for position in range(self.window.base, self.window.head):
            assert self.ring[self.place_of(position)] == self.sent[position]


WindowMachine.TestCase.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)
TestWindow = WindowMachine.TestCase


@given(capacity=st.integers(1, 1000), lead=st.integers(1, 1000))
def test_history_stays_behind_the_slowest(capacity: int, lead: int) -> None:
    """A sender that runs as far ahead as it may leaves ``capacity - lead`` bytes behind the slowest cursor."""
    window = Window(capacity, lead)
    cursor = window.open(0)
    for _ in range(4):
        window.commit(window.room)
        window.advance(cursor, window.head - cursor.position)
        window.commit(window.room)
        assert window.head - cursor.position == min(lead, capacity)
        history = min(cursor.position, max(0, capacity - lead))
        assert cursor.position - window.base == history


def test_a_cursor_cannot_pass_the_head() -> None:
    """Bytes that have not come cannot be taken."""
    window = Window(10, 10)
    cursor = window.open(0)
    window.commit(3)
    with pytest.raises(AssertionError):
        window.advance(cursor, 4)


def test_the_ring_fills_before_the_first_cursor() -> None:
    """Nobody is there: the sender may fill the ring, not only the window."""
    window = Window(16, 4)
    assert window.room == 16
    window.commit(16)
    assert window.room == 0
    window.advance(window.open(0), 13)
    assert window.room == 1


def test_one_that_comes_back_further_on_is_the_slowest_then() -> None:
    """The place of the last one that left holds until somebody comes, wherever that is."""
    window = Window(16, 8)
    cursor = window.open(0)
    window.commit(8)
    window.close(cursor)
    assert (window.slowest, window.room) == (0, 0)
    window.open(6)
    assert (window.slowest, window.room) == (6, 6)
