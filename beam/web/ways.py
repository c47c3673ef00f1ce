"""Ways between a socket and the memory that a direct end reads into or writes from: plain, or through TLS.

Private names of Twisted's TLS and of pyOpenSSL are used here; ``tests/test_twisted_contract.py`` pins each.
"""

from typing import Any, Protocol

from OpenSSL._util import ffi, lib
from OpenSSL.SSL import Error, WantReadError
from twisted.protocols.tls import BufferingTLSTransport

from beam.web.transport import DirectConnection

RECORD = 16 << 10  # bytes of a TLS record at most (RFC 8446, 5.1)
STEP = 7 * RECORD  # bytes that are encrypted or decrypted at a time; above 128K malloc would map and unmap each
TURN = 1 << 20  # bytes after which others have their turn
CIPHERTEXT = memoryview(bytearray(STEP))  # what has come and is not decrypted; for all connections, in one thread


class Way(Protocol):
    """Between one connection's socket and memory.

    :ivar step: bytes that one ``send`` takes at most.
    """

    connection: DirectConnection
    step: int

    def receive(self, view: memoryview) -> int:
        """Bytes that came into ``view``; 0 at the connection's end.

        :raises BlockingIOError: nothing has come.
        :raises OSError: the connection is lost.
        """

    def rest(self) -> None:
        """Let Twisted have what came and had no place in the view."""

    def send(self, pieces: list[bytes | memoryview]) -> int:
        """Bytes of ``pieces`` that were taken, 0 if none can be now.

        :raises OSError: the connection is lost.
        """

    def write(self, data: bytes) -> None:
        """Write ``data`` as Twisted does, together with what it has still to write."""

    def has_pending(self) -> bool:
        """Whether Twisted still has bytes of its own to write, which nothing may overtake."""

    def flush(self) -> None:
        """Hand what waits to the system now, as far as it takes it."""


class Plain:
    """Nothing is in between."""

    step = 1 << 30

    def __init__(self, connection: DirectConnection) -> None:
        self.connection = connection
        self._socket = connection.getHandle()

    def receive(self, view: memoryview) -> int:
        return int(self._socket.recv_into(view))

    def rest(self) -> None:
        """There is none."""

    def send(self, pieces: list[bytes | memoryview]) -> int:
        try:
            return int(self._socket.sendmsg(pieces))
        except (BlockingIOError, InterruptedError):
            return 0

    def write(self, data: bytes) -> None:
        self.connection.write(data)

    def has_pending(self) -> bool:
        return self.connection.has_pending()

    def flush(self) -> None:
        self.connection.write_now()


class Secure:
    """TLS: decrypted straight into the memory and encrypted from it, in large steps.

    Everything else about it stays Twisted's: the handshake, the alerts, the end.  pyOpenSSL's own calls cost a third
    more: they copy each record once more.
    """

    step = STEP

    def __init__(self, tls: BufferingTLSTransport, connection: DirectConnection) -> None:
        self.connection = connection
        self._tls: Any = tls
        self._socket = connection.getHandle()
        self._cipher: Any = tls.getHandle()
        self._unread = False  # whether Twisted has to look for the rest

    def receive(self, view: memoryview) -> int:
        size, filled = len(view), 0
        while filled < min(size, TURN) and not self._unread:
            wanted = min(max(size - filled, RECORD), STEP)
            try:
                n = self._socket.recv_into(CIPHERTEXT, wanted)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                if filled:
                    break
                raise
            if n == 0:
                if filled:
                    break
                return 0
            self._cipher.bio_write(CIPHERTEXT[:n])
            filled += self._decrypt(view[filled:])
            if n < wanted:
                break
        if not filled:
            raise BlockingIOError
        return filled

    def _decrypt(self, view: memoryview) -> int:
        """Bytes of ``view`` that could be filled."""
        to, size, filled = ffi.from_buffer(view), len(view), 0
        while filled < size:
            n = lib.SSL_read(self._cipher._ssl, to + filled, size - filled)
            if n <= 0:
                try:
                    n = int(self._cipher.recv_into(view[filled : filled + 1]))  # says why
                except WantReadError:
                    return filled
                except Error:  # also the end; Twisted meets the same again, behind what came before
                    break
            filled += n
        self._unread = True
        return filled

    def rest(self) -> None:
        if self.connection.disconnected:
            return
        if self._unread:
            self._unread = False
            self._tls._flushReceiveBIO()
        else:
            self._tls._flushSendBIO()  # such as an alert: who asks for another handshake waits for an answer

    def send(self, pieces: list[bytes | memoryview]) -> int:
        self._tls._aggregator.flush()
        if self.connection.has_pending():
            return 0
        plaintext = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._encrypt(plaintext)
        ciphertext = self._cipher.bio_read(2 * len(plaintext) + RECORD)
        try:
            sent = self._socket.send(ciphertext)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(ciphertext):
            self.connection.write(ciphertext[sent:])
        return len(plaintext)

    def _encrypt(self, plaintext: bytes | memoryview) -> None:
        """Let the ciphertext of ``plaintext`` wait to be sent."""
        begin, size, done = ffi.from_buffer(plaintext), len(plaintext), 0
        while done < size:
            n = lib.SSL_write(self._cipher._ssl, begin + done, size - done)
            if n <= 0:
                try:
                    n = self._cipher.send(plaintext[done:])  # says why
                except Error as error:  # also a renegotiation in the middle of a body, which TLS 1.3 has no more
                    raise ConnectionAbortedError from error
            done += n

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    def has_pending(self) -> bool:
        return self.connection.has_pending() or bool(self._tls._aggregator._buffer or self._tls._appSendBuffer)

    def flush(self) -> None:
        self._tls._aggregator.flush()
        self.connection.write_now()


def way(transport: Any) -> Way | None:
    """The way to the socket below ``transport``, if direct ends may take it."""
    # Wrappers such as TLS proxy attributes and interfaces: the class alone is safe.
    if isinstance(transport, DirectConnection):
        return Plain(transport)
    below: Any = transport.transport if isinstance(transport, BufferingTLSTransport) else None
    return Secure(transport, below) if isinstance(below, DirectConnection) else None
