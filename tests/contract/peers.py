"""Those who talk to beam: raw connections whose answers h11 reads, and real curl.

Everything that is opened here is remembered, so that ``close_all`` can end it behind each test.  No rule of beam's is
known here.
"""

import re
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import h11
from attrs import frozen

PATIENCE = 20.0  # seconds for what must happen soon
A_WHILE = 0.15  # seconds for which what must not happen is watched
LAST_CHUNK = b"0\r\n\r\n"

T = TypeVar("T")
_open: list["Peer | Curl"] = []


class Cut(Exception):
    """The connection ended before the answer did."""


def close_all() -> None:
    """End every peer that a test has left open."""
    while _open:
        _open.pop().close()


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@frozen
class Answer:
    """One response.  ``interim`` has the statuses of the 1xx responses before it."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    interim: tuple[int, ...]

    def get(self, name: str) -> str | None:
        """The value of a header that is there once; ``None`` if it is not there."""
        values = [value for each, value in self.fields if each == name.lower()]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"no {name} in {self.status} {self.fields} {self.body[:200]!r}"
        return value

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def check_refusal(answer: Answer, status: int, *words: str) -> None:
    """``answer`` refuses with ``status``: one plain sentence for people, which has ``words`` and tells no secrets."""
    assert answer.status == status, answer
    assert answer["content-type"] == "text/plain; charset=utf-8"
    assert answer["content-length"] == str(len(answer.body))
    assert re.fullmatch(r"[A-Z][^\n]{15,}[.?]\n", answer.text), answer
    for secret in ("Traceback", "Error", "/tmp", "/work", "/root", ".py"):
        assert secret not in answer.text
    for word in words:
        assert word in answer.text, answer


class SharedTLS:
    """A TLS connection that one thread may read while another writes.

    OpenSSL's object must not be used by two at once, and a time-out that is set on a socket is everybody's.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._turn = threading.Lock()
        self._own = threading.local()  # the time-out of each thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def settimeout(self, seconds: float) -> None:
        """For the calls of this thread."""
        self._own.seconds = seconds

    def recv(self, size: int) -> bytes:
        """As that of a socket."""
        return self._when_possible(lambda: self._connection.recv(size))

    def send(self, data: bytes, flags: int = 0) -> int:
        """As that of a socket; the only flag is ``MSG_DONTWAIT``."""
        if not flags:
            return self._when_possible(lambda: self._connection.send(data))
        with self._turn:
            try:
                return self._connection.send(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError from None

    def sendall(self, data: bytes) -> None:
        """As that of a socket."""
        view = memoryview(data)
        while view:
            view = view[self.send(bytes(view[: 64 << 10])) :]

    def _when_possible(self, call: Callable[[], T]) -> T:
        end = time.monotonic() + getattr(self._own, "seconds", PATIENCE)
        while True:
            reading, writing = [], []
            with self._turn:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    reading.append(self._connection)
                except ssl.SSLWantWriteError:
                    writing.append(self._connection)
            if time.monotonic() > end:
                raise TimeoutError("timed out")
            select.select(reading, writing, [], 0.05)  # not for longer: the other thread may have taken what came


class Peer:
    """One connection to the server."""

    def __init__(self, connection: socket.socket | SharedTLS) -> None:
        self.socket = connection
        self.interim: list[int] = []
        self._methods: deque[str] = deque()
        self._parser: h11.Connection | None = None
        self._response: h11.Response | None = None
        self._behind = b""  # came behind the last answer
        self._body = bytearray()  # came, and nobody has taken it
        self._body_over = False
        connection.settimeout(PATIENCE)
        _open.append(self)

    # Asking.

    def send(self, data: bytes) -> Self:
        """Send ``data`` as it is."""
        self.socket.sendall(data)
        return self

    def ask(self, method: str, target: str, *fields: str, body: bytes = b"", version: str = "1.1") -> Self:
        """Send a request; a Content-Length is added if there is a body."""
        lines = [f"{method} {target} HTTP/{version}", "Host: beam.test", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self._methods.append(method)
        return self.send("\r\n".join([*lines, "", ""]).encode(errors="surrogateescape") + body)

    def get(self, target: str, *fields: str, version: str = "1.1") -> Self:
        """Send a GET."""
        return self.ask("GET", target, *fields, version=version)

    def put(self, target: str, body: bytes, *fields: str, length: int | None = None, version: str = "1.1") -> Self:
        """Send a PUT and ``body``, which may be a part of the ``length`` bytes that are announced."""
        announced = f"Content-Length: {len(body) if length is None else length}"
        return self.ask("PUT", target, *fields, announced, version=version).send(body)

    def put_chunked(self, target: str, chunks: Iterable[bytes], *fields: str, ends: bool = True) -> Self:
        """Send a chunked PUT; ``ends`` says whether the last chunk is sent as well."""
        self.ask("PUT", target, *fields, "Transfer-Encoding: chunked")
        return self.send(b"".join(chunk(each) for each in chunks) + (LAST_CHUNK if ends else b""))

    # Hearing.

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 18)
        except ssl.SSLEOFError:
            raise Cut("TLS ended without a close_notify") from None

    def _event(self) -> object:
        if self._parser is None:
            self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
            method = self._methods.popleft() if self._methods else "GET"
            self._parser.send(h11.Request(method=method, target="/", headers=[("host", "beam.test")]))
            self._parser.send(h11.EndOfMessage())
            if self._behind:
                self._parser.receive_data(self._behind)
                self._behind = b""
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._parser.receive_data(self._receive())
        except h11.RemoteProtocolError as error:
            raise Cut(str(error)) from None
        if isinstance(event, h11.ConnectionClosed):
            raise Cut("the connection was closed without an answer")
        return event

    def first_status(self) -> int:
        """The next status, interim or final.  A final one stays for ``answer``."""
        if self._response is None:
            event = self._event()
            if isinstance(event, h11.InformationalResponse):
                self.interim.append(event.status_code)
                return event.status_code
            assert isinstance(event, h11.Response), event
            self._response = event
        return self._response.status_code

    def head(self) -> Answer:
        """The head of the next answer, as soon as it is there."""
        while self.first_status() < 200:
            pass
        assert self._response is not None
        fields = tuple((name.decode(), value.decode("latin-1")) for name, value in self._response.headers)
        return Answer(self._response.status_code, fields, b"", tuple(self.interim))

    def _more(self) -> bool:
        """Read on in the body; whether something came."""
        if self._body_over:
            return False
        event = self._event()
        if isinstance(event, h11.Data):
            self._body += event.data
            return True
        assert isinstance(event, h11.EndOfMessage), event
        self._body_over = True
        return False

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes of the body as soon as they are there; fewer if it ends before."""
        self.head()
        while len(self._body) < n and self._more():
            pass
        taken = bytes(self._body[:n])
        del self._body[:n]
        return taken

    def answer(self) -> Answer:
        """The whole of the next answer (without what ``take`` has taken).

        :raises Cut: it ends too early.
        """
        head = self.head()
        while self._more():
            pass
        body, self._body = bytes(self._body), bytearray()
        assert self._parser is not None
        self._behind = self._parser.trailing_data[0]
        self._parser = self._response = None
        self._body_over = False
        self.interim = []
        return Answer(head.status, head.fields, body, head.interim)

    def hears_nothing(self, seconds: float = A_WHILE) -> bool:
        """Whether nothing comes for ``seconds``, not even the connection's end."""
        assert not self._body and not self._behind
        self.socket.settimeout(seconds)
        try:
            data = self._receive()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)
        if self._parser is not None:
            self._parser.receive_data(data)
        else:
            self._behind = data
        return False

    def everything(self) -> bytes:
        """All that comes until the server closes, unparsed.

        :raises Cut: a TLS connection has no orderly end.
        """
        parts = []
        while data := self._receive():
            parts.append(data)
        return b"".join(parts)

    def is_closed(self) -> bool:
        """Whether the server closes the connection, without another byte, in time."""
        try:
            return not self._behind and not self._receive()
        except (ConnectionResetError, Cut):
            return True

    # Leaving.

    def half_close(self) -> Self:
        """End our side only."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        """Close, as a program that ends does."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset, as a system does whose program died with unread bytes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def fill(self, data: bytes, stalls: float = 0.5) -> int:
        """Send ``data`` until it is all sent, or none of it goes for ``stalls`` seconds; how much went."""
        sent = 0
        while sent < len(data):
            try:
                if not select.select([], [self.socket], [], stalls)[1]:
                    break
            except ValueError:
                raise ConnectionAbortedError("closed on this side") from None
            with suppress(BlockingIOError):
                sent += self.socket.send(data[sent : sent + (64 << 10)], socket.MSG_DONTWAIT)
        return sent


class Background(Generic[T]):
    """A call in a thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._result: list[T] = []
        self._error: list[BaseException] = []

        def run() -> None:
            try:
                self._result.append(call())
            except BaseException as error:
                self._error.append(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self, patience: float = 60) -> T:
        """What the call returned, or raise what it raised."""
        self._thread.join(patience)
        assert not self._thread.is_alive(), f"a call has not returned in {patience:g} s"
        if self._error:
            raise self._error[0]
        return self._result[0]


@frozen
class Done:
    """How a curl ended.  ``out`` is its standard output."""

    code: int
    out: str
    err: str


class Curl:
    """A running curl.

    :param stdin: a file that it reads, if any.
    """

    def __init__(self, *arguments: str | Path, stdin: Path | None = None) -> None:
        command = ["curl", "-sS", "--max-time", "20", *map(str, arguments)]
        source = None if stdin is None else stdin.open("rb")
        try:
            self.process = subprocess.Popen(
                command, stdin=source or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        finally:
            if source is not None:
                source.close()
        _open.append(self)

    def done(self) -> Done:
        """How it ended."""
        out, err = self.process.communicate(timeout=70)
        return Done(self.process.returncode, out.decode(), err.decode())

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
