"""Forwarding: a reader of a spool becomes the body of a PUT to another server.

The way of a byte here: ``Body`` writes it to Twisted's HTTP client, which treq drives; the client's connection goes to
an address that was resolved and checked once, before the sender was admitted.
"""

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from ipaddress import IPv6Address, ip_address
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from beam.errors import BadRequest, BeamError, Forbidden, Forwarded, ForwardFailed, LengthRequired
from beam.interfaces import IForwardingStore, IForwardTarget, IReader, IStore
from beam.policy import Policy, SendOptions
from beam.producer import SpoolProducer
from beam.target import NEVER_FORWARDED, Target, check_allowed, excerpt, is_public, parse_target
from beam.web.request import StreamingRequest
from beam.web.transport import unacknowledged, underlying

PREFIX = "x-forward-header-"
LONGEST_ANSWER = 16 << 10  # bytes of a target's refusal that are read
SOON = 1.0  # seconds in which the rest of it comes, or not

log = Logger()


def forward_headers(request: StreamingRequest, is_raw: bool) -> dict[bytes, list[bytes]]:
    """The headers for the target: the sender's Content-Type, and what it gave as ``X-Forward-Header-NAME``.

    :param is_raw: whether the body is the file; a form's type is not that of its file.
    :raises BadRequest: one of them is the connection's own.
    """
    found: dict[bytes, list[bytes]] = {}
    if is_raw:
        found[b"content-type"] = list(request.requestHeaders.getRawHeaders(b"content-type", []))[:1]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lower = name.decode("ascii").lower()
        if lower.startswith(PREFIX):
            lower = lower.removeprefix(PREFIX)
            if not lower or lower in NEVER_FORWARDED:
                raise BadRequest(f"The header {name.decode('ascii')} cannot be forwarded; leave it out.")
            found[lower.encode()] = list(values)
    return found


def target_of(
    request: StreamingRequest, policy: Policy, store: IStore, key: str, length: int | None, options: SendOptions
) -> tuple[Target, bool] | None:
    """Where the body of ``request`` goes on to, and whether that address is the operator's; ``None`` if it does not.

    :param store: the one that the sender named, or the default.
    :param length: of the file, if the head tells.
    :raises BeamError: it may not go there, or cannot.
    """
    values = request.requestHeaders.getRawHeaders("x-forward-url", [])
    if len(values) > 1:
        raise BadRequest("The header X-Forward-Url is given twice; give it once.")
    if values:
        target = parse_target(values[0])
        check_allowed(target, policy.allow_forward)
        if length is None and "spool" not in options.forward:
            raise LengthRequired(
                "A forward needs the length of the file before its first byte; send it with a Content-Length, or with "
                "?forward=spool."
            )
        return target, False
    if IForwardingStore.providedBy(store):
        forwarding: Any = store
        return parse_target(forwarding.url(key)), True
    if options.forward:
        raise BadRequest("The option forward needs the header X-Forward-Url.")
    return None


@implementer(IResolutionReceiver)
class Addresses:
    """Gathers what a resolver finds; ``done`` fires with it."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: IAddress) -> None:
        host: Any = address
        self._found.append(host.host)

    def resolutionComplete(self) -> None:
        self.done.callback(self._found)  # behind a timeout it goes nowhere


async def resolve(reactor: Any, target: Target, private: bool, timeout: float) -> list[str]:
    """The addresses of ``target``, each of which may be connected to; none if its name is not known in time.

    :param private: whether those that are not public may be, too.
    :raises Forbidden: one of them may not.
    """
    host = target.host.removeprefix("[").removesuffix("]")
    try:
        found = [str(ip_address(host))]
    except ValueError:
        resolver: IHostnameResolver = reactor.nameResolver
        addresses = Addresses()
        found = []
        with suppress(UnicodeError, DeferredTimeout):  # it can be no name, or nobody answers in time
            resolver.resolveHostName(addresses, host)
            found = await addresses.done.addTimeout(timeout, reactor)
    if not private and not all(is_public(each) for each in found):
        raise Forbidden(f"This server does not forward to {target.host}: its address is not a public one.")
    return found


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

    def resumeProducing(self) -> None:
        if not self.halted:
            super().resumeProducing()

    def stopProducing(self) -> None:
        super().stopProducing()
        self._stopped()


class Wire(ProtocolWrapper):
    """Between the connection and Twisted's client: watches for an answer that comes before the body has ended.

    Twisted's client would show such an answer only when the whole of it is there, and pauses its reading before.
    """

    factory: "WireFactory"

    def connectionMade(self) -> None:
        self.factory.forward.connected(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        data = self.factory.forward.heard(data)
        if data:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.forward.hung_up()
        super().connectionLost(reason)


class WireFactory(WrappingFactory):
    """Makes the one connection of ``forward``."""

    protocol = Wire
    noisy = False

    def __init__(self, wrapped: Any, forward: "TargetPut") -> None:
        super().__init__(wrapped)
        self.forward = forward


@implementer(IStreamClientEndpoint)
class Checked:
    """Connects to the first of ``addresses`` that answers, and to no other."""

    def __init__(self, reactor: Any, addresses: list[str], port: int, timeout: float) -> None:
        self._endpoints = [
            (TCP6ClientEndpoint if isinstance(ip_address(each), IPv6Address) else TCP4ClientEndpoint)(
                reactor, each, port, timeout=timeout / len(addresses)
            )
            for each in addresses
        ]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See ``IStreamClientEndpoint``."""
        return ensureDeferred(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        for endpoint in self._endpoints[:-1]:
            try:
                return await endpoint.connect(factory)
            except ConnectError:
                pass
        return await self._endpoints[-1].connect(factory)


@implementer(IForwardTarget, IAgent, IAgentEndpointFactory)
class TargetPut:
    """One PUT to ``target``.

    :param addresses: of ``resolve``.
    :param private: whether the address is the operator's own, of which the sender hears nothing.
    """

    def __init__(
        self,
        reactor: Any,
        policy: Policy,
        target: Target,
        addresses: list[str],
        headers: Mapping[bytes, list[bytes]],
        private: bool,
    ) -> None:
        self.host = target.host
        self.name = "the server behind this one" if private else target.host
        self._reactor = reactor
        self._timeout = policy.forward_timeout
        self._target = target
        self._addresses = addresses
        self._headers = dict(headers)
        self._private = private
        self._wire: Wire | None = None
        self._early = b""  # what came before the body had ended
        self._soon: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._body: Body

    def start(self, reader: IReader, length: int | None, content_type: str) -> Deferred[None]:
        self._body = Body(reader, length, self._listen_once_more)
        self._headers.setdefault(b"content-type", [content_type.encode()])  # a form's file says what it is later
        self._running = ensureDeferred(self._put())
        return self._running

    def untaken(self) -> int:
        connection = underlying(self._wire)
        return 0 if connection is None or connection.disconnected else unacknowledged(connection.getHandle())

    def cut(self) -> None:
        if self._running is not None:
            self._running.cancel()
        self._hang_up()

    async def _put(self) -> None:
        client = HTTPClient(self)
        try:
            if not self._addresses:
                raise self._failure("has no known address", Forwarded.UNREACHABLE)
            response = await client.put(
                self._target.url,
                data=self._body,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            if not 200 <= response.code < 300:
                raise self._refusal(response.code, *await self._read(response))
        except BeamError:
            raise
        except Exception as error:
            raise self._reason(error) from None
        finally:
            self._hang_up()

    # As the agent and the endpoint factory of treq's client.

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """Do what treq asks for, with the sender's own address and headers: a signature covers each of their bytes."""
        agent = Agent.usingEndpointFactory(self._reactor, self)
        url = self._target.url.encode("ascii")
        answer: Deferred[IResponse] = agent.request(method, url, Headers(self._headers), bodyProducer)
        return answer

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The way to the addresses that were checked, whatever their name stands for by now."""
        endpoint: IStreamClientEndpoint = Checked(self._reactor, self._addresses, self._target.port, self._timeout)
        if self._target.scheme == "https":
            creator = BrowserLikePolicyForHTTPS().creatorForNetloc(uri.host, uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return Watched(endpoint, self)

    # As the one that the wire tells.

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
            if found[-1] or len(self._early) > LONGEST_ANSWER:
                self._answered_early()
            elif self._soon is None:
                self._soon = self._reactor.callLater(SOON, self._answered_early)
        return b""

    def _listen_once_more(self) -> None:
        """A write met a reset, which a target sends that has answered and closed: read its answer."""
        connection = underlying(self._wire)
        if connection is not None and connection.disconnected:
            data = b""
            with suppress(OSError, AttributeError):  # the second time there is no socket any more
                data = connection.getHandle().recv(LONGEST_ANSWER, socket.MSG_DONTWAIT)
            if data:
                connection.protocol.dataReceived(data)

    def hung_up(self) -> None:
        """The connection is lost."""
        if self._soon is not None:
            self._answered_early()

    def _answered_early(self) -> None:
        self._forget_soon()
        found = early_answer(self._early)
        if found is not None and not self._body.over:
            status, kind, text, _ = found
            self._body.body_failed(self._refusal(status, kind, text))

    def _forget_soon(self) -> None:
        if self._soon is not None:
            if self._soon.active():
                self._soon.cancel()
            self._soon = None

    def _hang_up(self) -> None:
        self._forget_soon()
        wire: Any = self._wire
        if wire is not None and wire.transport is not None:
            wire.transport.abortConnection()

    # What a failure says.

    async def _read(self, response: Any) -> tuple[str, bytes]:
        """The type and the first bytes of a refusal's body, as far as they come soon."""
        parts: list[bytes] = []

        def take(data: bytes) -> None:
            parts.append(data)
            if sum(map(len, parts)) > LONGEST_ANSWER:
                self._hang_up()

        with suppress(Exception):  # however it ends, it is the answer that counts
            await treq.collect(response, take).addTimeout(SOON, self._reactor)
        return ",".join(response.headers.getRawHeaders("content-type", [])), b"".join(parts)[:LONGEST_ANSWER]

    def _refusal(self, status: int, kind: str, body: bytes) -> ForwardFailed:
        if not status:
            return self._failure("sent something that is no HTTP", Forwarded.REFUSED)
        said = excerpt(kind, body)
        text = f"answered {status}{' before the file had ended' if status < 300 else ''}{': ' if said else ''}{said}"
        return self._failure(text, Forwarded.REFUSED)

    def _reason(self, error: Exception) -> BeamError:
        """What an exception of Twisted's client means."""
        inner = getattr(error, "reasons", None)
        while inner:
            error = inner[0].value
            inner = getattr(error, "reasons", None)
        if isinstance(error, BeamError):
            return error
        if isinstance(error, ConnectError):
            return self._failure("could not be reached", Forwarded.UNREACHABLE)
        if type(error).__module__.startswith(("OpenSSL", "service_identity")):
            return self._failure("did not show a valid certificate", Forwarded.UNREACHABLE)
        return self._failure("closed the connection before it had answered", Forwarded.UNREACHABLE)

    def _failure(self, text: str, how: Forwarded) -> ForwardFailed:
        if self._private:
            log.warn("the forward target {host} {text}", host=self.host, text=text)
            return ForwardFailed("The server behind this one did not take the file; try again later.", how)
        return ForwardFailed(f"The forward target {self.host} {text}.", how)


@implementer(IStreamClientEndpoint)
class Watched:
    """Puts a ``Wire`` above ``endpoint``, and above TLS if there is any."""

    def __init__(self, endpoint: IStreamClientEndpoint, forward: TargetPut) -> None:
        self._endpoint = endpoint
        self._forward = forward

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See ``IStreamClientEndpoint``; gives Twisted's own protocol, as its client expects."""
        return ensureDeferred(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        quiet: Any = factory
        quiet.noisy = False  # the log has one line for a transfer
        wire: Any = await self._endpoint.connect(WireFactory(factory, self._forward))
        wrapped: IProtocol = wire.wrappedProtocol
        return wrapped


class Received:
    """Bytes that came, as ``http.client`` wants a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        """All of it."""
        return BytesIO(self._data)


def early_answer(data: bytes) -> tuple[int, str, bytes, bool] | None:
    """Status, type, and body as far as it is there, of the final response in ``data``, and whether that is all of it.

    ``None`` while its head is not whole, status 0 if it is none; interim responses are passed over (RFC 9110, 15.2).
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
        return 0, "", b"", True
    kind = response.getheader("content-type") or ""
    try:
        body = response.read(LONGEST_ANSWER)
        return response.status, kind, body, response.length == 0 or (response.chunked and response.isclosed())
    except HTTPException:
        return response.status, kind, rest, False
