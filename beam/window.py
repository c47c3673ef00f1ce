"""Flow control as arithmetic: how far the sender may run ahead of its receivers.

Three rules, all in bytes from the start of the body:

- a ring of ``capacity`` bytes, which begins at ``origin``, holds what lies between ``base = max(origin, head -
  capacity)`` and ``head``, but for what was overwritten by bytes that did not come in, such as the lines between
  chunks;
- the sender waits when ``head`` is ``lead`` ahead of the slowest cursor, so that ``capacity - lead`` bytes of history
  stay behind that cursor for a receiver that has to come back;
- before the first cursor the sender waits when the ring is full; when the last cursor has left, its place goes on
  holding until another one comes.

No bytes live here, no socket and no clock.
"""

from attrs import define, field


@define(eq=False)
class Cursor:
    """The offset of the next byte for one reader that the sender waits for."""

    position: int


@define(eq=False)
class Window:
    """The numbers of one ring.  ``origin <= base <= every cursor <= head <= base + capacity`` at all times.

    :param capacity: bytes that the ring holds; may grow until ``came`` has passed it.
    :param lead: bytes that the sender may be ahead of the slowest cursor.
    :param origin: offset of the first byte that ever comes in; what lies before it was never here.
    """

    capacity: int
    lead: int
    origin: int = 0
    head: int = field(init=False)
    _reach: int = field(init=False, default=0)  # behind the last byte that was written, come in or not
    _cursors: set[Cursor] = field(init=False, factory=set)
    _slowest: int | None = field(init=False, default=None)

    @head.default
    def _first(self) -> int:
        return self.origin

    @property
    def came(self) -> int:
        """Bytes that came in so far."""
        return self.head - self.origin

    @property
    def base(self) -> int:
        """Offset of the oldest byte in the ring."""
        return max(self.origin, max(self.head, self._reach) - self.capacity)

    @property
    def slowest(self) -> int | None:
        """Offset that holds the sender back; ``None`` before the first cursor."""
        return self._slowest

    @property
    def room(self) -> int:
        """Bytes that the sender may put in now."""
        if self._slowest is None:
            return self.capacity - self.came
        return max(0, min(self.lead, self.capacity) - (self.head - self._slowest))

    def overwrite(self, n: int) -> None:
        """``n`` bytes have been written behind ``head``, of which fewer come in."""
        assert 0 <= n <= self.room, f"{n} bytes do not fit into {self.room}"
        self._reach = max(self._reach, self.head + n)

    def commit(self, n: int) -> None:
        """``n`` bytes came in."""
        assert 0 <= n <= self.room, f"{n} bytes do not fit into {self.room}"
        self.head += n

    def open(self, position: int) -> Cursor:
        """A cursor at ``position``, which lies between ``base`` and ``head``."""
        assert self.base <= position <= self.head, f"{position} is not in {self.base}..{self.head}"
        cursor = Cursor(position)
        self._cursors.add(cursor)
        self._slowest = position if len(self._cursors) == 1 else min(position, self._slowest or 0)
        return cursor

    def advance(self, cursor: Cursor, n: int) -> None:
        """The reader of ``cursor`` took ``n`` bytes."""
        before, cursor.position = cursor.position, cursor.position + n
        assert cursor.position <= self.head, "a cursor passed the head"
        if before == self._slowest:
            self._slowest = min(each.position for each in self._cursors)

    def close(self, cursor: Cursor) -> None:
        """The reader of ``cursor`` is gone; the last one leaves its place behind."""
        self._cursors.remove(cursor)
        if self._cursors:
            self._slowest = min(each.position for each in self._cursors)
