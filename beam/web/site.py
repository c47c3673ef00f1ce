"""The factory of connections: how many there may be, and how long each may take for a head."""

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.web.resource import IResource
from twisted.web.server import Site

from beam.web.proxies import Proxies
from beam.web.request import LINGER, Channel, StreamingRequest

NOBODY = Proxies()
KEEP_IDLE = 60.0  # seconds between two requests of a connection


class Crowded(Protocol):
    """Answers one connection too many."""

    def __init__(self, site: "BeamSite") -> None:
        self.site = site

    def connectionMade(self) -> None:
        text = b"This server has as many connections as it can have; try again later.\n"
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(text) + text
        )
        self._closing = self.site.reactor.callLater(LINGER, transport.abortConnection)

    def connectionLost(self, reason: Any = None) -> None:
        if self._closing.active():
            self._closing.cancel()


class BeamSite(Site):
    """The factory of connections.

    :param header_timeout: seconds for a request head.
    :param max_connections: above it a connection is answered with 503.
    :param channels: the connections of all sites that share the limit.
    :param proxies: whose word on the addresses of clients is believed.
    """

    protocol = Channel  # type: ignore[assignment]  # Twisted's wraps one for HTTP/2, which we do not speak
    requestFactory = StreamingRequest

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        header_timeout: float,
        max_connections: int,
        channels: dict[Channel, None],
        proxies: Proxies = NOBODY,
    ) -> None:
        super().__init__(resource, timeout=KEEP_IDLE, reactor=reactor, parsePOSTFormSubmission=False)
        self.header_timeout = header_timeout
        self.max_connections = max_connections
        self.channels = channels
        self.proxies = proxies

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.channels) >= self.max_connections:
            return Crowded(self)
        return super().buildProtocol(addr)

    def startFactory(self) -> None:
        """Twisted's would start a clock for the access log, which we do not write."""

    def log(self, request: object) -> None:
        """One line is written a transfer, by ``beam.log``, and none a request."""

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1", b"http/1.0"]
