"""Direct ends: a connection fills and drains a spool itself, in place of Twisted.

A byte is received into the spool's own memory and sent from it, or decrypted into it and encrypted from it.  What
counts is bytes per wake-up: large steps, sends that do not wait for the reactor's next turn, and, while bytes come in
bulk, a kernel that gathers before it wakes us (``SO_RCVLOWAT``).  The figures are in ``docs/architecture.md``.
"""

import socket
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from zope.interface import implementer

from beam.body import Body
from beam.errors import BeamError, RangeNotSatisfiable
from beam.interfaces import IReader, ISink
from beam.web.framing import Framing
from beam.web.transport import is_tcp
from beam.web.ways import RECORD, Way

BULK = 4 << 20  # bytes without a stall after which the kernel gathers
ALONG = 16 << 10  # bytes that are few enough to be copied
GATHER = 512 << 10  # bytes that it gathers
CRLF = b"\r\n"
STALL = 0.005  # seconds without a byte after which it stops to
SENDS = 4  # sends in a turn, so that one receiver cannot keep the reactor


@implementer(IPushProducer)
class DirectUpload:
    """Fills ``body`` from the socket until it has ended, or is detached.

    :param framing: what the wire adds to the body; tells the request of its end.
    :param failed: called with the ``BeamError`` that the body raised.
    """

    def __init__(
        self, way: Way, framing: Framing, body: Body, clock: IReactorTime, failed: Callable[[BeamError], None]
    ) -> None:
        self._way = way
        self._connection = way.connection
        self._socket = way.connection.getHandle()
        self._framing = framing
        self._body = body
        self._clock = clock
        self._failed = failed
        self._gathers = is_tcp(self._socket)
        self._low = 1  # SO_RCVLOWAT as it is set
        self._run = 0  # bytes since the last stall
        self._run_seen = 0
        self._tick: IDelayedCall | None = None
        self._paused = False
        self._connection.reading = self

    @property
    def may_read(self) -> bool:
        """Whether what comes has a place, and its turn: what was read before it may still wait for one."""
        return not self._paused and len(self._body.room()) > 0

    def do_read(self) -> BaseException | None:
        if not self.may_read:
            self._connection.stopReading()
            return None
        view = self._body.room()
        try:
            n = self._way.receive(view)
        except (BlockingIOError, InterruptedError):
            self._way.rest()
            return None
        except OSError:
            return CONNECTION_LOST
        if n == 0:
            return CONNECTION_DONE
        self._run += n
        came, n = n, self._framing.decode(view, n)
        try:
            if self._connection.reading is self:
                if n < came:
                    self._body.overwritten(came)
                self._body.commit(n)
        except BeamError as error:
            self._failed(error)
        if self._connection.reading is self:
            self._framing.settle()
        if self._connection.reading is self and self._gathers and self._run >= BULK:
            missing = self._framing.missing
            # The last record of TLS may have come in part.
            self._gather(GATHER if missing is None else max(1, min(GATHER, missing - RECORD)))
        self._way.rest()
        return None

    def _gather(self, low: int) -> None:
        """Let the kernel wake us for ``low`` bytes, and watch that it does."""
        if low != self._low:
            self._low = low
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)
        if low > 1 and self._tick is None:
            self._run_seen = self._run
            self._tick = self._clock.callLater(STALL, self._watch)

    def _watch(self) -> None:
        self._tick = None
        if self._run != self._run_seen:
            self._gather(self._low)
        else:
            self._run = 0
            self._gather(1)

    def _stop_watching(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def pauseProducing(self) -> None:
        self._paused = True
        self._stop_watching()
        self._connection.stopReading()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._connection.reading is self:
            self._run_seen = -1  # a pause is no stall
            if self._low > 1 and self._tick is None:
                self._tick = self._clock.callLater(STALL, self._watch)
            self._connection.startReading()

    def stopProducing(self) -> None:
        self.detach()

    def detach(self) -> None:
        """Give the socket back to Twisted.  May be called again."""
        self._stop_watching()
        if self._connection.reading is self:
            self._connection.reading = None
            self._gather(1)


@implementer(ISink)
class DirectDownload:
    """Drains ``reader`` into the socket.

    :param limit: bytes to give at most, or ``None`` for all.
    :param chunked: whether to frame what is sent (RFC 9112, 7.1); the last chunk is left to the request.
    :param ended: called with ``None`` after the last byte was handed to the system, or with the ``BeamError`` that cut
        the body short.
    """

    def __init__(
        self,
        way: Way,
        reader: IReader,
        limit: int | None,
        chunked: bool,
        ended: Callable[[BeamError | None], None],
    ) -> None:
        self._way = way
        self._connection = way.connection
        self._reader = reader
        self._missing = limit
        self._chunked = chunked
        self._size_line = b""  # of the chunk being sent: what is left of it
        self._owed = 0  # bytes of data that the chunk being sent still lacks
        self._ended = ended
        self._connection.writing = self

    def start(self) -> None:
        """Begin."""
        if self._missing == 0:
            self.body_complete()
        else:
            self._reader.attach(self)

    def bytes_available(self) -> None:
        if self._connection.writing is self and self._way.has_pending():
            self._go_along()
        if self._connection.writing is self:
            self._way.flush()

    def _go_along(self) -> None:
        """Let a few bytes go out together with the response's head: one packet, one system call."""
        view = self._view()
        n = len(view)
        if 0 < n <= ALONG and not self._owed:
            self._way.write(b"%x\r\n%b\r\n" % (n, bytes(view)) if self._chunked else bytes(view))
            if self._missing is not None:
                self._missing -= n
            self._reader.advance(n)
            if self._missing == 0 and self._connection.writing is self:
                self.body_complete()

    def _view(self) -> memoryview:
        """What the reader has, as far as it is to be sent."""
        step = self._way.step if self._missing is None else min(self._way.step, self._missing)
        return self._reader.peek()[:step]

    def do_write(self) -> BaseException | None:
        connection = self._connection
        for _ in range(SENDS):
            view = self._view()
            if not view:
                if connection.writing is self:
                    connection.stopWriting()
                return None
            try:
                n, full = self._send_chunk(view) if self._chunked else self._send(view)
            except OSError:
                return CONNECTION_LOST
            if self._missing is not None:
                self._missing -= n
            self._reader.advance(n)
            if connection.writing is not self:
                return None
            if self._missing == 0:
                self.body_complete()
                return None
            if full or self._way.has_pending():
                break
        connection.startWriting()
        return None

    def _send(self, view: memoryview) -> tuple[int, bool]:
        """Bytes of ``view`` that the system took, and whether it takes no more for now."""
        n = self._way.send([view])
        return n, n < len(view)

    def _send_chunk(self, view: memoryview) -> tuple[int, bool]:
        """The same, in chunks; what is left of a chunk's framing waits for the next turn."""
        if not self._owed:
            self._owed = len(view)
            self._size_line = b"%x\r\n" % self._owed
        view = view[: self._owed]
        end = CRLF if len(view) == self._owed else b""
        sent = self._way.send([self._size_line, view, end])
        full = sent < len(self._size_line) + len(view) + len(end)
        line = min(sent, len(self._size_line))
        self._size_line = self._size_line[line:]
        n = min(sent - line, len(view))
        self._owed -= n
        if end and not self._owed and sent - line - n < len(end):
            self._way.write(end[sent - line - n :])
        return n, full

    def body_complete(self) -> None:
        if self._missing:
            self.body_failed(RangeNotSatisfiable("The file ended before the range did."))
        elif self.detach():
            self._ended(None)

    def body_failed(self, error: BeamError) -> None:
        if self.detach():
            self._ended(error)

    def detach(self) -> bool:
        """Give the socket back to Twisted; whether it was ours."""
        if self._connection.writing is not self:
            return False
        self._connection.writing = None
        if not self._connection.has_pending():
            self._connection.stopWriting()
        return True
