"""A few bytes of a body, read back from its spool."""

from twisted.internet.defer import Deferred
from zope.interface import implementer

from beam.errors import BeamError
from beam.interfaces import IReader, ISink, ISpool


@implementer(ISink)
class Excerpt:
    """Reads ``n`` bytes, or as many as there are.

    :ivar done: fires with them; fails with the ``BeamError`` that ended the body.
    """

    def __init__(self, reader: IReader, n: int) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._reader = reader
        self._missing = n
        self._data = b""

    def bytes_available(self) -> None:
        while self._missing and (view := self._reader.peek()[: self._missing]):
            self._data += view
            self._missing -= len(view)
            self._reader.advance(len(view))
        if not self._missing:
            self.body_complete()

    def body_complete(self) -> None:
        self._reader.close()
        if not self.done.called:
            self.done.callback(self._data)

    def body_failed(self, error: BeamError) -> None:
        if not self.done.called:
            self.done.errback(error)


async def excerpt(spool: ISpool, start: int, stop: int) -> bytes:
    """The bytes of ``spool`` from ``start`` to before ``stop``, as soon as they are there.

    :raises BeamError: they will not be.
    """
    if start >= stop:
        return b""
    reader = spool.open(start, False)
    reading = Excerpt(reader, stop - start)
    reader.attach(reading)
    return await reading.done
