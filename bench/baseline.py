"""The baseline: the shortest twisted.web relay that passes a body on chunk by chunk, with back-pressure.

It is what beam is compared with and nothing more: one receiver per key, no refusals, no deadlines, no log.
Usage: ``python -m bench.baseline PORT [CERT KEY]``; it listens on the loopback interface only.
"""

# mypy: disallow-untyped-calls = False
# twisted.web.http has few annotations.

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import endpoints, protocol, reactor
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.web import http
from zope.interface import implementer

waiting: dict[bytes, Relay] = {}


class Relay(http.Request):
    """A PUT that waits for its GET, or a GET that waits for its PUT; whichever comes second joins the two."""

    channel: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.announced: int | None = None
        self.receiver: Relay | None = None
        self.early: list[bytes] = []
        self.whole = False

    def gotLength(self, length: int | None) -> None:
        # A request learns its method when its body is whole; only the channel knows it already.
        if self.channel._command != b"PUT":
            return
        self.announced = length
        key = _key(self.channel._path)
        receiver = waiting.pop(key, None)
        if receiver is None:
            waiting[key] = self
            self.channel._networkProducer.pauseProducing()
        else:
            self.join(receiver)

    def handleContentChunk(self, data: bytes) -> None:
        if self.receiver is None:
            self.early.append(data)  # the rest of the read that brought the head: pausing does not stop that one
        else:
            self.receiver.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        if command == b"PUT":
            self.whole = True
            if self.receiver is not None:
                self.end(self.receiver)
        elif (sender := waiting.pop(_key(path), None)) is not None:
            sender.join(self)
        else:
            waiting[_key(path)] = self

    def join(self, receiver: Relay) -> None:
        """Pass on what came early, and from now on let the receiver's connection pause and resume the sender's."""
        self.receiver = receiver
        if self.announced is not None:
            receiver.setHeader(b"content-length", b"%d" % self.announced)
        receiver.registerProducer(self.channel._networkProducer, True)
        for data in self.early:
            receiver.write(data)
        self.early.clear()
        if self.whole:
            self.end(receiver)
        else:
            self.channel._networkProducer.resumeProducing()

    def end(self, receiver: Relay) -> None:
        """The body is whole: end the download, then answer the sender."""
        receiver.unregisterProducer()
        receiver.finish()
        self.setHeader(b"content-length", b"3")
        self.write(b"ok\n")
        self.finish()


class Channel(http.HTTPChannel):
    requestFactory = Relay
    timeOut = None


@implementer(IProtocolNegotiationFactory)
class Factory(protocol.Factory):
    protocol = Channel

    def acceptableProtocols(self) -> list[bytes]:
        # Without an answer here, Twisted fails the handshake of a TLS client that offers protocols, as curl does.
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        """No access log: the relay alone is measured."""


def _key(path: bytes) -> bytes:
    return path.partition(b"?")[0]


def main(port: str, certificate: str = "", key: str = "") -> None:
    where = f"tcp:{port}:interface=127.0.0.1"
    if certificate:
        where = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    endpoints.serverFromString(reactor, where).listen(Factory())
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
