"""A body in a file with a ring in front: the spool of the store that keeps.

The sender's bytes go into the ring; a writer, which is one more reader of it, moves them on into the file.  A receiver
near ``head`` reads the ring, a late one the file; each at its own pace, because the sender waits for the writer alone.
Where the file has its name is said by its place.
"""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from beam.errors import BeamError
from beam.quota import Quota
from beam.store.blob import Blob, Offload, failure_of
from beam.store.late import FileReader, Shelf
from beam.store.memory import RingSpool
from beam.store.places import Place
from beam.store.spool import Reader, Spool
from beam.store.writer import QUOTA_STEP, Writer


class FileSpool(Spool):
    """A body in a file, read from there; a subclass says how it comes into it.

    :param memory: what late receivers' blocks are charged to.
    :param failed: hears why the file cannot be gone on with.
    """

    def __init__(
        self, blob: Blob, place: Place, memory: Quota, offload: Offload, failed: Callable[[BeamError], None]
    ) -> None:
        super().__init__()
        self._blob = blob
        self._place = place
        self._offload = offload
        self._failed = failed
        self._secured: Deferred[None] = Deferred()
        blob.hold()
        self._shelf = Shelf(blob, offload, memory, self.fail)

    def secured(self) -> Deferred[None]:
        return self._secured

    def keep(self) -> None:
        """The file has it all: bring it to safety."""
        self._blob.settle(self.head)
        self.run(self._place.keeping(self._blob), self.kept)

    def run(self, call: Callable[[], None], done: Callable[[], None]) -> None:
        """Have ``call`` run elsewhere, and ``done`` behind it; if it fails, the spool has failed."""

        def ran(_: None) -> None:
            self._blob.drop()
            done()

        self._blob.hold()
        self._offload(call).addCallbacks(ran, self._not_run)

    def _not_run(self, failure: Failure) -> None:
        self._blob.drop()
        if not self._released:
            self._failed(failure_of(failure))

    def kept(self) -> None:
        """It is safe."""
        self._secured.callback(None)

    def release(self) -> None:
        if not self._released:
            self.remove()
        super().release()

    def remove(self) -> None:
        """No new reader will come: the file has no name any more."""
        self._place.remove()

    def let_go(self) -> None:
        self._blob.drop()

    def open(self, position: int, holds: bool) -> FileReader:
        if self._released:
            raise self.gone()
        reader = FileReader(self, position, None)
        self._readers[reader] = None
        return reader

    def bytes_at(self, reader: Reader) -> memoryview:
        assert isinstance(reader, FileReader)
        return self._shelf.view(reader)

    def starve(self, reader: Reader) -> None:
        assert isinstance(reader, FileReader)
        if reader.block is None or reader.block.waiting is None:
            self._shelf.closed(reader)  # it has caught up
            super().starve(reader)

    def closed(self, reader: Reader) -> None:
        assert isinstance(reader, FileReader)
        self._shelf.closed(reader)
        super().closed(reader)


class DiskSpool(FileSpool):
    """A body in a file with a ring in front.

    :param ring: has its origin where the file ends.
    """

    def __init__(
        self,
        ring: RingSpool,
        blob: Blob,
        place: Place,
        memory: Quota,
        offload: Offload,
        failed: Callable[[BeamError], None],
    ) -> None:
        super().__init__(blob, place, memory, offload, failed)
        self._ring = ring
        self._writer = Writer(ring, blob, offload, partial(blob.charge, ahead=QUOTA_STEP), self._file_written)

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
        self._ring.finish()
        self._writer.bytes_available()  # the rest, however little
        return super().finish()

    def _file_written(self, error: BeamError | None) -> None:
        """The writer is at the end, or cannot go on."""
        if error is not None:
            self._failed(error)
        else:
            self.keep()

    def kept(self) -> None:
        self._ring.release()
        super().kept()

    def abort(self, error: BeamError) -> None:
        self._ring.abort(error)
        super().abort(error)

    def let_go(self) -> None:
        self._ring.release()
        super().let_go()

    def bytes_at(self, reader: Reader) -> memoryview:
        assert isinstance(reader, FileReader)
        view = self._ring.view(reader.position)
        if not view:
            return super().bytes_at(reader)
        if reader.block is not None:  # it has caught up
            self._shelf.closed(reader)
        return view
