"""HTTP/1.1 connections and requests that are dispatched when their head is in, not when their body is.

Private names of Twisted are used here; ``tests/test_twisted_contract.py`` pins each, and says what it is for.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from zope.interface import implementer

from beam.errors import BadRequest, BeamError, RequestTimeout
from beam.web.framing import Chunked, Framing, Identity
from beam.web.head import LIMIT, checked, end_of_head
from beam.web.proxies import Proxies
from beam.web.transport import DirectConnection, has_left, underlying
from beam.web.ways import Way, way
from beam.web.words import PLAIN, WORDS, Words

LINGER_BYTES = 1 << 20  # of a refused body that are read, so that the client reads the answer
LINGER = 1.0  # seconds for which they are
FLUSH = 30.0  # seconds for the last bytes of a closing connection to go out


def error_text(status: int, sentence: str, as_json: bool, kind: str = PLAIN) -> tuple[str, bytes]:
    """The media type and the body that tell of an error; ``kind`` is that of plain text."""
    if as_json:
        return "application/json", json.dumps({"error": sentence, "status": status}).encode() + b"\n"
    return kind, sentence.encode() + b"\n"


class ChannelSite(Protocol):
    """What a connection needs of its factory."""

    channels: dict["Channel", None]
    header_timeout: float
    proxies: Proxies


class BodyEnd(Protocol):
    """Whoever takes the body of a request."""

    def received(self, data: bytes) -> None:
        """A piece of the body, decoded."""

    def ended(self) -> None:
        """That was all of it."""

    def broken(self, error: BeamError) -> None:
        """It is malformed, and ends here."""


class StreamingRequest(Request):
    """A request whose resource sees it before its body has come.

    :ivar length: bytes of the body, or ``None`` if only its end tells.
    :ivar words: how errors are told.
    :ivar below: its path as it was written, in the scope that it belongs to.
    """

    defaultContentType = None
    length: int | None = 0
    words: Words = WORDS["beam"]
    below: str = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._body_end: BodyEnd | None = None
        self._begun = False
        self._body_over = False
        self._expects = False
        self._lost: Callable[[], None] | None = None
        self._half_closed: Callable[[], bool] | None = None
        self._drained = 0
        self._lingering: IDelayedCall | None = None

    # What Twisted's channel calls.

    def begin(self, command: bytes, path: bytes, version: bytes, length: int | None, expects: bool) -> None:
        """The head is in, and a body will follow."""
        self._begun = True
        self.length = length
        self._expects = expects
        super().requestReceived(command, path, version)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self._body_over = True
        if not self._begun:
            self._begun = True
            super().requestReceived(command, path, version)
        elif self._body_end is not None:
            body_end, self._body_end = self._body_end, None
            body_end.ended()

    def process(self) -> None:
        if self.path == b"*":
            self.path = b"/"  # Twisted would answer by itself, and end the request while its body comes
        super().process()

    def handleContentChunk(self, data: bytes) -> None:
        if self._body_end is not None:
            if data:
                self._body_end.received(data)
        else:
            self._drained += len(data)
            if self._lingering is not None and self._drained > LINGER_BYTES:
                transport: Any = self.transport
                transport.pauseProducing()  # a close now would be a reset, which can overtake the answer

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)  # bodies are never gathered

    def connectionLost(self, reason: Failure) -> None:
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        lost, self._lost = self._lost, None
        self._body_end = None
        super().connectionLost(reason)
        if lost is not None:
            lost()

    def body_broken(self, error: BeamError) -> None:
        """The body's framing is malformed; nothing more will come of it."""
        self.channel.persistent = False
        body_end, self._body_end = self._body_end, None
        if body_end is not None:
            body_end.broken(error)

    @property
    def in_progress(self) -> bool:
        """Whether somebody wants to hear of the connection's end."""
        return self._lost is not None

    def survives_half_close(self) -> bool:
        """The peer has ended its side; whether the request goes on."""
        return self._half_closed is not None and self._half_closed()

    # What resources use.

    def field(self, name: str) -> str | None:
        """The value of the header ``name``, the last if it is given several times."""
        value = self.getHeader(name)
        return None if value is None else str(value)

    def on_lost(self, lost: Callable[[], None], half_closed: Callable[[], bool]) -> None:
        """Call ``lost`` when the connection breaks before the response has ended.

        :param half_closed: asked when the peer has ended its side only; whether the request goes on or has ended well.
        """
        self._lost, self._half_closed = lost, half_closed

    @property
    def body_is_whole(self) -> bool:
        """Whether all of the body has come, decoded or not."""
        return self._body_over or self.length == 0

    def take_body(self, body_end: BodyEnd) -> None:
        """Give the body to ``body_end`` as it comes; the client is told to go on if it asks."""
        if self.length == 0 and not self._body_over:
            self._body_over = True
        if self._body_over:
            body_end.ended()
            return
        self._body_end = body_end
        self.send_continue()

    @property
    def asks_to_continue(self) -> bool:
        """Whether the client waits to be told to send its body."""
        return self._expects

    def send_continue(self) -> bool:
        """Tell a client that asks for it to send its body (RFC 9110, 10.1.1); whether it did."""
        asked, self._expects = self._expects, False
        if asked:
            self.channel._send100Continue()
        return asked

    def hold(self) -> None:
        """Keep what comes of the body, and of requests behind it, until ``go_on``."""
        channel: Any = self.channel
        channel.hold()

    def go_on(self) -> None:
        """Take what ``hold`` has kept, and what comes."""
        channel: Any = self.channel
        if channel is not None:
            channel.go_on()

    def framing(self) -> Framing:
        """How a direct end has to read the body."""
        return Chunked(self.channel) if self.length is None else Identity(self.channel)

    def resume_reading(self) -> None:
        """Read the connection, so that the peer's end is noticed."""
        transport: Any = self.transport
        transport.resumeProducing()

    def interim(self, head: bytes) -> None:
        """Send an interim response (RFC 9110, 15.2)."""
        self.channel.write(head)

    def way(self) -> Way | None:
        """The way to and from the socket, if direct ends may take it."""
        return way(self.transport)

    @property
    def connection(self) -> DirectConnection | None:
        """The connection with the socket, below TLS."""
        found = underlying(self.transport)
        return found if isinstance(found, DirectConnection) else None

    def peer_gone(self, owed: int) -> bool:
        """Whether the peer can be seen to have left, although nothing is read from it.

        :param owed: bytes of the body, at least, that have not come yet.
        """
        connection = self.connection
        if connection is None:
            return False
        return bool(connection.disconnected) or has_left(connection.getHandle(), owed)

    @property
    def peer(self) -> str:
        """The client's address, for the log and for limits: the peer's, or what a trusted proxy says."""
        site: Any = self.site
        return str(site.proxies.client(getattr(self.client, "host", None), self.requestHeaders))

    def isSecure(self) -> bool:
        """Whether the client came by TLS: the connection's, or what a trusted proxy says."""
        site: Any = self.site
        said = site.proxies.says_secure(getattr(self.client, "host", None), self.requestHeaders)
        return bool(super().isSecure() if said is None else said)

    def conclude(self) -> None:
        """The response is written: end the request.  A body that is still coming is read for a moment first."""
        self._lost = self._half_closed = None
        if self._disconnected:
            return
        if self.body_is_whole:
            self.finish()
            return
        self._body_end = None
        self.channel.persistent = False
        self.resume_reading()
        # Not from here: Twisted's decoder may be in the middle of this request's body.
        self._lingering = self.channel.callLater(0 if self._expects else LINGER, self._end_lingering)

    def _end_lingering(self) -> None:
        self._lingering = None
        self.finish()

    def abort(self, shown: bool) -> None:
        """Break off the response: nobody may take the part for the whole.

        :param shown: whether its framing shows that something is missing; if not, the connection is reset.
        """
        self._lost = self._half_closed = None
        if self._disconnected or self.channel is None:
            return
        if shown:
            self.channel.persistent = False
            self.channel.loseConnection()
        else:
            transport: Any = self.connection or self.transport
            transport.abortConnection()


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """One HTTP/1 connection: checks each head whole, and dispatches the request then.

    :ivar discarding: whether nothing that comes is taken for a request or its body any more.
    """

    MAX_LENGTH = totalHeadersSize = 1 << 20  # ``beam.web.head`` has the limits
    maxHeaders = 1 << 20
    requestFactory = StreamingRequest
    site: "ChannelSite"

    def __init__(self) -> None:
        super().__init__()
        self._incoming = b""
        self._head_started = False
        self._parsing = False
        self._closing: IDelayedCall | None = None
        self.discarding = False
        self._held = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels[self] = None
        self.setTimeout(self.site.header_timeout)

    def dataReceived(self, data: bytes) -> None:
        if self.discarding:
            return
        if not self.line_mode and not self._parsing and not self._incoming and not self._held:
            self._parsing = True
            super().dataReceived(data)  # a body, or what comes behind it
            self._parsing = False
        else:
            self._incoming += data
        if self._parsing:
            return
        self._parsing = True
        try:
            while self._incoming and not self.discarding and not self._held:
                if self.line_mode:
                    if not self._take_head():
                        break
                else:
                    data, self._incoming = self._incoming, b""
                    super().dataReceived(data)
        finally:
            self._parsing = False

    def setTimeout(self, period: float | None) -> float | None:
        old = self.timeOut
        if period is not None and old is not None and period < old:
            super().setTimeout(None)  # to call it sooner, Twisted would look for it among all calls there are
        super().setTimeout(period)
        return old

    def hold(self) -> None:
        """Parse nothing more until ``go_on``."""
        self._held = True
        self.setTimeout(None)
        transport: Any = self.transport
        transport.pauseProducing()

    def go_on(self) -> None:
        """Parse what came meanwhile, and read on."""
        self._held = False
        if self._incoming:
            self.dataReceived(b"")
        transport: Any = self.transport
        if transport is not None:
            transport.resumeProducing()

    def _take_head(self) -> bool:
        """Hand the next head to Twisted, alone, so that nothing reaches its parser unchecked; whether there was one."""
        if self._incoming.startswith(b"\r\n"):  # RFC 9112, 2.2
            self._incoming = self._incoming[2:]
        try:
            end = end_of_head(self._incoming)
            if not end:
                if self._incoming and not self._head_started:
                    self._head_started = True
                    self.setTimeout(self.site.header_timeout)
                return False
            head = checked(self._incoming[:end])
        except BeamError as error:
            self.refuse(error, self._incoming[:LIMIT])
            return False
        self._incoming = self._incoming[end:]
        self._head_started = False
        super().dataReceived(head)
        return True

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        # Twisted would answer 100 before anybody has looked at the request.
        expects = self._version == b"HTTP/1.1" and request.requestHeaders.hasHeader(b"expect")
        request.requestHeaders.removeHeader(b"expect")
        super().allHeadersReceived()
        if self.length != 0:
            self.setTimeout(None)  # a body takes as long as it takes; the broker watches it
            request.begin(self._command, self._path, self._version, self.length, expects)

    def allContentReceived(self) -> None:
        self.setTimeout(self.timeOut)  # Twisted saves it here, and restores it behind the response
        super().allContentReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        values = request.requestHeaders.getRawHeaders(b"connection", [])
        tokens = {token.strip().lower() for value in values for token in value.split(b",")}
        if version == b"HTTP/1.1" and b"close" not in tokens:
            return True
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        # As Twisted's, but in one piece.
        lines = [b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self.write(b"%b %b %b\r\n%b\r\n" % (version, code, reason, b"".join(lines)))

    def refuse(self, error: BeamError, asked: bytes = b"") -> None:
        """Answer what is no request, and close.  ``asked`` is its head, as far as there is one."""
        kind, text = error_text(
            error.status, error.sentence, b"application/json" in asked.lower() and b"text/html" not in asked.lower()
        )
        head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n"
        reason = HTTPStatus(error.status).phrase.encode()
        self.write(head % (error.status, reason, kind.encode(), len(text)) + b"Connection: close\r\n\r\n" + text)
        self._discard()
        # What was sent behind the bad head would turn the close into a reset, which can destroy the answer.
        self._close_in(LINGER, self.loseConnection)

    def _discard(self) -> None:
        """Read on, but take nothing of it for a request."""
        self.discarding = True
        self._incoming = b""
        self.setTimeout(None)

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own refusals, of which a malformed chunk is the one that the head check leaves to it.
        self._discard()
        self.requests[0].body_broken(
            BadRequest("The body is malformed: a chunk has no valid size or end (RFC 9112, 7.1).")
        )

    def timeoutConnection(self) -> None:
        if self._incoming and self.line_mode:
            self.refuse(RequestTimeout(f"The request head took longer than {self.site.header_timeout:g} seconds."))
        else:
            self.loseConnection()

    def loseConnection(self) -> None:
        self._discard()  # until TLS has closed, the rest of a refused body may still come
        super().loseConnection()
        # A peer that reads nothing, or answers no close_notify, would keep a closing connection for ever.
        self._close_in(FLUSH, self._give_up)

    def _close_in(self, seconds: float, close: Callable[[], None]) -> None:
        if self._closing is not None:
            self._closing.cancel()

        def due() -> None:
            self._closing = None
            close()

        self._closing = self.callLater(seconds, due) if self in self.site.channels else None

    def _give_up(self) -> None:
        transport: Any = underlying(self.transport) or self.transport
        transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The peer has ended its side: a receiver has left; a sender may have sent all it has."""
        request = self.requests[0] if self.requests else None
        if request is not None and request.in_progress and not request.survives_half_close():
            transport: Any = underlying(self.transport)
            transport.connectionLost(Failure(ConnectionDone()))
        elif request is None or not request.in_progress:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """We never end our side alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.pop(self, None)
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        super().connectionLost(reason)
