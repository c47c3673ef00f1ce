"""Reading a kept body behind its ring: those who are at the same place of the file share what was read there."""

import mmap
from collections.abc import Callable

from attrs import define
from twisted.python.failure import Failure

from beam.errors import BeamError, StoreFailed
from beam.quota import Quota
from beam.store.blob import BLOCK, Blob, Offload, failure_of
from beam.store.memory import SHARE
from beam.store.spool import EMPTY, Reader

STEP = 1 << 20  # bytes that are read at a time
SMALL_STEP = 64 << 10  # the same, where the memory is used up
TORN = "A file of this server is shorter than it was; ask for it to be sent again."


@define(eq=False)
class Block:
    """A piece of the file: ``view`` is what lies at ``start``.

    :ivar stop: the offset to which it is being read, or was.
    :ivar users: readers that are in it, or wait for it.
    :ivar waiting: those that wait; ``None`` when it is not being read.
    """

    memory: memoryview
    charged: int
    start: int = 0
    stop: int = 0
    view: memoryview = EMPTY
    users: int = 0
    waiting: list["FileReader"] | None = None

    def at(self, position: int) -> memoryview:
        """What is there at ``position``."""
        return self.view[position - self.start :] if position >= self.start else EMPTY

    @property
    def is_idle(self) -> bool:
        """Whether its memory can be had."""
        return not self.users and self.waiting is None

    def covers(self, position: int) -> bool:
        """Whether ``position`` is here, or will soon be."""
        stop = self.start + len(self.view) if self.waiting is None else self.stop
        return self.start <= position < stop


class FileReader(Reader):
    """A receiver of a kept body: from the ring near its head, from the file behind it."""

    block: Block | None = None


class Shelf:
    """The blocks of one file that are in memory.

    :param failed: cuts a reader.
    """

    def __init__(
        self, blob: Blob, offload: Offload, memory: Quota, failed: Callable[[Reader, BeamError], None]
    ) -> None:
        self._blob = blob
        self._offload = offload
        self._memory = memory
        self._failed = failed
        self._blocks: list[Block] = []

    def view(self, reader: FileReader) -> memoryview:
        """What is there for ``reader``; if nothing, it is told when there is."""
        block, position = reader.block, reader.position
        if block is None or not block.covers(position):
            self._leave(reader)
            found = (each for each in self._blocks if each.covers(position))
            block = reader.block = next(found, None) or self._free(reader.spool.head)
            block.users += 1
            if not block.covers(position):
                self._load(block, position, reader.spool.head)
        if block.waiting is None:
            return block.at(position)
        if reader not in block.waiting:
            block.waiting.append(reader)
        return EMPTY

    def _leave(self, reader: FileReader) -> None:
        if reader.block is not None:
            reader.block.users -= 1
            reader.block = None

    def closed(self, reader: FileReader) -> None:
        """``reader`` is gone, or goes on in the ring."""
        self._leave(reader)
        self._tidy()

    def _tidy(self) -> None:
        """Let go of what nobody uses."""
        for block in [each for each in self._blocks if each.is_idle]:
            self._blocks.remove(block)
            self._memory.give(block.charged)

    def _load(self, block: Block, position: int, head: int) -> None:
        """Begin to read ``block`` at ``position``; it may be there at once.

        Nothing behind ``head`` is taken: in a file with holes it may be anything.
        """
        blob = self._blob
        block.start = position - position % BLOCK
        block.stop = min(position - position % STEP + STEP, block.start + len(block.memory), head)
        length = block.stop - block.start
        memory = block.memory[: -(-length // BLOCK) * BLOCK]
        block.view = memory[: min(length, blob.read_cached(memory, block.start))]
        if not block.covers(position):
            block.waiting = []
            blob.hold()
            reading = self._offload(lambda: min(length, blob.read(memory, block.start)))
            reading.addCallbacks(
                lambda n: self._loaded(block, memory[:n], position), lambda failure: self._broken(block, failure)
            )

    def _free(self, length: int) -> Block:
        """A block that nobody uses, for a file of ``length`` bytes."""
        for block in self._blocks:
            if block.is_idle:
                return block
        size = min(STEP, -(-length // BLOCK) * BLOCK)
        charged = size if size * SHARE <= self._memory.free and self._memory.take(size) else 0
        mapping = mmap.mmap(-1, charged or min(size, SMALL_STEP), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block = Block(memoryview(mapping), charged)
        self._blocks.append(block)
        return block

    def _loaded(self, block: Block, view: memoryview, wanted: int) -> None:
        block.view = view
        waiting = self._end_wait(block)
        error = None if block.covers(wanted) else StoreFailed(TORN)
        for reader in waiting:
            if error is not None:
                self._failed(reader, error)
            elif reader.sink is not None:
                reader.sink.bytes_available()

    def _broken(self, block: Block, failure: Failure) -> None:
        block.view = EMPTY
        error = failure_of(failure)
        for reader in self._end_wait(block):
            self._failed(reader, error)

    def _end_wait(self, block: Block) -> list[FileReader]:
        """The block has been read: who waited for it."""
        self._blob.drop()
        waiting, block.waiting = block.waiting or [], None
        if not block.users:
            self._tidy()
        return waiting
