"""A body in a file with a ring in front: the spool of the store that keeps.

The sender's bytes go into the ring; a writer, which is nothing but one more reader of it, moves them on into the file
in large steps, off the reactor's thread.  A receiver near ``head`` reads the ring, a late one the file; each at its own
pace, because the sender waits for the writer alone.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.errors import BeamError, StoreFailed, StoreFull
from beam.interfaces import ISink
from beam.quota import Quota
from beam.store.memory import RingSpool
from beam.store.spool import EMPTY, Reader, Spool

READ_STEP = 256 << 10  # bytes that one late receiver has read ahead
QUOTA_STEP = 1 << 20  # bytes by which a file of unknown length is charged
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

log = Logger()
T = TypeVar("T")


class Offload(Protocol):
    """Runs a blocking call elsewhere; its ``Deferred`` fires in the reactor's thread."""

    def __call__(self, call: Callable[[], T], /) -> "Deferred[T]": ...


def failure_of(failure: Failure) -> BeamError:
    """What a failed call on a file means for the transfer; the details go to the log, not to the peer."""
    error = failure.value
    if isinstance(error, BeamError):
        return error
    if isinstance(error, OSError) and error.errno in FULL:
        return StoreFull("The disk of this server is full; try again later or send a smaller file.")
    log.failure("a file of the disk store could not be used", failure=failure)
    return StoreFailed("This server could not use its disk; the operator finds the reason in the log.")


@define(eq=False)
class Blob:
    """One file and those who use it: the descriptor and the quota are given back when the last one has let go."""

    path: Path
    fd: int
    quota: Quota
    charged: int = 0
    users: int = 0
    removed: bool = False

    def hold(self) -> None:
        """One more uses the descriptor."""
        self.users += 1

    def drop(self) -> None:
        """One fewer uses the descriptor."""
        self.users -= 1
        if not self.users:
            os.close(self.fd)
            self.quota.give(self.charged)

    def charge(self, size: int, ahead: int = 0) -> None:
        """The file grows to ``size`` bytes; ``ahead`` are charged with them if there are so many.

        :raises StoreFull: the quota does not allow it.
        """
        if size > self.charged:
            step = max(size - self.charged, min(ahead, self.quota.free))
            if not self.quota.take(step):
                raise StoreFull("The disk store of this server is full; try again later or send a smaller file.")
            self.charged += step

    def settle(self, size: int) -> None:
        """The file is whole with ``size`` bytes: give back what was charged in advance."""
        self.quota.give(self.charged - size)
        self.charged = size

    def remove(self) -> None:
        """Take the file out of its folder; those who use it can go on."""
        if not self.removed:
            self.removed = True
            self.path.unlink(missing_ok=True)


@implementer(ISink)
class Writer:
    """Moves what comes into the ring on into the file; one write runs at a time."""

    def __init__(
        self, ring: RingSpool, blob: Blob, offload: Offload, written: Callable[[BeamError | None], None]
    ) -> None:
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
        try:
            self._blob.charge(self._reader.position + len(view), QUOTA_STEP)
        except StoreFull as error:
            self._written(error)
            return
        self._busy = True
        self._blob.hold()
        fd, position = self._blob.fd, self._reader.position

        def write() -> int:
            return os.pwrite(fd, view, position)

        self._offload(write).addCallbacks(self._wrote, self._failed)

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


class FileReader(Reader):
    """A receiver of a kept body: from the ring near its head, from the file behind it."""

    def __init__(self, spool: "DiskSpool", position: int) -> None:
        super().__init__(spool, position, None)
        self.ahead = memoryview(bytearray(0))  # what was read from the file
        self.ahead_at = 0
        self.loading = False


class DiskSpool(Spool):
    """A body in a file with a ring in front.

    :param failed: hears why the file cannot be written any more.
    """

    def __init__(
        self, ring: RingSpool, blob: Blob, kept: Path, offload: Offload, failed: Callable[[BeamError], None]
    ) -> None:
        super().__init__()
        self._ring = ring
        self._blob = blob
        self._kept = kept
        self._offload = offload
        self._failed = failed
        self._secured: Deferred[None] | None = None
        blob.hold()
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

    def commit(self, n: int) -> None:
        self._ring.commit(n)
        self.wake_all()

    def finish(self) -> Deferred[None]:
        self._secured = Deferred()
        self._ring.finish()
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
        reader = FileReader(self, position)
        self._readers[reader] = None
        return reader

    def bytes_at(self, reader: Reader) -> memoryview:
        assert isinstance(reader, FileReader)
        view = self._ring.view(reader.position)
        if view:
            return view
        offset = reader.position - reader.ahead_at
        if 0 <= offset < len(reader.ahead):
            return reader.ahead[offset:]
        if not reader.loading:
            self._load(reader)
        return EMPTY

    def _load(self, reader: FileReader) -> None:
        """Read on in the file, behind what the writer has written; ``reader`` is told when it is there."""
        fd, position = self._blob.fd, reader.position
        reader.loading = True
        self._blob.hold()

        def read() -> bytes:
            return os.pread(fd, READ_STEP, position)

        def loaded(data: bytes) -> None:
            self._blob.drop()
            reader.loading = False
            reader.ahead, reader.ahead_at = memoryview(data), position
            if not data:
                self.fail(
                    reader, StoreFailed("A file of this server is shorter than it was; ask for it to be sent again.")
                )
            elif reader.sink is not None:
                reader.sink.bytes_available()

        def broken(failure: Failure) -> None:
            self._blob.drop()
            reader.loading = False
            self.fail(reader, failure_of(failure))

        self._offload(read).addCallbacks(loaded, broken)

    def starve(self, reader: Reader) -> None:
        if not (isinstance(reader, FileReader) and reader.loading):
            super().starve(reader)
