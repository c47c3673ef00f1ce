"""The way to a forward's target: the one connection, and an answer that comes too early.

What is sent and what an answer means is in ``beam.web.forward``.
"""

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from ipaddress import IPv6Address, ip_address
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from beam.interfaces import IReader
from beam.producer import SpoolProducer
from beam.target import Target
from beam.web.transport import unacknowledged, underlying

LONGEST_ANSWER = 16 << 10  # bytes of a target's answer that are read
SOON = 1.0  # seconds in which the rest of it comes, or not


@frozen
class Answer:
    """What a target said.

    :ivar status: 0 if it was no HTTP.
    :ivar kind: its media type.
    :ivar body: as much of it as came.
    """

    status: int
    kind: str = ""
    body: bytes = b""


class AnsweredEarly(Exception):
    """The target has answered before it had the body."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@implementer(IBodyProducer)
class Body(SpoolProducer):
    """A body of ``length`` bytes, or of unknown length, for Twisted's HTTP client.

    :param stopped: called when the connection is lost, while its socket is still open.
    """

    def __init__(self, reader: IReader, length: int | None, stopped: Callable[[], None]) -> None:
        super().__init__(reader)
        self._stopped = stopped
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self.over = False
        self.halted = False

    def startProducing(self, consumer: Any) -> Deferred[None]:
        def ended(result: Any) -> Any:
            self.over = True
            return result

        return super().startProducing(consumer).addBoth(ended)

    def halt(self) -> None:
        """Write nothing more: the target has answered."""
        self.halted = True
        self.pauseProducing()

    def break_off(self, error: Exception) -> None:
        """End with ``error``, if it has not ended."""
        if self._end():
            self._done.errback(error)

    def resumeProducing(self) -> None:
        if not self.halted:
            super().resumeProducing()

    def stopProducing(self) -> None:
        super().stopProducing()
        self._stopped()


class Wire(ProtocolWrapper):
    """Between the connection and Twisted's client; ``Line`` hears what comes first."""

    factory: "WireFactory"

    def connectionMade(self) -> None:
        self.factory.line.connected(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        data = self.factory.line.heard(data)
        if data:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.line.hung_up()
        super().connectionLost(reason)


class WireFactory(WrappingFactory):
    """Makes the one connection of ``line``."""

    protocol = Wire
    noisy = False

    def __init__(self, wrapped: Any, line: "Line") -> None:
        wrapped.noisy = False  # the log has one line for a transfer
        super().__init__(wrapped)
        self.line = line


@implementer(IAgent, IAgentEndpointFactory, IStreamClientEndpoint)
class Line:
    """One request on one connection, to one of ``addresses`` and to no other.

    Twisted's client shows an answer that comes before the body has ended only when the whole of it is there, and pauses
    its reading before.  So what comes is read here until the body has ended.

    :param headers: all that are sent, besides those of the connection.
    :param timeout: seconds to connect.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target,
        addresses: list[str],
        headers: Mapping[bytes, list[bytes]],
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._addresses = addresses
        self._headers = headers
        self._timeout = timeout
        self._body: Body
        self._wire: Wire | None = None
        self._early = b""  # what came before the body had ended
        self._soon: IDelayedCall | None = None

    def body(self, reader: IReader, length: int | None) -> Body:
        """The body of the request."""
        self._body = Body(reader, length, self._listen_once_more)
        return self._body

    def untaken(self) -> int:
        """Bytes that were written and that the target has not acknowledged."""
        connection = underlying(self._wire)
        return 0 if connection is None or connection.disconnected else unacknowledged(connection.getHandle())

    def hang_up(self) -> None:
        """Break the connection, if there is one."""
        self._forget_soon()
        wire: Any = self._wire
        if wire is not None and wire.transport is not None:
            wire.transport.abortConnection()

    # For treq's client and Twisted's.

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """Do what treq asks for, with the sender's own address and headers: a signature covers each of their bytes."""
        agent = Agent.usingEndpointFactory(self._reactor, self)
        url = self._target.url.encode("ascii")
        answer: Deferred[IResponse] = agent.request(method, url, Headers(dict(self._headers)), bodyProducer)
        return answer

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """This line, whatever the name in ``uri`` stands for by now."""
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See ``IStreamClientEndpoint``; gives Twisted's own protocol, as its client expects."""
        return ensureDeferred(self._connect(WireFactory(protocolFactory, self)))

    async def _connect(self, factory: WireFactory) -> IProtocol:
        endpoints = [self._endpoint(each) for each in self._addresses]
        for endpoint in endpoints[:-1]:
            with suppress(ConnectError):
                return self._client(await endpoint.connect(factory))
        return self._client(await endpoints[-1].connect(factory))

    @staticmethod
    def _client(wire: Any) -> IProtocol:
        client: IProtocol = wire.wrappedProtocol
        return client

    def _endpoint(self, address: str) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if isinstance(ip_address(address), IPv6Address) else TCP4ClientEndpoint
        target, timeout = self._target, self._timeout / len(self._addresses)
        endpoint: IStreamClientEndpoint = kind(self._reactor, address, target.port, timeout=timeout)
        if target.scheme == "http":
            return endpoint
        host = target.host.removeprefix("[").removesuffix("]").encode("ascii")
        wrapped: IStreamClientEndpoint = wrapClientTLS(
            BrowserLikePolicyForHTTPS().creatorForNetloc(host, target.port), endpoint
        )
        return wrapped

    # For the wire.

    def connected(self, wire: Wire) -> None:
        """The connection is there."""
        self._wire = wire

    def heard(self, data: bytes) -> bytes:
        """``data`` came; what of it is for Twisted's client."""
        self._early += data
        if self._body.over:
            data, self._early = self._early, b""
            return data
        found = early_answer(self._early)
        if found is not None:
            self._body.halt()
            _, is_whole = found
            if is_whole or len(self._early) > LONGEST_ANSWER:
                self._answered_early()
            elif self._soon is None:
                self._soon = self._reactor.callLater(SOON, self._answered_early)
        return b""

    def hung_up(self) -> None:
        """The connection is lost."""
        if self._soon is not None:
            self._answered_early()

    def _listen_once_more(self) -> None:
        """A write met a reset, which a target sends that has answered and closed: read its answer."""
        connection = underlying(self._wire)
        if connection is not None and connection.disconnected:
            data = b""
            with suppress(OSError, AttributeError):  # the second time there is no socket any more
                data = connection.getHandle().recv(LONGEST_ANSWER, socket.MSG_DONTWAIT)
            if data:
                connection.protocol.dataReceived(data)

    def _answered_early(self) -> None:
        self._forget_soon()
        found = early_answer(self._early)
        if found is not None:
            self._body.break_off(AnsweredEarly(found[0]))

    def _forget_soon(self) -> None:
        if self._soon is not None:
            if self._soon.active():
                self._soon.cancel()
            self._soon = None


class Received:
    """Bytes that came, as ``http.client`` wants a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        """All of it."""
        return BytesIO(self._data)


def early_answer(data: bytes) -> tuple[Answer, bool] | None:
    """The final response in ``data``, and whether that is all of it; ``None`` while its head is not whole.

    Interim responses are passed over (RFC 9110, 15.2).
    """
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return None
        if not re.match(rb"HTTP/[0-9.]+ 1[0-9][0-9]\b", head):
            break
        data = rest
    received: Any = Received(data)
    response = HTTPResponse(received, method="PUT")
    try:
        response.begin()
    except HTTPException:
        return Answer(0), True
    kind = response.getheader("content-type") or ""
    try:
        body = response.read(LONGEST_ANSWER)
        is_whole = response.length == 0 or (response.chunked and response.isclosed())
        return Answer(response.status, kind, body), is_whole
    except HTTPException:
        return Answer(response.status, kind, rest), False
