"""What beam takes from Twisted without a promise: each private name, and each habit that no document mentions.

``beam.web.request``, ``transport``, ``framing`` and ``ways`` build on these, and ``ways`` on pyOpenSSL's too.  They are
tried here on the classes that have them, so that a new version that changes one fails here, with its name, and not
somewhere in a transfer.
"""

import ast
import inspect
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import OpenSSL
import pytest
import pytest_twisted  # type: ignore[import-untyped,unused-ignore]
from contract.server import Certificate
from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    TLSMemoryBIOProtocol,
    _AggregateSmallWrites,
    _NullAggregator,
)
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, _ChunkedTransferDecoder, _IdentityTransferDecoder
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

import beam

# Each private name, and what it is for.
PINNED = {
    "_command": "the method, to dispatch a request before its body is there",
    "_path": "the target, for the same",
    "_version": "the version, for the same, and to see whether 100 Continue may be sent",
    "_transferDecoder": "the body's decoder, which is told what a direct end has read in its place",
    "_send100Continue": "says that the body may come, once the sender has been admitted",
    "_respondToBadRequestAndDisconnect": "Twisted's refusal of a malformed chunk, replaced by ours",
    "_disconnected": "whether the connection broke before the response had ended",
    "_tempDataBuffer": "what was written and has not been joined to dataBuffer yet: nothing may overtake it",
    "_aggregator": "small writes to TLS that wait for the reactor's next turn: nothing may overtake them",
    "_buffer": "whether there are any",
    "_appSendBuffer": "what TLS could not encrypt yet: nothing may overtake it",
    "_flushReceiveBIO": "lets Twisted have what was decrypted in its place, such as an end",
    "_flushSendBIO": "lets Twisted write what OpenSSL answers, such as an alert",
    "_util": "pyOpenSSL's own way to OpenSSL: SSL_read and SSL_write, and memory to give to them",
    "_ssl": "OpenSSL's object of a connection, for these two",
}
OWNERS: dict[Any, set[str]] = {
    HTTPChannel: {
        "_command",
        "_path",
        "_version",
        "_transferDecoder",
        "_send100Continue",
        "_respondToBadRequestAndDisconnect",
    },
    Request: {"_disconnected"},
    FileDescriptor: {"_tempDataBuffer"},
    BufferingTLSTransport: {"_aggregator"},
    _AggregateSmallWrites: {"_buffer"},
    TLSMemoryBIOProtocol: {"_appSendBuffer", "_flushReceiveBIO", "_flushSendBIO"},
    OpenSSL: {"_util"},
    SSL.Connection: {"_ssl"},
}
FILES = ("web/request.py", "web/transport.py", "web/framing.py", "web/ways.py")
HEAD = b"%s /k?q HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n"


class RecordingRequest(Request):
    """Writes down what the channel calls."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.calls: list[tuple[Any, ...]] = []

    def gotLength(self, length: int | None) -> None:
        self.calls.append(("gotLength", length))
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        self.calls.append(("chunk", data))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.calls.append(("received", command, path, version))
        if not any(call[0] == "early" for call in self.calls):
            super().requestReceived(command, path, version)


class RecordingChannel(HTTPChannel):
    """Writes down when which hook is called, and what is set then."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[dict[str, Any]] = []
        self.bad = 0
        self.data: list[bytes] = []
        self.keeps_expect = True

    def dataReceived(self, data: bytes) -> None:
        self.data.append(data)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        self.heads.append(
            {
                "line": (self._command, self._path, self._version),
                "length": self.length,
                "decoder": self._transferDecoder,
                "line_mode": self.line_mode,
                "requests": len(self.requests),
            }
        )
        if not self.keeps_expect:
            self.requests[-1].requestHeaders.removeHeader(b"expect")
        super().allHeadersReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.bad += 1


class Leaf(Resource):
    """Answers when a test says so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.rendered: list[RecordingRequest] = []

    def render(self, request: Any) -> int:
        self.rendered.append(request)
        return NOT_DONE_YET


class Connection:
    """One connection to a site of Twisted's, with our recorders in it."""

    def __init__(self, channel: type[HTTPChannel] = RecordingChannel) -> None:
        self.clock = Clock()
        self.leaf = Leaf()
        self.site = Site(self.leaf, timeout=60, reactor=self.clock, parsePOSTFormSubmission=False)
        self.site.protocol = channel  # type: ignore[assignment]
        self.site.requestFactory = RecordingRequest
        self.channel: Any = self.site.buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        """``data`` comes from the peer."""
        self.channel.dataReceived(data)

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        """What the first request was told."""
        request: RecordingRequest = self.channel.requests[0]
        return request.calls


# The names.


def used_in(path: Path) -> set[str]:
    """The private names in ``path`` that it, or beam as a whole, does not define for itself."""
    used: set[str] = set()
    own: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self")):
                own.add(name)
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.ImportFrom(module=str(module), names=names):
                used.update(module.split("."), (each.name for each in names))
            case (
                ast.FunctionDef(name=name)
                | ast.AnnAssign(target=ast.Name(id=name))
                | ast.Name(id=name, ctx=ast.Store())
            ):
                own.add(name)
    return {name for name in used - (own - PINNED.keys()) if name.startswith("_") and not name.startswith("__")} | (
        own & PINNED.keys()
    )


def test_every_private_name_is_pinned_here() -> None:
    """These files use these and no others; nothing is pinned that nobody uses."""
    folder = Path(inspect.getfile(beam)).parent
    assert set.union(*(used_in(folder / file) for file in FILES)) == PINNED.keys()
    assert set.union(*OWNERS.values()) == PINNED.keys()


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_they_are_there(owner: Any) -> None:
    """Still, in the class or the package that has them."""
    source = inspect.getsource(owner)
    for name in OWNERS[owner]:
        assert hasattr(owner, name) or f"self.{name}" in source, name


def private_names(kind: type) -> set[str]:
    """The private names that ``kind`` itself defines, on the class or on its instances."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind)))
    found = {name for name in vars(kind) if not name.startswith("__")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_none_of_our_private_names_is_one_of_twisteds() -> None:
    """A name of ours that a base class uses too would break it without a word; but for what is replaced on purpose."""
    from beam.web import framing, request, site, transport, ways

    for module in (framing, request, site, transport, ways):
        for kind in vars(module).values():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            theirs = [base for base in kind.__mro__ if base.__module__.startswith("twisted.")]
            for base in theirs:
                both = private_names(kind) & private_names(base)
                assert both <= {"_respondToBadRequestAndDisconnect"}, f"{kind.__name__} and {base.__name__}"


# Requests that are dispatched when their head is in.


@pytest.mark.parametrize(
    ("header", "length"),
    [(b"Content-Length: 5", 5), (b"Content-Length: 0", 0), (b"X: y", 0), (b"Transfer-Encoding: chunked", None)],
)
def test_a_head_is_announced_before_its_body(header: bytes, length: int | None) -> None:
    """``allHeadersReceived``: the request line, the length and the request are there, and no byte of the body."""
    connection = Connection()
    connection.receive(HEAD % (b"PUT", header))
    (head,) = connection.channel.heads
    assert head["line"] == (b"PUT", b"/k?q", b"HTTP/1.1")
    assert (head["length"], head["requests"], head["line_mode"]) == (length, 1, 1)
    assert (head["decoder"] is None) == (header == b"X: y")
    assert connection.calls[0] == ("gotLength", length)
    received = ("received", b"PUT", b"/k?q", b"HTTP/1.1")
    assert (received in connection.calls) == (length == 0), "without a body it is received at once, and else not yet"


def test_the_request_line_is_gone_behind_the_body() -> None:
    """``_command``, ``_path`` and ``_version`` live from the request line to the end of the body."""
    connection = Connection()
    connection.receive(HEAD % (b"PUT", b"Content-Length: 2"))
    assert connection.channel._command == b"PUT"
    connection.receive(b"ab")
    for name in ("_command", "_path", "_version"):
        assert not hasattr(connection.channel, name)
    assert connection.channel._transferDecoder is None


def test_a_request_can_be_dispatched_early() -> None:
    """``requestReceived`` needs nothing but the head, if ``gotLength`` was told that there is no body."""
    connection = Connection()
    connection.receive(HEAD % (b"POST", b"Content-Length: 2\r\nContent-Type: multipart/form-data; boundary=x"))
    (request,) = connection.channel.requests
    request.requestReceived(b"POST", b"/k?q", b"HTTP/1.1")
    assert connection.leaf.rendered == [request]
    assert (request.method, request.path, request.uri, request.clientproto) == (b"POST", b"/k", b"/k?q", b"HTTP/1.1")
    request.calls.append(("early",))
    connection.receive(b"ab")
    assert request.calls[-2:] == [("chunk", b"ab"), ("received", b"POST", b"/k?q", b"HTTP/1.1")]


def test_limits_of_a_head_are_attributes() -> None:
    """``MAX_LENGTH``, ``totalHeadersSize`` and ``maxHeaders`` of the channel: ours are checked before."""

    class Wide(RecordingChannel):
        MAX_LENGTH = totalHeadersSize = 1 << 20
        maxHeaders = 1 << 20

    large = b"\r\n".join([b"X: " + b"x" * 20_000, *[b"Y: z"] * 600])
    for kind, passes in ((RecordingChannel, False), (Wide, True)):
        connection = Connection(kind)
        connection.receive(HEAD % (b"GET", large))
        assert len(connection.leaf.rendered) == passes


def test_a_site_makes_the_channel_and_tells_it() -> None:
    """``Site.protocol`` and ``requestFactory`` are ours; the channel knows its site, its clock and its time-out."""
    connection = Connection()
    channel = connection.channel
    assert [type(channel)] == [RecordingChannel]
    assert channel.site is connection.site
    assert channel.timeOut == 60
    assert channel.callLater == connection.clock.callLater
    connection.receive(HEAD % (b"GET", b"X: y"))
    assert isinstance(channel.requests[0], RecordingRequest)


def test_no_content_type_is_made_up() -> None:
    """``defaultContentType``: Twisted's is a page; None is none."""
    for kind in (b"text/html", None):
        connection = Connection()
        connection.receive(HEAD % (b"GET", b"X: y"))
        (request,) = connection.leaf.rendered
        request.defaultContentType = kind
        request.write(b"x")
        assert (b"Content-Type: text/html" in connection.transport.value()) == (kind is not None)


# 100 Continue.


def test_continue_is_sent_when_we_say() -> None:
    """``_send100Continue`` is the interim response and nothing else."""
    connection = Connection()
    connection.channel._send100Continue()
    assert connection.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("keeps", [True, False])
def test_continue_is_not_sent_for_an_expectation_that_was_taken_out(keeps: bool) -> None:
    """Twisted looks for the header in ``allHeadersReceived``, after us."""
    connection = Connection()
    connection.channel.keeps_expect = keeps
    connection.receive(HEAD % (b"PUT", b"Expect: 100-continue\r\nContent-Length: 5"))
    assert connection.transport.value() == (b"HTTP/1.1 100 Continue\r\n\r\n" if keeps else b"")


def test_interim_responses_go_through_the_channel() -> None:
    """``HTTPChannel.write`` adds nothing."""
    connection = Connection()
    connection.channel.write(b"HTTP/1.1 102 Processing\r\n\r\n")
    assert connection.transport.value() == b"HTTP/1.1 102 Processing\r\n\r\n"


# Bodies.


@pytest.mark.parametrize("before", [b"", b"abcd"])
def test_a_body_can_be_read_beside_the_decoder(before: bytes) -> None:
    """``_transferDecoder.contentLength`` is what is missing; at 0 the next call, even an empty one, ends the body."""
    connection = Connection()
    connection.receive(HEAD % (b"PUT", b"Content-Length: 10") + before)
    decoder = connection.channel._transferDecoder
    assert decoder.contentLength == 10 - len(before)
    decoder.contentLength -= 10 - len(before)
    decoder.dataReceived(b"")
    assert connection.calls[-1] == ("received", b"PUT", b"/k?q", b"HTTP/1.1")
    assert b"".join(call[1] for call in connection.calls if call[0] == "chunk") == before
    assert connection.channel._transferDecoder is None


def test_chunks_come_decoded() -> None:
    """As they come, and the end is told once."""
    connection = Connection()
    connection.receive(HEAD % (b"PUT", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n2\r\nd")
    assert [call for call in connection.calls if call[0] == "chunk"] == [("chunk", b"abc"), ("chunk", b"d")]
    connection.receive(b"e\r\n0\r\n\r\n")
    assert connection.calls[-2:] == [("chunk", b"e"), ("received", b"PUT", b"/k?q", b"HTTP/1.1")]


class Decoded:
    """A chunk decoder, and what it has told."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.behind: list[bytes] = []
        self.decoder: Any = _ChunkedTransferDecoder(self.chunks.append, self.behind.append)

    def feed(self, *pieces: bytes) -> None:
        """``pieces`` come, each alone."""
        for piece in pieces:
            self.decoder.dataReceived(piece)


@pytest.mark.parametrize(
    ("wire", "state"),
    [
        (b"", "CHUNK_LENGTH"),
        (b"5", "CHUNK_LENGTH"),
        (b"5;x\r", "CHUNK_LENGTH"),
        (b"5;x\r\n", "BODY"),
        (b"5\r\nab", "BODY"),
        (b"5\r\nabcde", "CRLF"),
        (b"5\r\nabcde\r", "CRLF"),
        (b"5\r\nabcde\r\n", "CHUNK_LENGTH"),
        (b"0\r\n", "TRAILER"),
        (b"0\r\nA: b\r\n\r", "TRAILER"),
        (b"0\r\nA: b\r\n\r\n", "FINISHED"),
    ],
)
def test_chunks_have_states(wire: bytes, state: str) -> None:
    """``state`` and ``length`` say where in a chunk a decoder is, whether bytes came at once or one by one."""
    for pieces in ([wire], [bytes([each]) for each in wire]):
        decoded = Decoded()
        decoded.feed(*pieces)
        assert decoded.decoder.state == state
        if state == "BODY":
            assert decoded.decoder.length == 5 - len(b"".join(decoded.chunks))


@pytest.mark.parametrize("taken", range(6))
def test_chunks_can_be_read_beside_the_decoder(taken: int) -> None:
    """It believes ``length``, and goes on behind a chunk of which nothing is left when ``state`` says so."""
    decoded = Decoded()
    decoded.feed(b"5\r\n")
    decoded.decoder.length -= taken
    if taken == 5:
        decoded.decoder.state = "CRLF"
    decoded.feed(b"abcde"[taken:] + b"\r\n2\r\nfg\r\n0\r\n\r\nnext")
    assert b"".join(decoded.chunks) == b"abcde"[taken:] + b"fg"
    assert decoded.behind == [b"next"]


def test_lines_can_be_fed_alone() -> None:
    """A line between chunks is all that a decoder wants then: it keeps nothing, and calls nobody before the end."""
    decoded = Decoded()
    decoded.feed(b"2;x\r\n")
    decoded.decoder.state = "CRLF"
    decoded.feed(b"\r\n3\r\n")
    assert (decoded.decoder.state, decoded.decoder.length) == ("BODY", 3)
    decoded.decoder.state = "CRLF"
    decoded.feed(b"\r", b"\n0", b"\r\n")
    assert (decoded.decoder.state, decoded.behind) == ("TRAILER", [])
    decoded.feed(b"A: b\r\n\r\nnext")
    assert (decoded.chunks, decoded.behind) == ([], [b"next"])


def test_a_known_length_ends_once() -> None:
    """``finishCallback`` is there until the body has ended; nothing ends it before its ``contentLength`` is 0."""
    ended: list[bytes] = []
    decoder: Any = _IdentityTransferDecoder(3, lambda data: None, ended.append)
    decoder.contentLength -= 2
    decoder.dataReceived(b"")
    assert ended == [] and decoder.finishCallback is not None
    decoder.contentLength -= 1
    decoder.dataReceived(b"")
    assert ended == [b""] and decoder.finishCallback is None


@pytest.mark.parametrize("chunk", [b"xyz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"3 \r\nabc\r\n"])
def test_a_malformed_chunk_is_refused_through_one_method(chunk: bytes) -> None:
    """``_respondToBadRequestAndDisconnect`` is called, once, and the request is not received."""
    connection = Connection()
    connection.receive(HEAD % (b"PUT", b"Transfer-Encoding: chunked") + chunk)
    assert connection.channel.bad == 1
    assert not [call for call in connection.calls if call[0] == "received"]


def test_line_mode_tells_heads_from_bodies() -> None:
    """``line_mode`` is 0 from the end of a head until its response has ended, and what comes meanwhile is kept."""
    connection = Connection()
    channel = connection.channel
    assert channel.line_mode
    connection.receive(HEAD % (b"PUT", b"Content-Length: 2"))
    assert not channel.line_mode
    connection.receive(b"ab")
    assert not channel.line_mode
    second = HEAD % (b"GET", b"X: y")
    connection.receive(second)
    assert len(connection.leaf.rendered) == 1
    before = len(channel.data)
    connection.leaf.rendered[0].finish()
    assert channel.data[before:] == [second], "what was kept comes again, through dataReceived"
    assert len(connection.leaf.rendered) == 2


def test_set_line_mode_hands_over_what_is_left() -> None:
    """``LineReceiver.setLineMode`` calls ``dataReceived``, from within whatever ends the request."""
    got: list[bytes] = []

    class Receiver(LineReceiver):
        def dataReceived(self, data: bytes) -> None:
            got.append(data)

    receiver = Receiver()
    receiver.setRawMode()
    receiver.setLineMode(b"rest")
    assert (got, receiver.line_mode) == ([b"rest"], 1)


# How connections go on and end.


@pytest.mark.parametrize("persistent", [True, False])
def test_persistence_is_asked_and_kept(persistent: bool) -> None:
    """``checkPersistence`` decides when the head is in; ``persistent`` may be changed until the response has ended."""
    asked: list[bytes] = []

    class Asked(RecordingChannel):
        def checkPersistence(self, request: Request, version: bytes) -> bool:
            asked.append(version)
            return True

    connection = Connection(Asked)
    connection.receive(HEAD % (b"GET", b"X: y"))
    assert asked == [b"HTTP/1.1"]
    connection.channel.persistent = persistent
    connection.leaf.rendered[0].finish()
    assert connection.transport.disconnecting is not persistent


def test_a_time_out_is_restored_behind_the_response() -> None:
    """``allContentReceived`` takes the time-out that is set away, and ``requestDone`` sets it again."""
    connection = Connection()
    channel = connection.channel
    channel.setTimeout(7)
    connection.receive(HEAD % (b"GET", b"X: y"))
    assert connection.clock.getDelayedCalls() == [], "none while the response is made"
    connection.leaf.rendered[0].finish()
    (call,) = connection.clock.getDelayedCalls()
    assert call.getTime() == 7


def test_a_lost_connection_marks_its_requests() -> None:
    """``_disconnected`` is set, the channel is gone, and nothing can be finished any more."""
    connection = Connection()
    connection.receive(HEAD % (b"GET", b"X: y"))
    request: Any = connection.leaf.rendered[0]
    before = request._disconnected
    connection.channel.connectionLost(Failure(ConnectionDone()))
    assert (before, request._disconnected, request.channel) == (False, True, None)
    request.write(b"x")  # is passed over
    with pytest.raises(RuntimeError):
        request.finish()


def test_the_channel_is_its_transports_producer() -> None:
    """So it is paused when the transport is full; its resuming restarts reading while a body is coming."""
    connection = Connection()
    transport: Any = connection.transport
    channel = connection.channel
    assert transport.producer is channel and transport.streaming
    connection.receive(HEAD % (b"PUT", b"Content-Length: 9"))
    transport.pauseProducing()
    channel.resumeProducing()
    assert transport.producerState == "producing", "hence DirectConnection.resumeProducing"
    connection.receive(b"123456789")
    transport.pauseProducing()
    channel.resumeProducing()
    assert transport.producerState == "paused", "behind the body nobody reads until the response has ended"


# Transports.


class NoReactor:
    """Takes descriptors and does nothing with them."""

    def addReader(self, reader: object) -> None: ...

    def addWriter(self, writer: object) -> None: ...

    def removeReader(self, reader: object) -> None: ...

    def removeWriter(self, writer: object) -> None: ...


class Halting(FileDescriptor):
    """Writes as much as it is told to."""

    def __init__(self) -> None:
        super().__init__(NoReactor())  # type: ignore[arg-type]
        self.connected = 1
        self.takes = 1 << 30
        self.written = b""

    def writeSomeData(self, data: bytes) -> int:
        n = min(self.takes, len(data))
        self.written += bytes(data[:n])
        return n


def test_pending_bytes_are_in_two_buffers() -> None:
    """``_tempDataBuffer`` and ``dataBuffer``: both are empty exactly when everything has been handed to the system."""
    descriptor: Any = Halting()
    assert not descriptor.dataBuffer and not descriptor._tempDataBuffer
    descriptor.write(b"head")
    assert descriptor._tempDataBuffer == [b"head"] and not descriptor.dataBuffer
    descriptor.takes = 1
    descriptor.doWrite()
    assert descriptor.dataBuffer and not descriptor._tempDataBuffer
    descriptor.write(b"more")
    descriptor.takes = 1 << 30
    while descriptor.dataBuffer or descriptor._tempDataBuffer:
        assert descriptor.written != b"headmore"
        assert descriptor.doWrite() is None
    assert descriptor.written == b"headmore"


def test_who_writes_starts_writing() -> None:
    """``write`` calls ``startWriting``, once for each buffer that was empty."""
    started: list[str] = []

    class Starting(Halting):
        def startWriting(self) -> None:
            started.append("started")

    descriptor = Starting()
    descriptor.write(b"head")
    assert started
    while started:
        started.clear()
        descriptor.doWrite()
    assert descriptor.written == b"head"


def test_an_empty_buffer_resumes_the_producer_that_was_paused() -> None:
    """From within ``doWrite``; one that was not paused is left alone."""
    resumed: list[bool] = []

    @implementer(IPushProducer)
    class Producer:
        def pauseProducing(self) -> None:
            resumed.append(False)

        def resumeProducing(self) -> None:
            resumed.append(True)

        def stopProducing(self) -> None: ...

    descriptor = Halting()
    descriptor.registerProducer(Producer(), True)
    descriptor.write(b"x")
    descriptor.doWrite()
    assert resumed == []
    descriptor.write(b"x" * (descriptor.bufferSize + 1))
    assert resumed == [False]
    descriptor.doWrite()
    assert resumed == [False, True]


def test_a_lost_descriptor_says_so() -> None:
    """``disconnected`` is set by ``connectionLost``."""
    descriptor: Any = Halting()
    assert not descriptor.disconnected
    descriptor.connectionLost(Failure(ConnectionDone()))
    assert descriptor.disconnected


def test_one_send_takes_as_much_as_the_limit() -> None:
    """``SEND_LIMIT`` is read from the class of the connection."""

    class Small(tcp.Connection):
        SEND_LIMIT = 10

    ours, theirs = socket.socketpair()
    try:
        connection = Small(ours, Protocol(), NoReactor())  # type: ignore[arg-type]
        connection.connected = 1
        connection.write(b"x" * 25)
        connection.doWrite()
        assert theirs.recv(100) == b"x" * 10
        assert connection.socket is connection.getHandle() is ours
    finally:
        ours.close()
        theirs.close()


class Accepted(Protocol):
    """Tells of its transport."""

    def __init__(self, made: Deferred[Any]) -> None:
        self.made = made

    def connectionMade(self) -> None:
        self.made.callback(self.transport)


async def accepted(listen: Callable[[Any], Any], kind: type, family: int, address: Any, wraps: bool = False) -> Any:
    """The transport of a connection that a port with ``kind`` as its ``transport`` has accepted."""
    made: Deferred[Any] = Deferred()
    forProtocol: Any = Factory.forProtocol
    factory: Any = forProtocol(lambda: Accepted(made))
    port = listen(WrappingFactory(factory) if wraps else factory)
    port.transport = kind
    client = socket.socket(family)
    try:
        client.setblocking(False)
        client.connect_ex(address(port))
        transport = await made
        lost: Any = transport.transport if wraps else transport
        lost.connectionLost(Failure(ConnectionDone()))
    finally:
        client.close()
        await port.stopListening()
    return transport


class OurTCP(tcp.Server):
    """A class of ours."""


class OurUNIX(unix.Server):
    """A class of ours."""


def loopback(port: Any) -> Any:
    """Where ``port`` listens."""
    return port.getHost().host, port.getHost().port


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator,misc,unused-ignore]
async def test_a_port_accepts_with_the_class_it_is_given() -> None:
    """``tcp.Port.transport`` is the class of accepted connections, and may be set on a port that listens."""
    from twisted.internet import reactor

    net: Any = reactor
    assert tcp.Port.transport is tcp.Server
    transport = await accepted(
        lambda factory: net.listenTCP(0, factory, interface="127.0.0.1"), OurTCP, socket.AF_INET, loopback
    )
    assert type(transport) is OurTCP
    assert isinstance(transport, tcp.Connection)


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator,misc,unused-ignore]
async def test_a_unix_port_too(tmp_path: Path) -> None:
    """With a class of its own kind: ``tcp.Server`` cannot be made from a UNIX socket."""
    from twisted.internet import reactor

    net: Any = reactor
    assert unix.Port.transport is unix.Server
    path = str(tmp_path / "socket")
    transport = await accepted(lambda factory: net.listenUNIX(path, factory), OurUNIX, socket.AF_UNIX, lambda _: path)
    assert type(transport) is OurUNIX
    assert not issubclass(unix.Port, tcp.Port) or issubclass(unix.Server, tcp.Server), "make_direct asks for unix first"


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator,misc,unused-ignore]
async def test_wrappers_pretend_to_be_what_they_wrap() -> None:
    """TLS and others proxy attributes and interfaces: the class alone tells, and ``transport`` leads below."""
    from twisted.internet import reactor

    net: Any = reactor
    transport = await accepted(
        lambda factory: net.listenTCP(0, factory, interface="127.0.0.1"), OurTCP, socket.AF_INET, loopback, wraps=True
    )
    assert isinstance(transport, ProtocolWrapper)
    assert ITCPTransport.providedBy(transport) and hasattr(transport, "doRead")
    assert not isinstance(transport, tcp.Connection)
    assert isinstance(transport.transport, OurTCP)


def test_a_half_close_is_told_to_who_can_hear_it() -> None:
    """``IHalfCloseableProtocol`` of the protocol: else the connection ends with the peer's side."""
    told: list[str] = []

    @implementer(IHalfCloseableProtocol)
    class Half(Protocol):
        def readConnectionLost(self) -> None:
            told.append("read")

        def writeConnectionLost(self) -> None:
            told.append("write")

    class Whole(Protocol):
        def connectionLost(self, reason: Failure | None = None) -> None:
            told.append("lost")

    for protocol in (Half(), Whole()):
        ours, theirs = socket.socketpair()
        connection = tcp.Connection(ours, protocol, NoReactor())  # type: ignore[arg-type]
        connection.connected = 1
        protocol.makeConnection(connection)
        connection.readConnectionLost(Failure(ConnectionDone()))
        ours.close()
        theirs.close()
    assert told == ["read", "lost"]


# TLS.


class TLS:
    """Twisted's TLS in memory, and a client of Python's own."""

    def __init__(self, certificate: Certificate, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.clock = Clock()
        self.came: list[bytes] = []
        self.below: Any = StringTransport()
        forProtocol: Any = Factory.forProtocol
        pem = certificate.key.read_text() + certificate.certificate.read_text()
        options = PrivateCertificate.loadPEM(pem).options()
        factory = TLSMemoryBIOFactory(options, False, forProtocol(self._application), self.clock)
        self.transport: Any = factory.buildProtocol(None)
        self.transport.makeConnection(self.below)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self._incoming, self._outgoing)

    def _application(self) -> Protocol:
        application: Any = Protocol()
        application.dataReceived = self.came.append
        return application  # type: ignore[no-any-return]

    def shake_hands(self) -> None:
        """Until both are ready."""
        for _ in range(4):
            with suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            if data := self._outgoing.read():
                self.transport.dataReceived(data)
            self._incoming.write(self.below.value())
            self.below.clear()
        assert self.client.version()

    def seal(self, data: bytes) -> bytes:
        """The ciphertext of ``data``."""
        self.client.write(data)
        return self._outgoing.read()

    def seal_end(self) -> bytes:
        """The ciphertext of a ``close_notify``."""
        with suppress(ssl.SSLWantReadError):
            self.client.unwrap()
        return self._outgoing.read()

    def heard(self, ciphertext: bytes) -> bytes:
        """What the client makes of ``ciphertext``."""
        self._incoming.write(ciphertext)
        heard = b""
        with suppress(ssl.SSLWantReadError):
            while data := self.client.read(1 << 20):
                heard += data
        return heard

    def read(self, view: memoryview) -> int:
        """What ``SSL_read`` says."""
        return int(lib.SSL_read(self.transport.getHandle()._ssl, ffi.from_buffer(view), len(view)))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The server's."""
    return Certificate.create(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def tls(request: pytest.FixtureRequest, certificate: Certificate) -> TLS:
    """A connection that is ready."""
    made = TLS(certificate, request.param)
    made.shake_hands()
    return made


# Twisted gives pyOpenSSL what pyOpenSSL would rather not have any more.
twisted_warns = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@twisted_warns
def test_tls_lies_on_its_transport(tls: TLS) -> None:
    """The class, what is below it, and pyOpenSSL's connection, which has no socket."""
    assert type(tls.transport) is BufferingTLSTransport
    assert tls.transport.transport is tls.below
    assert type(tls.transport.getHandle()) is SSL.Connection


@twisted_warns
def test_small_writes_wait_for_the_next_turn(tls: TLS) -> None:
    """``_aggregator`` has them in ``_buffer`` until then, or until ``flush``; nothing is below before."""
    aggregator = tls.transport._aggregator
    for release in (aggregator.flush, lambda: tls.clock.advance(0)):
        assert not aggregator._buffer
        tls.transport.write(b"two ")
        tls.transport.writeSequence([b"wri", b"tes"])
        assert aggregator._buffer and not tls.below.value()
        release()
        assert not aggregator._buffer
        assert tls.heard(tls.below.value()) == b"two writes"
        tls.below.clear()
    aggregator.flush()
    assert not tls.below.value()


@twisted_warns
def test_a_flush_behind_the_end_does_nothing(tls: TLS) -> None:
    """Another ``_aggregator`` is there then."""
    tls.transport.connectionLost(Failure(ConnectionDone()))
    assert type(tls.transport._aggregator) is _NullAggregator
    tls.transport._aggregator.flush()


@twisted_warns
def test_writes_before_the_handshake_wait(certificate: Certificate) -> None:
    """In ``_appSendBuffer``, which is empty behind it."""
    early = TLS(certificate)
    early.transport.write(b"early")
    early.transport._aggregator.flush()
    assert early.transport._appSendBuffer == [b"early"]
    early.shake_hands()
    assert not early.transport._appSendBuffer
    assert early.heard(b"") == b"early"


@twisted_warns
def test_what_was_left_in_openssl_can_be_delivered(tls: TLS) -> None:
    """``_flushReceiveBIO`` gives to the protocol what ``SSL_read`` has not taken."""
    view = memoryview(bytearray(100))
    tls.transport.getHandle().bio_write(tls.seal(b"a" * 150) + tls.seal(b"b" * 50))
    assert tls.read(view) == 100
    assert (bytes(view), tls.came) == (b"a" * 100, [])
    tls.transport._flushReceiveBIO()
    assert b"".join(tls.came) == b"a" * 50 + b"b" * 50
    tls.transport._flushReceiveBIO()
    assert b"".join(tls.came) == b"a" * 50 + b"b" * 50
    assert not tls.below.disconnecting


@twisted_warns
@pytest.mark.parametrize("spoilt", [False, True], ids=["ended", "spoilt"])
def test_an_end_is_met_again(tls: TLS, spoilt: bool) -> None:
    """By ``_flushReceiveBIO``, which does what is to be done then, when ``SSL_read`` and ``recv_into`` have met it."""
    handle, view = tls.transport.getHandle(), memoryview(bytearray(100))
    good, end = tls.seal(b"good"), tls.seal(b"bad") if spoilt else tls.seal_end()
    handle.bio_write(good + (end[:-1] + bytes([end[-1] ^ 1]) if spoilt else end))
    assert tls.read(view) == 4
    assert tls.read(view) <= 0
    with pytest.raises(SSL.Error if spoilt else SSL.ZeroReturnError):
        handle.recv_into(view[:1])
    assert not tls.below.disconnecting and not tls.below.value()
    tls.transport._flushReceiveBIO()
    assert tls.below.disconnecting
    assert tls.below.value(), "the peer is told"
    assert tls.came == []


@twisted_warns
def test_what_openssl_answers_can_be_written(tls: TLS) -> None:
    """``_flushSendBIO`` writes what is there, and nothing if there is nothing."""
    tls.transport._flushSendBIO()
    assert not tls.below.value()
    assert tls.transport.getHandle().send(b"x") == 1
    assert not tls.below.value()
    tls.transport._flushSendBIO()
    assert tls.heard(tls.below.value()) == b"x"


@twisted_warns
def test_a_read_fills_memory_of_ours(tls: TLS) -> None:
    """``SSL_read`` takes any memory, at any place in it, and gives one record at most; ``recv_into`` says why not."""
    handle, data = tls.transport.getHandle(), bytes(range(250)) * 160
    view = memoryview(bytearray(len(data) + 1))
    handle.bio_write(tls.seal(data[:1000]) + tls.seal(data[1000:]))
    to, sizes, filled = ffi.from_buffer(view), [], 1
    while (n := lib.SSL_read(handle._ssl, to + filled, len(view) - filled)) > 0:
        sizes.append(n)
        filled += n
    assert bytes(view[1:]) == data
    assert sizes == [1000, 16384, 16384, len(data) - 1000 - 2 * 16384]
    handle.bio_write(tls.seal(b"x")[:-1])
    assert tls.read(view) < 0
    with pytest.raises(SSL.WantReadError):
        handle.recv_into(view[:1])


@twisted_warns
def test_a_write_takes_one_record(tls: TLS) -> None:
    """``SSL_write`` takes any memory too, one record of it; ``bio_read`` has all that it made."""
    handle, data = tls.transport.getHandle(), bytes(range(250)) * 160
    begin, sizes, done = ffi.from_buffer(memoryview(data)), [], 0
    while done < len(data):
        sizes.append(lib.SSL_write(handle._ssl, begin + done, len(data) - done))
        done += sizes[-1]
    assert sizes == [16384, 16384, len(data) - 2 * 16384]
    ciphertext = handle.bio_read(2 * len(data) + 16384)
    assert tls.heard(ciphertext) == data
    with pytest.raises(SSL.WantReadError):
        handle.bio_read(1)


@twisted_warns
def test_no_write_is_possible_behind_the_end(tls: TLS) -> None:
    """``SSL_write`` fails, and ``send`` says so."""
    handle = tls.transport.getHandle()
    tls.transport.loseConnection()
    assert lib.SSL_write(handle._ssl, ffi.from_buffer(b"x"), 1) <= 0
    with pytest.raises(SSL.Error):
        handle.send(b"x")
