"""The accepted connections of beam: Twisted's own, with a place for direct ends.

While an end is attached, it does the reading or the writing of the socket itself; everything else about the connection
stays Twisted's.  Private names of Twisted are used here; ``tests/test_twisted_contract.py`` pins each.
"""

import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort

KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
LONGEST_PATIENCE = 2e6  # seconds, 23 days; the system counts milliseconds in 31 bits
VANISHED = 60  # seconds after which a peer that acknowledges nothing is given up
NOT_WORTH_A_WAIT = 64 << 10  # bytes that may be unacknowledged when a delivery is counted
CLOSED, CLOSE_WAIT = 7, 8  # tcp_info.tcpi_state, linux/tcp.h


class ReadingEnd(Protocol):
    """Reads the socket in place of Twisted; the result is that of ``IReadDescriptor.doRead``."""

    def do_read(self) -> BaseException | None: ...

    @property
    def may_read(self) -> bool: ...


class WritingEnd(Protocol):
    """Writes the socket in place of Twisted; the result is that of ``IWriteDescriptor.doWrite``."""

    def do_write(self) -> BaseException | int | None: ...


class DirectConnection(tcp.Connection):
    """Mixed into Twisted's server connections.

    :ivar reading: the end that reads in place of Twisted, if any.
    :ivar writing: the end that writes in place of Twisted, if any.
    :ivar settled_at_end: whether it was so when the connection ended.
    :ivar after_read: called behind each read of Twisted's, so that what came in pieces can go on in one.
    :ivar in_read: whether such a read runs; bytes that come otherwise (pipelined before) have no read behind them.
    """

    SEND_LIMIT = 512 << 10  # more than a producer end writes at a time, with its framing
    reading: ReadingEnd | None = None
    writing: WritingEnd | None = None
    after_read: Callable[[], None] | None = None
    in_read = False
    _to_write = False
    _host: Any = None
    settled_at_end = False

    def doRead(self) -> Any:
        if self.reading is not None:
            return self.reading.do_read()
        self.in_read = True
        result = super().doRead()
        self.in_read = False
        if self.after_read is not None:
            self.after_read()
        if self._to_write and not self.disconnected:
            self.write_now()
        self._to_write = False
        return result

    def startWriting(self) -> None:
        # What is written while a read runs goes out behind it, without another turn of the reactor.
        if self.in_read:
            self._to_write = True
        else:
            super().startWriting()

    def write_now(self) -> None:
        """Write what waits; the reactor goes on with what cannot be written, and with what has to follow."""
        if self.disconnecting or self.doWrite() is not None or self.has_pending():
            self.startWriting()

    def doWrite(self) -> Any:
        if self.writing is None:
            return super().doWrite()
        if self.has_pending():  # such as the response's head
            result = super().doWrite()
            if result is not None or self.has_pending():
                return result
        return self.writing.do_write() if self.writing is not None else None

    def getHost(self) -> Any:
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def has_pending(self) -> bool:
        """Whether Twisted still has bytes of its own to write, which nothing may overtake."""
        return bool(self.dataBuffer or self._tempDataBuffer)

    def resumeProducing(self) -> None:
        # Twisted resumes reading when its write buffer has emptied; an end that has no room must not read then.
        if self.reading is None or self.reading.may_read:
            super().resumeProducing()

    def untaken(self) -> int:
        """Bytes that we gave to the system and that the peer has not acknowledged."""
        return 0 if self.disconnected else unacknowledged(self.socket)

    def is_settled(self) -> bool:
        """Whether the system has all that we wrote, and the peer all but little of it, as far as can be told."""
        if self.disconnected:
            return self.settled_at_end
        return not self.has_pending() and unacknowledged(self.socket) <= NOT_WORTH_A_WAIT

    def connectionLost(self, reason: Any) -> None:
        if not self.disconnected:
            in_order = reason.check(ConnectionDone) is not None
            # Proxies close a finished connection with a reset: what was acknowledged before it was received.
            slack = NOT_WORTH_A_WAIT if in_order else 0
            self.settled_at_end = not self.has_pending() and unacknowledged(self.socket) <= slack
        self.reading = self.writing = self.after_read = None
        super().connectionLost(reason)


class DirectTCP(DirectConnection, tcp.Server):
    """A TCP connection."""

    def __init__(self, skt: socket.socket, *rest: Any) -> None:
        super().__init__(skt, *rest)
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            skt.setsockopt(socket.IPPROTO_TCP, option, value)
        set_patience(skt, VANISHED)


class DirectUNIX(DirectConnection, unix.Server):
    """A UNIX stream connection."""


def make_direct(port: IListeningPort) -> None:
    """Let ``port`` accept connections with a place for direct ends."""
    if isinstance(port, unix.Port):
        port.transport = DirectUNIX
    elif isinstance(port, tcp.Port):
        port.transport = DirectTCP  # type: ignore[assignment]


def underlying(transport: Any) -> tcp.Connection | None:
    """The connection with the socket, below TLS and other wrappers; ``None`` in tests without one."""
    while transport is not None and not isinstance(transport, tcp.Connection):
        transport = getattr(transport, "transport", None)
    return transport


def is_tcp(skt: socket.socket) -> bool:
    """Whether ``skt`` is a TCP socket: the others have none of its options."""
    return skt.family in (socket.AF_INET, socket.AF_INET6)


def set_patience(skt: socket.socket, seconds: float) -> None:
    """Give up a peer after ``seconds`` in which it acknowledges nothing, or keeps its window shut (RFC 5482)."""
    if is_tcp(skt):
        skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(min(seconds, LONGEST_PATIENCE) * 1000))


def unacknowledged(skt: socket.socket) -> int:
    """Bytes that were handed to the system and that the peer has not acknowledged (``SIOCOUTQ``)."""
    return int(struct.unpack("i", fcntl.ioctl(skt, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def unread(skt: socket.socket) -> int:
    """Bytes that have come and that nobody has read (``FIONREAD``)."""
    return int(struct.unpack("i", fcntl.ioctl(skt, termios.FIONREAD, b"\0\0\0\0"))[0])


def has_left(skt: socket.socket, owed: int | None) -> bool:
    """Whether the peer can be seen to be gone although we do not read: reset, or an end before its body's.

    :param owed: bytes of the body that have not been read, or ``None`` if unknown.
    """
    if skt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return True
    if not is_tcp(skt):
        return False
    state = skt.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    if state == CLOSED:
        return True
    return state == CLOSE_WAIT and owed is not None and unread(skt) < owed
