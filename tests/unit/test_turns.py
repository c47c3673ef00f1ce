"""What is done without the reactor: answers behind a read, bytes that wait in TLS, timers that are not looked for."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.base import DelayedCall
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from unit.actors import Stage

from beam.deadlines import Deadline
from beam.web.resource import Root
from beam.web.scope import Scope
from beam.web.site import BeamSite
from beam.web.transport import DirectTCP


class Reactor(Clock):
    """Counts who waits to write, which takes another turn."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_to_write = 0
        self.readers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard

    def addWriter(self, _: Any) -> None:
        self.asked_to_write += 1

    def removeWriter(self, _: Any) -> None:
        """Nobody is there."""


class Echo(Protocol):
    """Writes what comes, and closes the connection behind a full stop."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)
        if data.endswith(b"."):
            transport.loseConnection()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname(), 5)
        ours, _ = listening.accept()
    ours.setblocking(False)
    with peer, ours:
        yield ours, peer


def connect(ours: socket.socket, reactor: Reactor) -> Any:
    """The server's end."""
    protocol: Any = Echo()
    connection: Any = DirectTCP(ours, protocol, ("127.0.0.1", 0), None, 0, reactor)
    protocol.makeConnection(connection)
    return connection


def test_an_answer_goes_out_behind_the_read_that_brought_it_about(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """It waits for no turn of the reactor."""
    ours, peer = sockets
    reactor = Reactor()
    connection = connect(ours, reactor)
    peer.sendall(b"hello")
    assert connection.doRead() is None
    assert peer.recv(100) == b"hello"
    assert reactor.asked_to_write == 0 and not connection.has_pending()
    connection.write(b"by itself")
    assert reactor.asked_to_write == 1, "what no read brings about waits for its turn"


def test_what_the_system_does_not_take_waits_for_it(sockets: tuple[socket.socket, socket.socket]) -> None:
    """The reactor goes on with the rest."""
    ours, peer = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    reactor = Reactor()
    connection = connect(ours, reactor)
    connection.protocol.dataReceived = lambda data: connection.write(bytes(50_000_000))
    peer.sendall(b"hello")
    assert connection.doRead() is None
    assert reactor.asked_to_write == 1 and connection.has_pending()


def test_a_connection_that_closes_behind_a_read_does_so_in_its_turn(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """A read that gave the end as its result would be taken for the peer's."""
    ours, peer = sockets
    reactor = Reactor()
    connection = connect(ours, reactor)
    peer.sendall(b"bye.")
    assert connection.doRead() is None
    assert reactor.asked_to_write == 1 and connection.has_pending()
    assert connection.doWrite() is not None
    assert peer.recv(100) == b"bye."


@pytest.fixture
def no_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody resets a timer to come sooner: Twisted looks for it among all there are."""
    reset = DelayedCall.reset

    def checked(call: DelayedCall, seconds: float) -> None:
        due = call.getTime()
        reset(call, seconds)
        assert call.getTime() >= due, "a timer was reset to come sooner"

    monkeypatch.setattr(DelayedCall, "reset", checked)


@pytest.mark.usefixtures("no_sooner")
def test_no_timer_of_a_connection_is_looked_for(sockets: tuple[socket.socket, socket.socket]) -> None:
    """With ten thousand connections there are as many."""
    ours, _ = sockets
    clock = Reactor()
    site = BeamSite(Root(Scope("", Stage().broker), ()), clock, header_timeout=10, max_connections=1, channels={})
    channel: Any = site.buildProtocol(None)
    assert channel.timeOut > 10
    channel.makeConnection(DirectTCP(ours, channel, ("127.0.0.1", 0), None, 0, clock))
    assert len(clock.getDelayedCalls()) == 1
    channel.dataReceived(b"GET /-/health HTTP/1.1\r\nHost: beam.test\r\n\r\nGET")
    assert len(clock.getDelayedCalls()) == 1
    channel.connectionLost()
    assert not clock.getDelayedCalls()


@pytest.mark.usefixtures("no_sooner")
def test_the_brokers_timer_is_not_looked_for() -> None:
    """It comes in time all the same, when what is due first was set last."""
    stage, acted = Stage(), []
    late, early = Deadline(lambda now: acted.append(("late", now))), Deadline(lambda now: acted.append(("early", now)))
    now = stage.broker.clock.seconds()
    stage.broker.at(late, now + 20)
    stage.broker.at(early, now + 10)
    stage.wait(10)
    assert acted == [("early", now + 10)]
    stage.wait(10)
    assert acted == [("early", now + 10), ("late", now + 20)]
