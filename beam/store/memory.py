"""The store that holds: one ring of bytes a transfer, and nothing on disk.

``RingSpool`` is also what stands in front of every file of the disk store.  The arithmetic is ``beam.window``'s.
"""

import mmap
from collections.abc import Callable, Mapping

from twisted.plugin import IPlugin
from zope.interface import implementer

from beam.errors import BeamError, Unavailable
from beam.interfaces import IHouse, IStore, IStoreMaker
from beam.quota import Quota
from beam.store import arguments
from beam.store.spool import EMPTY, Reader, Spool
from beam.values import count, size
from beam.window import Cursor, Window

SMALLEST_RING = 256 << 10
GROWTH = 1 << 20  # bytes by which a ring grows
STEP = 4 << 20  # bytes that one read or write moves at most
RESUME_AT = 256 << 10  # a waiting sender goes on when so much is free: small steps cost more than they bring
WINDOW = 4 << 20
HISTORY = 12 << 20
SHARE = 8


class RingSpool(Spool):
    """The newest bytes of one body, in a ring that grows while its first lap lasts and memory is there.

    :param length: of the body, or ``None``; the ring is never larger.
    :param window: bytes that the sender may be ahead of the slowest reader.
    :param history: bytes that stay behind it.
    :param share: it takes at most one part in so many of the memory that is free.
    :param origin: offset of the first byte that comes; those before it are elsewhere.
    :raises Unavailable: there is no memory for the smallest ring.
    """

    def __init__(
        self, memory: Quota, length: int | None, window: int, history: int, share: int = SHARE, origin: int = 0
    ) -> None:
        super().__init__()
        self._share = share
        self._memory = memory
        self._length = length
        self._limit = window + history if length is None else min(window + history, length - origin)
        smallest = min(SMALLEST_RING, self._limit)
        if not memory.take(smallest):
            raise Unavailable("The memory for transfers is used up; try again later.")
        self.window = Window(smallest, window, origin)
        if self._limit > SMALLEST_RING:
            # Anonymous and private: a page costs nothing before it is touched.
            mapping = mmap.mmap(-1, self._limit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._bytes = memoryview(mapping)
        else:
            self._bytes = memoryview(bytearray(self._limit))

    @property
    def base(self) -> int:  # type: ignore[override]
        return self.window.base

    @property
    def head(self) -> int:  # type: ignore[override]
        return self.window.head

    def room(self) -> memoryview:
        window = self.window
        if window.came + GROWTH > window.capacity:
            self._grow()
        capacity, free = window.capacity, window.room
        if free <= 0:
            self._paused = True  # a new reader may have taken away what there was
            return EMPTY
        start = window.came % capacity
        return self._bytes[start : start + min(free, capacity - start, STEP)]

    def overwritten(self, n: int) -> None:
        self.window.overwrite(n)

    def _grow(self) -> None:
        """Add a step to the ring, if it has not wrapped yet and this transfer may have more of the memory."""
        window = self.window
        step = min(GROWTH, self._limit - window.capacity)
        if step and window.came <= window.capacity:
            share = max(SMALLEST_RING, (self._memory.free + window.capacity) // self._share)
            if window.capacity + step <= share and self._memory.take(step):
                window.capacity += step

    def has_room(self) -> bool:
        window = self.window
        if window.came + GROWTH > window.capacity:
            self._grow()
        if window.slowest is None:
            return window.room > 0
        enough = max(1, min(RESUME_AT, window.lead // 2, window.capacity // 2))
        if self._length is not None:
            enough = min(enough, self._length - window.head)
        return window.room >= enough

    def take(self, n: int) -> None:
        window = self.window
        before = window.head
        window.commit(n)
        for reader in self._starved:
            if reader.position > before:
                self._pass_over(reader)

    def _pass_over(self, reader: Reader) -> None:
        """Move the cursor of a reader that did not ask for the bytes before its position."""
        if reader.cursor is not None:
            behind = min(reader.position, self.window.head) - reader.cursor.position
            self.window.advance(reader.cursor, behind)

    def greet(self, reader: Reader) -> None:
        self._pass_over(reader)
        super().greet(reader)

    def bytes_at(self, reader: Reader) -> memoryview:
        view = self.view(reader.position)
        if not view:
            self.fail(reader, self.gone())
        return view

    def view(self, position: int) -> memoryview:
        """The contiguous bytes at ``position``; empty if the ring has none there."""
        window = self.window
        if not window.base <= position < window.head:
            return EMPTY
        start = (position - window.origin) % window.capacity
        return self._bytes[start : start + min(window.head - position, window.capacity - start, STEP)]

    def cursor(self, position: int) -> Cursor:
        return self.window.open(position)

    def advanced(self, reader: Reader, n: int) -> None:
        if reader.cursor is not None:
            self.window.advance(reader.cursor, n)
        super().advanced(reader, n)

    def closed(self, reader: Reader) -> None:
        if reader.cursor is not None:
            self.window.close(reader.cursor)
            reader.cursor = None
        super().closed(reader)

    def let_go(self) -> None:
        self._bytes = EMPTY
        self._memory.give(self.window.capacity)
        self._limit = self.window.capacity = 0


@implementer(IStore)
class MemoryStore:
    """Rings only: the sender waits until its bytes are delivered."""

    keeps = False

    def __init__(self, memory: Quota, window: int, history: int, share: int = SHARE) -> None:
        self._memory = memory
        self._window = window
        self._history = history
        self._share = share

    def start(self) -> None:
        """Nothing to get ready."""

    def stop(self) -> None:
        """Nothing to let go."""

    def create(self, length: int | None, failed: Callable[[BeamError], None]) -> RingSpool:
        return RingSpool(self._memory, length, self._window, self._history, self._share)

    def usage(self) -> int:
        return self._memory.used


@implementer(IPlugin, IStoreMaker)
class MemoryStoreMaker:
    """``memory:window=4M:history=12M:share=8:cap=1G``"""

    prefix = "memory"

    def make(self, text: str, house: IHouse) -> MemoryStore:
        options = arguments(text, None, window=size, history=size, share=count, cap=size)
        window, history = ring_sizes(options)
        share = options.get("share", SHARE)
        assert isinstance(share, int)
        if "cap" in options:
            house.memory.cap = at_least_a_ring("cap", options["cap"])
        return MemoryStore(house.memory, window, history, share)


def at_least_a_ring(name: str, value: object) -> int:
    """``value`` in bytes.

    :raises ValueError: it is smaller than the smallest ring.
    """
    assert isinstance(value, int)
    if value < SMALLEST_RING:
        raise ValueError(f"{name} is at least {SMALLEST_RING >> 10}K")
    return value


def ring_sizes(options: Mapping[str, object]) -> tuple[int, int]:
    """The window and the history that a store's string asks for, in bytes.

    :raises ValueError: the window is smaller than the smallest ring.
    """
    history = options.get("history", HISTORY)
    assert isinstance(history, int)
    return at_least_a_ring("window", options.get("window", WINDOW)), history
