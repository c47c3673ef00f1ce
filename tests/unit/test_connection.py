"""A connection's own times, without a network: whatever ends it, none of its timers is left."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from unit.actors import Stage

from beam.web.request import FLUSH, LINGER
from beam.web.resource import Root
from beam.web.scope import Scope
from beam.web.site import BeamSite


class Connection:
    """A client of a site that takes one connection at a time."""

    def __init__(self, site: BeamSite) -> None:
        self.transport = StringTransport()
        self.protocol: Any = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    @property
    def answer(self) -> bytes:
        """What came back."""
        return bytes(self.transport.value())

    @property
    def is_closing(self) -> bool:
        """Whether the server has closed its side."""
        return bool(self.transport.disconnecting)

    def ask(self, *lines: str) -> None:
        """A request head comes."""
        self.protocol.dataReceived("\r\n".join([*lines, "Host: beam.test", "", ""]).encode())

    def lose(self) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(clock: Clock) -> BeamSite:
    return BeamSite(Root(Scope("", Stage().broker), ()), clock, header_timeout=10, max_connections=1, channels={})


def wait_for_a_head(connection: Connection) -> None:
    """Half of one."""
    connection.protocol.dataReceived(b"GET / HT")


def send_no_head(connection: Connection) -> None:
    """What is no request is answered, and read on from for a moment."""
    connection.ask("GET / HTTP/1.1", "no field")
    assert connection.answer.startswith(b"HTTP/1.1 400 ")


def be_closed_early(connection: Connection) -> None:
    """What closes a connection need not know that it will be closed in a moment."""
    send_no_head(connection)
    connection.protocol.loseConnection()


def have_a_body_refused(connection: Connection) -> None:
    """The answer is there, and some of the body is read."""
    connection.ask("PUT /k?what=ever HTTP/1.1", "Content-Length: 10")
    assert connection.answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("happened", [wait_for_a_head, send_no_head, be_closed_early, have_a_body_refused])
def test_a_connection_that_is_gone_has_no_timer(
    site: BeamSite, clock: Clock, happened: Callable[[Connection], None]
) -> None:
    """Nothing of it stays until some time is over, and its place is free."""
    connection = Connection(site)
    happened(connection)
    assert clock.getDelayedCalls()
    connection.lose()
    assert clock.getDelayedCalls() == []
    assert not site.channels


def test_one_connection_too_many_leaves_no_timer(site: BeamSite, clock: Clock) -> None:
    """It is told so; when it leaves, all of it is gone."""
    first, late = Connection(site), Connection(site)
    assert late.answer.startswith(b"HTTP/1.1 503 ")
    late.lose()
    first.lose()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("expects", [True, False], ids=["expects", "sends"])
def test_only_a_body_that_may_come_is_awaited_behind_a_refusal(site: BeamSite, clock: Clock, expects: bool) -> None:
    """Who asked before sending is not going to send: its connection is closed in the reactor's next turn."""
    connection = Connection(site)
    connection.ask("PUT /k?what=ever HTTP/1.1", "Content-Length: 10", *(["Expect: 100-continue"] if expects else []))
    assert connection.answer.startswith(b"HTTP/1.1 400 ")
    closing = []
    for seconds in (0, LINGER / 2, LINGER / 2):
        closing.append(connection.is_closing)
        clock.advance(seconds)
    closing.append(connection.is_closing)
    assert closing == ([False, True, True, True] if expects else [False, False, False, True])
    connection.lose()
    clock.advance(FLUSH)
    assert clock.getDelayedCalls() == []
