"""Where beam forwards to: a target that does what its script says, an S3 that checks signatures, and moto's S3.

Each listens on 127.0.0.1 on a free port and is ended by whoever started it, with all its threads and descriptors.
What came is recorded as it came on the wire.  No rule of beam's is known here.
"""

import contextlib
import datetime
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from http.client import responses
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes
from xml.sax.saxutils import escape

import boto3
from attrs import define, field, frozen
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from harness import BOUND, free_port, until

PIECE = 256 << 10  # bytes that are read at a time
MOST_HEAD = 64 << 10
TICK = 0.02  # seconds between two reads of a slow target

Fields = Iterable[tuple[str, str]]


class End(Enum):
    """How a connection ended."""

    CLOSED = "the peer closed it"
    RESET = "the peer reset it"
    HANDSHAKE = "TLS did not come about"
    OURS = "the target ended it"


class Malformed(Exception):
    """What came is no HTTP.  Raised where the target is ended."""


class _Ended(Exception):
    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


# What is recorded.


@define(eq=False)
class Connection:
    """One connection to a target.

    :param ended: when it ended, by the monotonic clock; ``None`` as long as it is open.
    """

    number: int
    requests: list["Request"] = field(factory=list, repr=False)
    end: End | None = None
    ended: float | None = None

    def wait_until_ended(self, patience: float = BOUND) -> End:
        """How it ended, as soon as it has."""
        until(lambda: self.ended is not None, f"the end of connection {self.number}", patience)
        assert self.end is not None
        return self.end


class Request:
    """One request, as it comes.

    :param connection: on which it came.
    :param head: as it was on the wire, up to and with the empty line.
    :param digests: the names of the digests to take of the body.
    :param keep: whether the body's bytes are kept.
    """

    def __init__(self, connection: Connection, head: bytes, digests: tuple[str, ...], keep: bool) -> None:
        self.connection = connection
        self.head = head
        self.at = time.monotonic()  # when the head had come
        self.line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        try:
            self.method, self.target, self.version = self.line.split(b" ")
        except ValueError:
            raise Malformed(f"request line {self.line!r}") from None
        self.headers: list[tuple[bytes, bytes]] = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise Malformed(f"header {line!r}")
            self.headers.append((name, value.strip(b" \t")))
        self.chunked = (self.get("Transfer-Encoding") or "").lower() == "chunked"
        length = self.get("Content-Length")
        self.length = None if length is None else int(length)
        self.size = 0  # bytes of the body that the target has read, without chunked framing
        self.whole = not self.chunked and not self.length  # whether the body has come whole
        self.answered: int | None = None  # the status, once the answer goes out
        self.keeps = keep
        self._kept = bytearray()
        self._hashes = {name: hashlib.new(name) for name in digests}
        self._chunks = _Chunks()

    def __repr__(self) -> str:
        return f"<{self.line!r}, {self.size} bytes, whole: {self.whole}, answered: {self.answered}>"

    def all(self, name: str) -> list[str]:
        """The values of a header, decoded as latin-1, in their order."""
        return [value.decode("latin-1") for each, value in self.headers if each.lower() == name.lower().encode()]

    def get(self, name: str) -> str | None:
        """The value of a header that is there once; ``None`` if it is not there."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def body(self) -> bytes:
        """The bytes of the body so far, if the target keeps them."""
        assert self.keeps, "this target keeps no bodies"
        return bytes(self._kept)

    @property
    def sha256(self) -> str:
        """Of the body so far."""
        return self.digest("sha256")

    def digest(self, name: str) -> str:
        """Of the body so far; one of the digests that the target takes."""
        return self._hashes[name].copy().hexdigest()

    @property
    def left(self) -> int | None:
        """Bytes of the body that have not been read; ``None`` if nobody can know."""
        return None if self.chunked else (self.length or 0) - self.size

    def take(self, data: memoryview) -> None:
        """Take what has come of the body."""
        for piece in self._chunks.decoded(data) if self.chunked else [data]:
            for each in self._hashes.values():
                each.update(piece)
            if self.keeps:
                self._kept += piece
            self.size += len(piece)
        self.whole = self._chunks.over if self.chunked else not self.left

    def wait_until_read(self, n: int, patience: float = BOUND) -> None:
        """Until the target has read ``n`` bytes of the body."""
        until(lambda: self.size >= n, f"{n} bytes of {self}", patience)

    def wait_until_whole(self, patience: float = BOUND) -> None:
        """Until the target has read the whole body."""
        until(lambda: self.whole, f"the whole body of {self}", patience)

    def wait_for_answer(self, patience: float = BOUND) -> int:
        """The status of the answer, as soon as it goes out."""
        until(lambda: self.answered is not None, f"the answer to {self}", patience)
        assert self.answered is not None
        return self.answered


class _Chunks:
    """Decodes a chunked body as it comes."""

    def __init__(self) -> None:
        self.over = False
        self._data = 0  # bytes of the chunk that are still to come
        self._line = b""
        self._read: Callable[[bytes], None] = self._size

    def _size(self, line: bytes) -> None:
        try:
            self._data = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Malformed(f"chunk size {line!r}") from None
        self._read = self._behind if self._data else self._trailer

    def _behind(self, line: bytes) -> None:
        if line:
            raise Malformed(f"behind a chunk: {line!r}")
        self._read = self._size

    def _trailer(self, line: bytes) -> None:
        self.over = not line

    def decoded(self, data: memoryview) -> Iterator[memoryview]:
        """The pieces of the body in ``data``."""
        while data:
            if self.over:
                raise Malformed(f"behind the last chunk: {bytes(data[:64])!r}")
            if self._data:
                piece = data[: self._data]
                self._data -= len(piece)
                data = data[len(piece) :]
                yield piece
                continue
            start, newline, _ = bytes(data[:64]).partition(b"\n")
            self._line += start
            data = data[len(start) + len(newline) :]
            if newline:
                line, self._line = self._line.removesuffix(b"\r"), b""
                self._read(line)


# What a target can do.


def _is_open(near: tuple[str, int], far: tuple[str, int]) -> bool:
    """Whether the end of a connection that is at ``near``, on this machine, still can send."""
    addresses = " ".join(
        f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}" for host, port in (near, far)
    )
    with open("/proc/net/tcp") as table:
        return any(f" {addresses} 01 " in line for line in table)


class _Wire:
    """One connection as its thread uses it.  Every call ends with ``_Ended`` or an ``OSError`` once the peer has."""

    def __init__(self, connection: socket.socket, ending: threading.Event) -> None:
        self.socket = connection
        self.ending = ending
        self._view = memoryview(bytearray(PIECE))

    def read(self, most: int) -> memoryview:
        n = self.socket.recv_into(self._view[: min(most, PIECE)])
        if not n:
            raise _Ended(End.CLOSED)
        return self._view[:n]

    def head(self) -> bytes:
        """A request head, and not a byte of the body."""
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
            if len(head) > MOST_HEAD:
                raise Malformed(f"no end of the head that begins {bytes(head[:200])!r}")
        return bytes(head)

    def watch(self) -> NoReturn:
        """Read nothing.  An end behind bytes that nobody reads does not reach us; but the system knows of it."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        misses = 0  # one is no proof: the table changes while it is read, and a reset may be on its way
        while not (found := poll.poll(TICK * 1000)):
            misses = 0 if _is_open(self.socket.getpeername(), self.socket.getsockname()) else misses + 1
            if misses == 3:
                raise _Ended(End.CLOSED)
        raise _Ended(End.RESET if found[0][1] & select.POLLERR else End.CLOSED)

    def finish(self) -> NoReturn:
        """End our side, and take in what comes until the peer ends."""
        with contextlib.suppress(OSError):
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.unwrap()
            else:
                self.socket.shutdown(socket.SHUT_WR)
        while True:
            self.read(PIECE)

    def reset(self) -> NoReturn:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Ended(End.OURS)

    def pause(self, seconds: float) -> None:
        if self.ending.wait(seconds):
            raise _Ended(End.OURS)


class Exchange:
    """One request and what a behaviour does about it.  If the behaviour returns, the connection goes on."""

    def __init__(self, request: Request, wire: _Wire) -> None:
        self.request = request
        self._wire = wire

    def read(self, most: int | None = None, rate: float | None = None) -> None:
        """Read the body.

        :param most: not more than so many bytes of it.
        :param rate: bytes per second.
        """
        request = self.request
        if request.answered is None and (request.get("Expect") or "").lower() == "100-continue":
            self._wire.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        step = PIECE if rate is None else max(1, int(rate * TICK))
        began = time.monotonic()
        while not request.whole and (most is None or request.size < most):
            bounds = [step, request.left, None if most is None else most - request.size]
            request.take(self._wire.read(min(each for each in bounds if each is not None)))
            if rate is not None:
                self._wire.pause(max(0.0, began + request.size / rate - time.monotonic()))

    def answer(self, status: int, body: bytes = b"", fields: Fields = (), chunked: bool = False) -> None:
        """Send an answer."""
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Scripted')}"]
        lines += [f"{name}: {value}" for name, value in fields]
        lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self.request.answered = status
        self._wire.socket.sendall(head if self.request.method == b"HEAD" else head + body)

    def watch(self) -> NoReturn:
        """Read nothing more, send nothing more, and notice the peer's end."""
        self._wire.watch()

    def finish(self) -> NoReturn:
        """End our side in order, and take in what comes until the peer ends."""
        self._wire.finish()

    def reset(self) -> NoReturn:
        """Reset the connection."""
        self._wire.reset()

    def close(self) -> NoReturn:
        """Close the connection; the system resets it if something has not been read."""
        raise _Ended(End.OURS)


@frozen
class Behaviour:
    """What a target does with each request.

    :param run: does it.
    :param takes_head: if not, nothing is read, and ``run`` is never called.
    :param receive_buffer: bytes that the system takes before the target reads; as much as it likes if not given.
    """

    name: str
    run: Callable[[Exchange], None] = field(repr=False)
    takes_head: bool = True
    receive_buffer: int | None = None

    def __str__(self) -> str:
        return self.name


def late(status: int, body: bytes = b"", fields: Fields = ()) -> Behaviour:
    """Answers after the whole body."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        exchange.answer(status, body, fields)

    return Behaviour(f"late({status})", run)


def early(
    status: int, body: bytes = b"", fields: Fields = (), then: Literal["stops", "reads", "closes"] = "stops"
) -> Behaviour:
    """Answers right behind the head; reads nothing more, or reads on, or closes with the body unread."""

    def run(exchange: Exchange) -> None:
        exchange.answer(status, body, fields)
        if then == "stops":
            exchange.watch()
        if then == "closes":
            exchange.close()
        exchange.read()

    return Behaviour(f"early({status}, {then})", run)


def redirects(location: str, status: int = 307, at_once: bool = False) -> Behaviour:
    """Redirects, after the whole body or right behind the head; reads the body in both cases."""
    fields = [("Location", location)]
    made = early(status, fields=fields, then="reads") if at_once else late(status, fields=fields)
    return Behaviour(f"redirects({status})", made.run)


def reads_then_stops(n: int = 1 << 20) -> Behaviour:
    """Reads ``n`` bytes of the body, and nothing more."""

    def run(exchange: Exchange) -> None:
        exchange.read(n)
        exchange.watch()

    return Behaviour(f"reads_then_stops({n})", run)


def cuts(n: int = 0) -> Behaviour:
    """Resets the connection after ``n`` bytes of the body."""

    def run(exchange: Exchange) -> None:
        exchange.read(n)
        exchange.reset()

    return Behaviour(f"cuts({n})", run)


def slow(bytes_per_second: float) -> Behaviour:
    """Reads slowly, and answers 200 after the whole body."""

    def run(exchange: Exchange) -> None:
        exchange.read(rate=bytes_per_second)
        exchange.answer(200)

    return Behaviour(f"slow({bytes_per_second:g})", run, receive_buffer=64 << 10)


def _silent_close(exchange: Exchange) -> None:
    exchange.read()
    exchange.close()


def _never_answers(exchange: Exchange) -> None:
    exchange.read()
    exchange.watch()


accept = Behaviour("accept", late(200).run)
created = Behaviour("created", late(201).run)
never_reads = Behaviour("never_reads", Exchange.watch, takes_head=False, receive_buffer=4 << 10)
silent_close = Behaviour("silent_close", _silent_close)
never_answers = Behaviour("never_answers", _never_answers)


class ScriptedTarget:
    """An HTTP/1.1 server that does what its behaviour says, and records what comes.

    :param behaviour: may be exchanged while it runs, for the requests whose head has not come yet.
    :param keep: whether the bodies' bytes are kept, not only their length and digest.
    :param receive_buffer: instead of the behaviour's.
    :param certificate: serve TLS with this PEM file.
    :param key: its key, if that is not in the same file.
    """

    digests: tuple[str, ...] = ("sha256",)

    def __init__(
        self,
        behaviour: Behaviour = accept,
        *,
        keep: bool = False,
        receive_buffer: int | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.behaviour = behaviour
        self.keep = keep
        self.connections: list[Connection] = []
        self._tls = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate, key)
        self._errors: list[BaseException] = []
        self._ending = threading.Event()
        self._lock = threading.Lock()  # for the sockets, so that none is shut down that has just been closed
        self._sockets: dict[int, socket.socket] = {}
        self._listener = socket.socket()
        if buffer := receive_buffer or behaviour.receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._listen, name=f"target {self.port}", daemon=True)]
        self._threads[0].start()

    # What came.

    def url(self, path: str = "/") -> str:
        """The address of ``path``."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}{path}"

    @property
    def requests(self) -> list[Request]:
        """Every request whose head has come, in the order of the connections."""
        return [request for connection in list(self.connections) for request in list(connection.requests)]

    def connection(self, n: int = 0, patience: float = BOUND) -> Connection:
        """The connection of that number, as soon as it is there."""
        until(lambda: len(self.connections) > n, f"connection {n}", patience)
        return self.connections[n]

    def request(self, n: int = 0, patience: float = BOUND) -> Request:
        """The request of that number, as soon as its head is there."""
        until(lambda: len(self.requests) > n, f"request {n}", patience)
        return self.requests[n]

    # The threads.

    def _listen(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(len(self.connections))
            try:
                if self._tls is not None:
                    accepted = self._tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
            except OSError:  # the peer has gone already
                accepted.close()
                connection.end, connection.ended = End.HANDSHAKE, time.monotonic()
                self.connections.append(connection)
                continue
            thread = threading.Thread(target=self._converse, args=(connection, accepted), daemon=True)
            with self._lock:
                if self._ending.is_set():
                    accepted.close()
                    return
                self._sockets[connection.number] = accepted
                self._threads.append(thread)
                self.connections.append(connection)
            thread.start()

    def _converse(self, connection: Connection, accepted: socket.socket) -> None:
        end = End.OURS
        try:
            if isinstance(accepted, ssl.SSLSocket):
                end = End.HANDSHAKE
                accepted.do_handshake()
            end = End.RESET
            self._serve(connection, _Wire(accepted, self._ending))
        except _Ended as ended:
            end = ended.end
        except ssl.SSLEOFError:
            end = End.CLOSED if end is End.RESET else end
        except (
            ssl.SSLError
        ):  # such as an alert that the certificate is not trusted, which comes behind TLS 1.3's handshake
            end = End.HANDSHAKE
        except OSError:
            pass
        except BaseException as error:
            end = End.OURS
            self._errors.append(error)
        finally:
            with self._lock:
                del self._sockets[connection.number]
                accepted.close()
            connection.end = End.OURS if self._ending.is_set() else end
            connection.ended = time.monotonic()

    def _serve(self, connection: Connection, wire: _Wire) -> None:
        while True:
            if not self.behaviour.takes_head:
                wire.watch()
            request = Request(connection, wire.head(), self.digests, self.keep)
            connection.requests.append(request)
            self.behaviour.run(Exchange(request, wire))
            if (request.get("Connection") or "").lower() == "close":
                wire.finish()

    # The end.

    def close(self) -> None:
        """End it, its connections and threads.

        :raises Malformed: something came that is no HTTP.
        """
        self._ending.set()
        with self._lock:
            for each in [self._listener, *self._sockets.values()]:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # without what TLS adds; wakes its thread
        for thread in list(self._threads):
            thread.join(BOUND)
            assert not thread.is_alive(), thread
        self._listener.close()
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port where nobody listens, and nobody can as long as the block lasts."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


# S3.

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"
BUCKET = "bucket"
XML = ("Content-Type", "application/xml")
LONGEST = 7 * 24 * 3600  # seconds for which a URL can be signed


@frozen
class StoredObject:
    """What an S3 has under a key."""

    size: int
    sha256: str
    content_type: str
    metadata: dict[str, str]


def s3_error(code: str, message: str, **more: str) -> bytes:
    """The body with which S3 tells of an error."""
    fields = {"Code": code, "Message": message, **more, "RequestId": "0A49CE4060975EAC", "HostId": "aG9zdA=="}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()


class S3Client:
    """boto3's client of one endpoint, with the credentials that the servers here know."""

    def __init__(self, endpoint: str) -> None:
        session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=REGION
        )
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={})
        self.calls: Any = session.client("s3", endpoint_url=endpoint, config=config)

    def presign(self, key: str, expires: int, params: dict[str, object]) -> str:
        """A URL with which everybody may put ``key``."""
        params = {"Bucket": BUCKET, "Key": key, **params}
        return str(self.calls.generate_presigned_url("put_object", Params=params, ExpiresIn=expires))

    def close(self) -> None:
        """Close its connections."""
        self.calls.close()


@frozen
class _Refusal:
    status: int
    code: str
    message: str
    more: dict[str, str] = field(factory=dict)


class SignedS3(ScriptedTarget):
    """An S3 with one bucket that takes what presigned URLs allow, and checks them as S3 does.

    It refuses right behind the head, reads what still comes, and closes; an object is stored if it has come whole.

    :param ahead: seconds that its clock is ahead, to let URLs expire.
    """

    digests = ("sha256", "md5")

    def __init__(
        self, *, keep: bool = False, ahead: float = 0, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self.ahead = ahead
        self.objects: dict[str, StoredObject] = {}
        super().__init__(Behaviour("s3", self._run), keep=keep, certificate=certificate, key=key)
        self._client = S3Client(self.url(""))

    def presign(self, key: str, expires: int = 300, **params: object) -> str:
        """A URL with which everybody may put ``key``.

        :param params: of ``put_object``, such as ``ContentType`` or ``Metadata``; they are signed as headers.
        """
        return self._client.presign(key, expires, params)

    def object(self, key: str) -> StoredObject | None:
        """What it has under ``key``."""
        return self.objects.get(key)

    def close(self) -> None:
        """End it."""
        super().close()
        self._client.close()

    def _run(self, exchange: Exchange) -> None:
        request = exchange.request
        bucket_and_key, query = _target(request)
        refusal = self._refusal(request, bucket_and_key, query)
        if refusal is not None:
            body = s3_error(refusal.code, refusal.message, **refusal.more)
            exchange.answer(refusal.status, body, [XML, ("Connection", "close")], chunked=True)
            exchange.read()
            exchange.finish()
        exchange.read()
        fields = [*query, *((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)]
        metadata = {name[11:].lower(): value for name, value in fields if name.lower().startswith("x-amz-meta-")}
        self.objects[bucket_and_key.removeprefix(f"{BUCKET}/")] = StoredObject(
            request.size,
            request.sha256,
            request.get("Content-Type") or "binary/octet-stream",
            metadata,
        )
        exchange.answer(200, fields=[("ETag", f'"{request.digest("md5")}"')])

    def _refusal(self, request: Request, bucket_and_key: str, query: list[tuple[str, str]]) -> _Refusal | None:
        if request.all("Transfer-Encoding"):
            message = "A header you provided implies functionality that is not implemented"
            return _Refusal(501, "NotImplemented", message, {"Header": "Transfer-Encoding"})
        if request.length is None:
            return _Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if (refusal := self._denial(request, query)) is not None:
            return refusal
        bucket, _, key = bucket_and_key.partition("/")
        if bucket != BUCKET:
            return _Refusal(404, "NoSuchBucket", "The specified bucket does not exist", {"BucketName": bucket})
        if request.method != b"PUT" or not key:
            message = "The specified method is not allowed against this resource."
            return _Refusal(405, "MethodNotAllowed", message)
        return None

    def _denial(self, request: Request, query: list[tuple[str, str]]) -> _Refusal | None:
        """Why the signature does not allow it."""
        signing = {name: value for name, value in query if name.startswith("X-Amz-")}
        try:
            access_key, date, *scope = signing["X-Amz-Credential"].split("/")
            given, names = signing["X-Amz-Signature"], signing["X-Amz-SignedHeaders"].split(";")
            stamp, expires = signing["X-Amz-Date"], int(signing["X-Amz-Expires"])
            signed_at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
        except (KeyError, ValueError):
            return _Refusal(403, "AccessDenied", "Access Denied")
        right_scope = [REGION, "s3", "aws4_request"]
        if (
            signing.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256"
            or (date, scope) != (stamp[:8], right_scope)
            or not 0 < expires <= LONGEST
            or "host" not in names
        ):
            message = "Query-string authentication version 4 does not accept these parameters"
            return _Refusal(400, "AuthorizationQueryParametersError", message)
        if access_key != ACCESS_KEY:
            message = "The AWS Access Key Id you provided does not exist in our records."
            return _Refusal(403, "InvalidAccessKeyId", message, {"AWSAccessKeyId": access_key})
        if (now := time.time() + self.ahead) > signed_at + expires:
            times = {"Expires": _iso(signed_at + expires), "ServerTime": _iso(now)}
            return _Refusal(403, "AccessDenied", "Request has expired", {"X-Amz-Expires": str(expires), **times})
        came = {name.decode("latin-1").lower() for name, _ in request.headers}
        if unsigned := sorted(name for name in came if name.startswith("x-amz-") and name not in names):
            message = "There were headers present in the request which were not signed"
            return _Refusal(403, "AccessDenied", message, {"HeadersNotSigned": ", ".join(unsigned)})
        canonical, to_sign, right = _signature(request, query, names, stamp)
        if not hmac.compare_digest(right.encode(), given.encode()):
            message = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            )
            more = {
                "AWSAccessKeyId": access_key,
                "StringToSign": to_sign,
                "SignatureProvided": given,
                "StringToSignBytes": to_sign.encode().hex(" "),
                "CanonicalRequest": canonical,
                "CanonicalRequestBytes": canonical.encode().hex(" "),
            }
            return _Refusal(403, "SignatureDoesNotMatch", message, more)
        return None


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _target(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """The bucket with the key, and the query's pairs, all decoded."""
    path, _, query = request.target.decode("latin-1").partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return unquote(path.removeprefix("/")), [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


def _signature(request: Request, query: list[tuple[str, str]], names: list[str], stamp: str) -> tuple[str, str, str]:
    """The canonical request of what came, the string to sign and the signature, as botocore makes them.

    Path and query are decoded and encoded again, as S3 does: not every other spelling of the same URL is a forgery.
    """
    path = quote(unquote_to_bytes(request.target.partition(b"?")[0]), safe="/-_.~")
    pairs = [(quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in query if n != "X-Amz-Signature"]
    again = AWSRequest(request.method.decode(), f"http://s3{path}?{'&'.join(f'{n}={v}' for n, v in pairs)}")
    for name in names:
        for value in request.all(name):
            again.headers.add_header(name, value)
    again.context["timestamp"] = stamp
    signer = S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)
    canonical = str(signer.canonical_request(again))
    to_sign = str(signer.string_to_sign(again, canonical))
    return canonical, to_sign, str(signer.signature(to_sign, again))


class MotoS3:
    """moto's S3 in a process of its own, with one bucket.  It does not check signatures.

    :param log: takes its output.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
        for _ in range(3):  # somebody may take a free port before moto does
            self.port = free_port()
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
            with log.open("ab") as output:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
                )
            try:
                until(self._up, "moto answers", 2 * BOUND)
            except BaseException:
                self._end()
                raise
            if self.process.poll() is None:
                break
        else:
            raise AssertionError(f"moto did not start: {log.read_text()}")
        try:
            self._client = S3Client(self.url(""))
            self._client.calls.create_bucket(Bucket=BUCKET)
        except BaseException:
            self._end()
            raise

    def _up(self) -> bool:
        with socket.socket() as probe:
            return self.process.poll() is not None or probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, path: str = "/") -> str:
        """The address of ``path``."""
        return f"http://127.0.0.1:{self.port}{path}"

    def presign(self, key: str, expires: int = 300, **params: object) -> str:
        """A URL with which everybody may put ``key``.

        :param params: of ``put_object``, such as ``ContentType`` or ``Metadata``; they are signed as headers.
        """
        return self._client.presign(key, expires, params)

    def object(self, key: str) -> StoredObject | None:
        """What it has under ``key``."""
        try:
            found = self._client.calls.get_object(Bucket=BUCKET, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        size, digest = 0, hashlib.sha256()
        with contextlib.closing(found["Body"]) as body:
            while piece := body.read(PIECE):
                size += len(piece)
                digest.update(piece)
        return StoredObject(size, digest.hexdigest(), found["ContentType"], found["Metadata"])

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self) -> None:
        """End it."""
        self._client.close()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
