"""Bodies that outlive the server: their record is written when they are safe, and whenever somebody asks for it."""

from functools import partial

from twisted.internet.defer import Deferred
from zope.interface import implementer

from beam.errors import BeamError
from beam.interfaces import ILastingSpool
from beam.store.file import DiskSpool, FileSpool
from beam.store.places import LastingPlace


class Lasting(FileSpool):
    """What a body in a file has besides, if it is in a folder with a record."""

    _place: LastingPlace
    _stays = False

    def save(self) -> Deferred[None]:
        """See ``ILastingSpool.save``."""
        saved: Deferred[None] = Deferred()
        if not self._released:
            self.run(self._place.saving(), partial(saved.callback, None))
        return saved

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

    def suspend(self, error: BeamError) -> None:
        if self._place.saved and not self._released:
            self._writer.write_rest()
        super().suspend(error)
