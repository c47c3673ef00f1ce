"""Bodies that outlive the server: their record is written when they are safe, and whenever somebody asks for it.

There may be more of them than descriptors, so that each has one only while it is read.
"""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.errors import BeamError
from beam.interfaces import ILastingSpool
from beam.quota import Quota
from beam.store.blob import Blob, Offload, failure_of, refused
from beam.store.file import DiskSpool, FileSpool
from beam.store.late import FileReader
from beam.store.places import LastingPlace
from beam.store.spool import Reader


class Lasting(FileSpool):
    """What a body in a file has besides, if it is in a folder with a record."""

    _place: LastingPlace
    _stays = False
    recorded: bytes | None = None  # what a former server has saved

    def save(self) -> Deferred[None]:
        """See ``ILastingSpool.save``."""
        saved: Deferred[None] = Deferred()
        if self._released:
            return saved
        if not self._secured.called:
            self.run(self._place.saving(), partial(saved.callback, None))
            return saved
        # What is whole is not lost with a word on it.
        return self._offload(self._place.saving()).addErrback(self._not_saved)

    def _not_saved(self, failure: Failure) -> Deferred[None]:
        if not self._released:
            raise failure_of(failure)
        return Deferred()  # nobody wants to know any more

    def settle(self) -> Deferred[None]:
        """See ``ILastingSpool.settle``; here nothing is told before it is in the file."""
        return succeed(None)

    def open(self, position: int, holds: bool) -> FileReader:
        reader = super().open(position, holds)
        try:
            with refused():
                self._blob.hold()
        except BeamError:
            del self._readers[reader]
            raise
        return reader

    def closed(self, reader: Reader) -> None:
        was_open = reader in self._readers
        super().closed(reader)
        if was_open:
            self._blob.drop()

    def keep(self) -> None:
        if self._place.source() == self.recorded:
            self.kept()  # that server has seen to it
        else:
            super().keep()

    def kept(self) -> None:
        self.sleep()
        super().kept()

    def sleep(self) -> None:
        """Let go of the descriptor until somebody reads."""
        self._blob.path = self._place.folder.data
        self._blob.drop()

    def let_go(self) -> None:
        if self._blob.path is None:
            super().let_go()
        else:
            self._blob.give_back()

    def suspend(self, error: BeamError) -> None:
        """See ``ILastingSpool.suspend``."""
        self._stays = self._place.saved  # of what has no record nobody would know what it is
        self.abort(error)

    def remove(self) -> None:
        if not self._stays:
            super().remove()


@implementer(ILastingSpool)
class LastingSpool(Lasting, DiskSpool):
    """A body that comes from its start to its end, perhaps with a restart of the server in between."""

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self.settle()  # who knows when more comes

    def settle(self) -> Deferred[None]:
        return self._writer.settle()

    def suspend(self, error: BeamError) -> None:
        if self._place.saved and not self._released:
            self._writer.write_rest()
        super().suspend(error)


@implementer(ILastingSpool)
class KeptSpool(Lasting):
    """A whole body that a former server has taken.

    :param size: its bytes.
    """

    def __init__(
        self,
        size: int,
        blob: Blob,
        place: LastingPlace,
        memory: Quota,
        offload: Offload,
        failed: Callable[[BeamError], None],
    ) -> None:
        super().__init__(blob, place, memory, offload, failed)
        self.head = size

    def finish(self) -> Deferred[None]:
        secured = super().finish()
        self.keep()
        return secured
