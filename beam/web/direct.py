"""Direct ends: a plain connection fills and drains a spool itself, from ``recv_into`` and ``send``.

A byte is received into the spool's own memory and sent from it.  What counts is bytes per wake-up: large steps, sends
that do not wait for the reactor's next turn, and, while bytes come in bulk, a kernel that gathers before it wakes us
(``SO_RCVLOWAT``).  The figures are in ``docs/architecture.md``.
"""

import socket
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from zope.interface import implementer

from beam.body import Body
from beam.errors import BeamError, RangeNotSatisfiable
from beam.interfaces import IReader, ISink
from beam.web.transport import DirectConnection, is_tcp

BULK = 4 << 20  # bytes without a stall after which the kernel gathers
ALONG = 16 << 10  # bytes that are few enough to be copied
GATHER = 512 << 10  # bytes that it gathers
CRLF = b"\r\n"
STALL = 0.005  # seconds without a byte after which it stops to
SENDS = 4  # sends in a turn, so that one receiver cannot keep the reactor


@implementer(IPushProducer)
class DirectUpload:
    """Fills ``body`` from the socket until it is whole.

    :param ended: called when the last byte is in.
    :param failed: called with the ``BeamError`` that the body raised.
    """

    def __init__(
        self,
        transport: DirectConnection,
        body: Body,
        clock: IReactorTime,
        ended: Callable[[], None],
        failed: Callable[[BeamError], None],
    ) -> None:
        self._transport = transport
        self._socket = transport.getHandle()
        self._body = body
        self._clock = clock
        self._ended = ended
        self._failed = failed
        self._gathers = is_tcp(self._socket)
        self._low = 1  # SO_RCVLOWAT as it is set
        self.count = 0  # bytes that were read here
        self._run = 0  # bytes since the last stall
        self._run_seen = 0
        self._tick: IDelayedCall | None = None
        self._paused = False
        transport.reading = self

    @property
    def may_read(self) -> bool:
        """Whether what comes has a place, and its turn: what was read before it may still wait for one."""
        return not self._paused and len(self._body.room()) > 0

    def do_read(self) -> BaseException | None:
        if not self.may_read:
            self._transport.stopReading()
            return None
        view = self._body.room()
        try:
            n = self._socket.recv_into(view)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        if n == 0:
            return CONNECTION_DONE
        self.count += n
        self._run += n
        try:
            self._body.commit(n)
        except BeamError as error:
            self._failed(error)
            return None
        if self._transport.reading is self:
            missing = (self._body.length or 0) - self._body.received
            if missing == 0:
                self.detach()
                self._ended()
            elif self._gathers and self._run >= BULK:
                self._gather(min(GATHER, missing))
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
        self._transport.stopReading()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._transport.reading is self:
            self._run_seen = -1  # a pause is no stall
            if self._low > 1 and self._tick is None:
                self._tick = self._clock.callLater(STALL, self._watch)
            self._transport.startReading()

    def stopProducing(self) -> None:
        self.detach()

    def detach(self) -> None:
        """Give the socket back to Twisted.  May be called again."""
        self._stop_watching()
        if self._transport.reading is self:
            self._transport.reading = None
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
        transport: DirectConnection,
        reader: IReader,
        limit: int | None,
        chunked: bool,
        ended: Callable[[BeamError | None], None],
    ) -> None:
        self._transport = transport
        self._socket = transport.getHandle()
        self._reader = reader
        self._missing = limit
        self._chunked = chunked
        self._size_line = b""  # of the chunk being sent: what is left of it
        self._owed = 0  # bytes of data that the chunk being sent still lacks
        self._ended = ended
        transport.writing = self

    def start(self) -> None:
        """Begin."""
        if self._missing == 0:
            self.body_complete()
        else:
            self._reader.attach(self)

    def bytes_available(self) -> None:
        transport = self._transport
        if transport.writing is not self:
            return
        if transport.has_pending():
            self._go_along()
            transport.startWriting()
        elif self.do_write() is not None:
            transport.startWriting()  # the reactor's own call meets the same error, and handles it

    def _go_along(self) -> None:
        """Let a few bytes go out together with the response's head: one packet, one system call."""
        view = self._view()
        n = len(view)
        if 0 < n <= ALONG and not self._owed:
            self._transport.write(b"%x\r\n%b\r\n" % (n, bytes(view)) if self._chunked else bytes(view))
            if self._missing is not None:
                self._missing -= n
            self._reader.advance(n)
            if self._missing == 0 and self._transport.writing is self:
                self.body_complete()

    def _view(self) -> memoryview:
        """What the reader has, as far as it is to be sent."""
        view = self._reader.peek()
        return view if self._missing is None else view[: self._missing]

    def do_write(self) -> BaseException | None:
        transport = self._transport
        for _ in range(SENDS):
            view = self._view()
            if not view:
                if transport.writing is self:
                    transport.stopWriting()
                return None
            try:
                n, full = self._send_chunk(view) if self._chunked else self._send(view)
            except OSError:
                return CONNECTION_LOST
            if self._missing is not None:
                self._missing -= n
            self._reader.advance(n)
            if transport.writing is not self:
                return None
            if self._missing == 0:
                self.body_complete()
                return None
            if full or transport.has_pending():
                break
        transport.startWriting()
        return None

    def _send(self, view: memoryview) -> tuple[int, bool]:
        """Bytes of ``view`` that the system took, and whether it takes no more for now."""
        try:
            n = self._socket.send(view)
        except (BlockingIOError, InterruptedError):
            n = 0
        return n, n < len(view)

    def _send_chunk(self, view: memoryview) -> tuple[int, bool]:
        """The same, in chunks; what is left of a chunk's framing waits for the next turn."""
        if not self._owed:
            self._owed = len(view)
            self._size_line = b"%x\r\n" % self._owed
        view = view[: self._owed]
        end = CRLF if len(view) == self._owed else b""
        try:
            sent = self._socket.sendmsg([self._size_line, view, end])
        except (BlockingIOError, InterruptedError):
            sent = 0
        full = sent < len(self._size_line) + len(view) + len(end)
        line = min(sent, len(self._size_line))
        self._size_line = self._size_line[line:]
        n = min(sent - line, len(view))
        self._owed -= n
        if end and not self._owed and sent - line - n < len(end):
            self._transport.write(end[sent - line - n :])
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
        if self._transport.writing is not self:
            return False
        self._transport.writing = None
        if not self._transport.has_pending():
            self._transport.stopWriting()
        return True
