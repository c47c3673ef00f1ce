"""From one spool into another: what lies in the first is read and becomes a part of the second's body."""

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.body import Body
from beam.errors import BadRequest, BeamError
from beam.interfaces import IReader, ISink


@implementer(ISink, IPushProducer)
class Pump:
    """Moves what ``reader`` gives into ``body``.

    :param ended: called once: with ``None`` when all is there, or with the error that broke it off.
    """

    def __init__(self, reader: IReader, body: Body, ended: Callable[[BeamError | None], None]) -> None:
        self._reader = reader
        self._body = body
        self._ended = ended
        self._stopped = False

    def start(self) -> None:
        """Begin."""
        self._body.intake.registerProducer(self, True)
        self._reader.attach(self)

    def bytes_available(self) -> None:
        while not self._stopped and (view := self._reader.peek()):
            room = self._body.room()
            n = min(len(view), len(room))
            if not n and self._body.missing != 0:
                return
            try:
                if not n:
                    raise BadRequest("There is more than the file may have; send it again.")
                room[:n] = view[:n]
                self._body.commit(n)
            except BeamError as error:
                self.stop()
                self._ended(error)
                return
            self._reader.advance(n)

    def body_complete(self) -> None:
        self.stop()
        self._ended(None)

    def body_failed(self, error: BeamError) -> None:
        self.stop()
        self._ended(error)

    def pauseProducing(self) -> None:
        """``room`` is empty now."""

    def resumeProducing(self) -> None:
        self.bytes_available()

    def stopProducing(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Move nothing more.  May be called again."""
        self._stopped = True
        self._reader.close()
