"""A body in a file with a ring in front: the spool of the store that keeps.

The sender's bytes go into the ring; a writer, which is nothing but one more reader of it, moves them on into the file
in large steps, off the reactor's thread.  A receiver near ``head`` reads the ring, a late one the file; each at its own
pace, because the sender waits for the writer alone.
"""

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.errors import BeamError, StoreFull
from beam.interfaces import ISink
from beam.quota import Quota
from beam.store.blob import LARGE, Blob, Offload, failure_of
from beam.store.late import FileReader, Shelf
from beam.store.memory import RingSpool
from beam.store.spool import Reader, Spool

QUOTA_STEP = 1 << 20  # bytes by which a file of unknown length is charged


@implementer(ISink)
class Writer:
    """Moves what comes into the ring on into the file; one write runs at a time, and waits until it is worth it."""

    def __init__(
        self, ring: RingSpool, blob: Blob, offload: Offload, written: Callable[[BeamError | None], None]
    ) -> None:
        self._ring = ring
        self._blob = blob
        self._offload = offload
        self._written = written
        self._busy = False
        self._reader = ring.open(0, holds=True)
        self._reader.attach(self)

    def bytes_available(self) -> None:
        view = self._reader.peek()
        if self._busy or not view:
            return
        position = self._reader.position
        try:
            self._blob.charge(position + len(view), QUOTA_STEP)
        except StoreFull as error:
            self._written(error)
            return
        if not self._is_worth_it(self._ring.head - position):
            self._ring.starve(self._reader)
            return
        self._busy = True
        self._blob.hold()
        self._offload(lambda: self._blob.write(view, position)).addCallbacks(self._wrote, self._failed)

    def _is_worth_it(self, n: int) -> bool:
        """Whether to write ``n`` bytes now: the sender must not wait for more to come from itself."""
        ring = self._ring
        return n >= min(LARGE, ring.window.lead // 2) or ring.whole or not ring.has_room()

    def _wrote(self, n: int) -> None:
        self._busy = False
        self._blob.drop()
        if self._reader.sink is not None:
            self._reader.advance(n)
        if self._reader.sink is not None:
            self.bytes_available()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        self._blob.drop()
        if self._reader.sink is not None:
            self._written(failure_of(failure))

    def body_complete(self) -> None:
        self._reader.close()
        self._written(None)

    def body_failed(self, error: BeamError) -> None:
        """The spool is being aborted, which also removes the file."""


class DiskSpool(Spool):
    """A body in a file with a ring in front.

    :param memory: what late receivers' blocks are charged to.
    :param failed: hears why the file cannot be written any more.
    """

    def __init__(
        self,
        ring: RingSpool,
        blob: Blob,
        memory: Quota,
        kept: Path,
        offload: Offload,
        failed: Callable[[BeamError], None],
    ) -> None:
        super().__init__()
        self._ring = ring
        self._blob = blob
        self._kept = kept
        self._offload = offload
        self._failed = failed
        self._secured: Deferred[None] | None = None
        blob.hold()
        self._shelf = Shelf(blob, offload, memory, self.fail)
        self._writer = Writer(ring, blob, offload, self._file_written)

    @property
    def head(self) -> int:  # type: ignore[override]
        return self._ring.head

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self._ring.registerProducer(producer, streaming)  # type: ignore[arg-type]

    def unregisterProducer(self) -> None:
        self._ring.unregisterProducer()

    @property
    def paused(self) -> bool:
        return self._ring.paused

    def room(self) -> memoryview:
        return self._ring.room()

    def overwritten(self, n: int) -> None:
        self._ring.overwritten(n)

    def commit(self, n: int) -> None:
        self._ring.commit(n)
        self.wake_all()

    def finish(self) -> Deferred[None]:
        self._secured = Deferred()
        self._ring.finish()
        self._writer.bytes_available()  # the rest, however little
        return super().finish()

    def secured(self) -> Deferred[None]:
        assert self._secured is not None
        return self._secured

    def _file_written(self, error: BeamError | None) -> None:
        """The writer is at the end, or cannot go on."""
        if error is not None:
            self._failed(error)
            return
        self._blob.settle(self.head)
        source, target = self._blob.path, self._kept

        def keep() -> None:
            os.rename(source, target)

        self._blob.hold()
        self._offload(keep).addCallbacks(self._file_kept, self._file_not_kept)

    def _file_kept(self, _: None) -> None:
        self._blob.path = self._kept
        if self._blob.removed:
            self._blob.path.unlink(missing_ok=True)
        self._blob.drop()
        self._ring.release()
        assert self._secured is not None
        self._secured.callback(None)

    def _file_not_kept(self, failure: Failure) -> None:
        self._blob.drop()
        if not self._blob.removed:
            self._failed(failure_of(failure))

    def abort(self, error: BeamError) -> None:
        self._ring.abort(error)
        super().abort(error)

    def release(self) -> None:
        self._blob.remove()
        super().release()

    def let_go(self) -> None:
        self._ring.release()
        self._blob.drop()

    def open(self, position: int, holds: bool) -> FileReader:
        if self._released:
            raise self.gone()
        reader = FileReader(self, position, None)
        self._readers[reader] = None
        return reader

    def bytes_at(self, reader: Reader) -> memoryview:
        assert isinstance(reader, FileReader)
        view = self._ring.view(reader.position)
        if not view:
            return self._shelf.view(reader)
        if reader.block is not None:  # it has caught up
            self._shelf.closed(reader)
        return view

    def starve(self, reader: Reader) -> None:
        assert isinstance(reader, FileReader)
        if reader.block is None or reader.block.waiting is None:
            super().starve(reader)

    def closed(self, reader: Reader) -> None:
        assert isinstance(reader, FileReader)
        self._shelf.closed(reader)
        super().closed(reader)
