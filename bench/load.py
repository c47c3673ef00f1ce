"""The clients of the benchmark: one process that sends a body, one that holds all receivers and discards what comes.

They cost as little as they can, so that the server's own cost shows: ``sendfile`` up, ``MSG_TRUNC`` down (the kernel
drops the bytes without copying them). They check statuses and byte counts, not contents: that is the test suite's work.
No socket here has a time-out of its own; ``run`` ends both processes when its deadline has passed.
"""

from __future__ import annotations

import base64
import mmap
import multiprocessing
import os
import re
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait

from attrs import define, field, frozen

SOURCE_BYTES = 1 << 30
BUFFER_BYTES = 1 << 20
PIECE_BYTES = 1 << 18
CHUNK_BYTES = 1 << 16  # what curl reads from a pipe and sends as one chunk
PACE_STEP_BYTES = 1 << 16
BOUNDARY = "----------------------------bench"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()


class LoadError(Exception):
    """A transfer did not go as it must; the text says how."""


@frozen
class Load:
    """One transfer: ``size`` bytes to each of ``receivers``; ``pace`` in bytes per second, for ``pace_seconds``.

    :param unframed: whether the receivers speak HTTP/1.0, so that only the connection's end tells the body's.
    :param forwarded: whether the one receiver is a server that the body is forwarded to.
    :param fetched: whether the server has the body already, so that nothing is sent.
    :param form: whether the body is the file of a form.
    :param part: bytes of each PATCH by which tus brings the body; 0 if a PUT does.
    """

    size: int
    receivers: int = 1
    tls: bool = False
    chunked: bool = False
    pace: float | None = None
    pace_seconds: float = float("inf")
    unframed: bool = False
    forwarded: bool = False
    fetched: bool = False
    form: bool = False
    part: int = 0

    @property
    def delivered(self) -> int:
        return self.size * self.receivers


def make_source(size: int) -> int:
    """The descriptor of a file in memory, with at most ``SOURCE_BYTES``; a larger body is the same file again.

    It is written, not sparse: the zero page of a hole would never leave the processor's cache.
    """
    source = os.memfd_create("bench")
    block = os.urandom(PIECE_BYTES)
    for _ in range(0, min(size, SOURCE_BYTES), len(block)):
        os.write(source, block)
    return source


def run(
    load: Load,
    port: int,
    target: str,
    source: int,
    timeout: float,
    sink: socket.socket | None = None,
    asked: str | None = None,
) -> float:
    """Carry one load through the server at ``port``; the seconds from the first connect to the last byte.

    :param sink: where a forward arrives.
    :param asked: where the receivers ask, if it is not ``target`` without its query.
    """
    deadline = time.monotonic() + timeout
    context = multiprocessing.get_context("fork")
    processes = []

    def start(work: Callable[..., None], *arguments: object) -> Connection:
        ours, theirs = context.Pipe()
        process = context.Process(target=_report, args=(theirs, work, *arguments), daemon=True)
        process.start()
        processes.append(process)
        theirs.close()
        return ours

    def next_report(connections: list[Connection]) -> tuple[Connection, float]:
        for connection in wait(connections, max(0, deadline - time.monotonic())):
            assert isinstance(connection, Connection)
            report = connection.recv()
            if isinstance(report, str):
                raise LoadError(report)
            return connection, report
        raise LoadError(f"not finished after {timeout:.0f} s")

    try:
        if sink is not None:
            receivers = start(_take_forward, load, sink)
        else:
            receivers = start(_receive, load, port, target.partition("?")[0] if asked is None else asked)
        _, begun = next_report([receivers])
        ends = {receivers: 0.0}
        if not load.fetched:
            ends[start(_send, load, port, target, source)] = 0.0
        while pending := [connection for connection, end in ends.items() if not end]:
            connection, ends[connection] = next_report(pending)
        return ends[receivers] - begun
    except EOFError:
        raise LoadError("a client process died") from None
    finally:
        for process in processes:
            process.kill()
            process.join()


def _report(connection: Connection, work: Callable[..., None], *arguments: object) -> None:
    try:
        work(connection, *arguments)
    except Exception as error:
        connection.send(f"{work.__name__.strip('_')}: {type(error).__name__}: {error}")


def _connect(load: Load, port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    if not load.tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


# --- the sender


def _send(report: Connection, load: Load, port: int, target: str, source: int) -> None:
    if load.part:
        _send_parts(report, load, port, target, source)
        return
    connection = _connect(load, port)
    before, behind = (FORM, FORM_END) if load.form else (b"", b"")
    length = len(before) + load.size + len(behind)
    framing = "Transfer-Encoding: chunked" if load.chunked else f"Content-Length: {length}"
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n" if load.form else ""
    head = f"{'POST' if load.form else 'PUT'} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}{framing}\r\n\r\n"
    connection.sendall(head.encode() + before)
    try:
        if load.tls or load.chunked:
            for piece in _pieces(load, source):
                connection.sendall(piece)
        else:
            _send_file(connection, 0, load.size, source)
            connection.sendall(behind)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused on the way: the reply, if there is one, says why
    _reply(connection, 200, 201)
    report.send(time.monotonic())
    while connection.recv(BUFFER_BYTES):  # some go on replying until the end; ``run`` ends us
        pass


def _send_parts(report: Connection, load: Load, port: int, target: str, source: int) -> None:
    """By tus 1.0.0, over one connection: each part waits for the answer to the one before, as clients do."""
    connection = _connect(load, port)
    path, _, query = target.partition("?")
    key = base64.b64encode(path.lstrip("/").encode()).decode()
    common = "Host: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
    head = f"POST /-/tus?{query} HTTP/1.1\r\n{common}Content-Length: 0\r\n"
    connection.sendall(f"{head}Upload-Length: {load.size}\r\nUpload-Metadata: key {key}\r\n\r\n".encode())
    found = re.search(rb"(?i)\r\nlocation: (\S+)", _reply(connection, 201))
    place = found[1].decode() if found else ""
    for start in range(0, load.size, load.part):
        length = min(load.part, load.size - start)
        head = f"PATCH {place} HTTP/1.1\r\n{common}Content-Type: application/offset+octet-stream\r\n"
        connection.sendall(f"{head}Upload-Offset: {start}\r\nContent-Length: {length}\r\n\r\n".encode())
        _send_file(connection, start, start + length, source)
        _reply(connection, 204)
    report.send(time.monotonic())


def _reply(connection: socket.socket, *wanted: int) -> bytes:
    """The head of an answer, which has one of the ``wanted`` statuses."""
    reply = b""
    while b"\r\n\r\n" not in reply and (data := connection.recv(BUFFER_BYTES)):
        reply += data
    if _status(reply) not in wanted:
        raise LoadError(f"the reply was {reply!r}")
    return reply


def _send_file(connection: socket.socket, start: int, stop: int, source: int) -> None:
    whole = os.fstat(source).st_size
    while start < stop:
        offset = start % whole
        start += os.sendfile(connection.fileno(), source, offset, min(whole - offset, stop - start))


def _pieces(load: Load, source: int) -> Iterator[bytes | memoryview]:
    with mmap.mmap(source, 0, prot=mmap.PROT_READ) as whole, memoryview(whole) as view:
        if not load.chunked:
            for start in range(0, load.size, PIECE_BYTES):
                offset = start % len(view)
                with view[offset : offset + min(PIECE_BYTES, load.size - start)] as piece:
                    yield piece
            return
        full, rest = divmod(load.size, CHUNK_BYTES)
        chunk = b"%x\r\n%b\r\n" % (CHUNK_BYTES, bytes(view[:CHUNK_BYTES]))
        for _ in range(full):
            yield chunk
        if rest:
            yield b"%x\r\n%b\r\n" % (rest, bytes(view[:rest]))
        yield b"0\r\n\r\n"


def _status(head: bytes) -> int:
    words = head.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


# --- the receivers


def _receive(report: Connection, load: Load, port: int, path: str) -> None:
    version = "1.0" if load.unframed else "1.1"
    request = f"GET {path} HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n".encode()
    buffer = bytearray(BUFFER_BYTES)
    begun = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for _ in range(load.receivers):
            connection = _connect(load, port)
            connection.sendall(request)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, _Receiver(connection, load))
        report.send(begun)
        while selector.get_map():
            for key, _ in selector.select():
                receiver: _Receiver = key.data
                allowed = _allowance(load, time.monotonic() - begun, receiver.taken)
                if allowed and receiver.take(buffer, allowed):
                    selector.unregister(receiver.connection)
                    receiver.connection.close()
    report.send(time.monotonic())


def _take_forward(report: Connection, load: Load, sink: socket.socket) -> None:
    """Be the server that a chunked body is forwarded to."""
    buffer = bytearray(BUFFER_BYTES)
    chunks = _Chunks()
    report.send(time.monotonic())
    connection, _ = sink.accept()
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(BUFFER_BYTES)
        body = head.partition(b"\r\n\r\n")[2]
        chunks.feed(bytearray(body), len(body))
        while not chunks.ended:
            length = connection.recv_into(buffer)
            if not length:
                raise LoadError(f"cut after {chunks.body} bytes")
            chunks.feed(buffer, length)
        if chunks.body != load.size:
            raise LoadError(f"{chunks.body} bytes came, {load.size} were sent")
        report.send(time.monotonic())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.recv(1)


def _allowance(load: Load, seconds: float, taken: int) -> int:
    """How many bytes may be read now; sleeps for a step when it is none, because its receiver stays readable."""
    if load.pace is None or seconds > load.pace_seconds:
        return BUFFER_BYTES
    allowed = int(load.pace * seconds) - taken
    if allowed >= PACE_STEP_BYTES:
        return min(allowed, BUFFER_BYTES)
    time.sleep(PACE_STEP_BYTES / load.pace)
    return 0


@define
class _Chunks:
    """Counts the bytes of a chunked body while it passes."""

    body: int = 0
    _left: int = 0
    _line: bytes = b""
    _last: bool = False

    @property
    def ended(self) -> bool:
        return self._last and not self._left

    def feed(self, data: bytearray, length: int) -> None:
        at = 0
        while at < length:
            if self._left:
                step = min(self._left, length - at)
                self._left -= step
                at += step
            elif (end := data.find(b"\n", at, length)) < 0:
                self._line += data[at:length]
                return
            else:
                size = int(self._line + data[at:end], 16)
                self._line = b""
                self._last = size == 0
                self._left = size + 2
                self.body += size
                at = end + 1


@define
class _Receiver:
    """One download: its head, then as many bytes as were sent, thrown away."""

    connection: socket.socket
    load: Load
    taken: int = 0
    _head: bytes | None = b""
    _chunks: _Chunks = field(factory=_Chunks)

    _in_chunks: bool = False

    def take(self, buffer: bytearray, allowed: int) -> bool:
        """Read what is there, at most ``allowed`` bytes; True when the body has ended as it must."""
        while True:
            try:
                ended = self._read(buffer, allowed)
            except (ssl.SSLWantReadError, BlockingIOError):
                return False
            # Bytes that TLS has decrypted already would not wake the selector.
            if ended or not isinstance(self.connection, ssl.SSLSocket) or not self.connection.pending():
                return ended

    def _read(self, buffer: bytearray, allowed: int) -> bool:
        countable = self._head is None and not self._in_chunks
        flags = socket.MSG_TRUNC if countable and not self.load.tls else 0
        length = self.connection.recv_into(buffer, allowed, flags)
        if not length:
            if self.load.unframed and self.taken == self.load.size:
                return True
            raise LoadError(f"cut after {self._chunks.body if self._in_chunks else self.taken} bytes")
        if self._head is not None:
            self._head += buffer[:length]
            if b"\r\n\r\n" not in self._head:
                return False
            length = self._body_starts(self._head, buffer)
        self.taken += length
        if self.load.unframed:
            return False
        if not self._in_chunks:
            got, ended = self.taken, self.taken >= self.load.size
        else:
            self._chunks.feed(buffer, length)
            got, ended = self._chunks.body, self._chunks.ended
        if ended and got != self.load.size:
            raise LoadError(f"{got} bytes came, {self.load.size} were sent")
        return ended

    def _body_starts(self, received: bytes, buffer: bytearray) -> int:
        """Check the head, and leave in ``buffer`` what came behind it."""
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        self._in_chunks = b"transfer-encoding: chunked" in lines
        has_length = b"content-length: %d" % self.load.size in lines
        framed = self.load.unframed or self._in_chunks or has_length
        if _status(head) != 200 or not framed:
            raise LoadError(f"the answer was {head!r}")
        buffer[: len(body)] = body
        self._head = None
        return len(body)
