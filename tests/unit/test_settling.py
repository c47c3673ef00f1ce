"""When a delivery counts: the system has all of it, and the peer nearly all, as far as can be told soon."""

import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from unit.actors import POLICY, Sender, Stage

from beam.errors import Outcome
from beam.web.download import POLL, POLLS, RARELY, Download
from beam.web.transport import NOT_WORTH_A_WAIT, VANISHED, DirectTCP, set_patience, unacknowledged


class Connection:
    """A connection whose state a test sets.

    :ivar pending: whether we still have bytes to write.
    :ivar settled: whether the peer has them as well.
    """

    def __init__(self) -> None:
        self.disconnected = False
        self.pending = True
        self.settled = False
        self.socket = socket.socket()
        set_patience(self.socket, VANISHED)

    def getHandle(self) -> socket.socket:
        return self.socket

    def has_pending(self) -> bool:
        return self.pending

    def is_settled(self) -> bool:
        return self.settled

    def untaken(self) -> int:
        return 0

    @property
    def patience(self) -> float:
        """Seconds after which the system gives up a peer that acknowledges nothing."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000


class Request:
    """A GET without a direct end: what is written to it is there at once, and its connection says when it has gone."""

    peer = "127.0.0.1"
    clientproto = b"HTTP/1.1"

    def __init__(self) -> None:
        self.connection = Connection()
        self.responseHeaders = Headers()
        self.producer: object = None
        self.written = bytearray()
        self.concluded = 0
        self.lost: Callable[[], None] = lambda: None
        self.half_closed: Callable[[], bool] = lambda: False

    def way(self) -> None:
        """There is none to the socket."""

    def on_lost(self, lost: Callable[[], None], half_closed: Callable[[], bool]) -> None:
        self.lost, self.half_closed = lost, half_closed

    def getHeader(self, name: str) -> str | None:
        return None

    def setHeader(self, name: str, value: str) -> None:
        self.responseHeaders.setRawHeaders(name, [value])

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written += data

    def conclude(self) -> None:
        self.concluded += 1


class Scene:
    """A body that is whole, and a receiver to which its last byte has just been written.

    :param known: whether its length was announced; it is short.
    """

    def __init__(self, known: bool = True) -> None:
        self.stage = Stage()
        self.request = Request()
        self.connection = self.request.connection
        self.sender: Sender = self.stage.offer(known=known)
        Download(cast(Any, self.request), self.stage.broker, "k").begin({})
        self.sender.send()
        self.sender.finish()
        assert self.request.written == self.sender.data

    @property
    def counted(self) -> bool:
        """Whether the sender has heard of the delivery."""
        return self.stage.outcomes() == [Outcome.DELIVERED]

    def check_over(self) -> None:
        """The delivery was counted once, and nothing is left that could count it again."""
        assert self.counted
        assert self.request.concluded == 1
        assert self.stage.clock.getDelayedCalls() == []
        assert not self.stage.broker.deliveries
        assert self.stage.memory.used == 0


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.connection.socket.close()


def test_what_we_still_have_to_write_is_not_delivered(scene: Scene) -> None:
    """However long it takes: the sender waits, for its receiver may have to come back."""
    for _ in range(30):
        scene.stage.stall(0.1)
        assert not scene.counted and not scene.request.concluded
    scene.connection.pending = False
    scene.stage.stall(RARELY)
    scene.check_over()


def test_what_the_peer_has_counts_soon(scene: Scene) -> None:
    """The first look comes behind the reactor's next write."""
    assert not scene.counted
    scene.connection.settled = True
    scene.stage.stall(0)
    scene.check_over()


def test_a_peer_that_acknowledges_late_is_not_awaited_for_long(scene: Scene) -> None:
    """The system has the bytes; a few looks, and that is enough."""
    scene.connection.pending = False
    for _ in range(POLLS // 2):
        scene.stage.stall(POLL)
        assert not scene.counted
    for _ in range(POLLS):
        scene.stage.stall(POLL)
    scene.check_over()


def test_a_receiver_that_ends_its_side_with_everything(scene: Scene) -> None:
    """It closes as soon as it has the last byte, between two looks: it counts, once."""
    scene.stage.stall(POLL)
    scene.connection.pending, scene.connection.settled = False, True
    assert scene.request.half_closed()
    scene.check_over()


def test_a_receiver_that_ends_its_side_too_early(scene: Scene) -> None:
    """What we still had to write is lost with it."""
    scene.stage.stall(POLL)
    assert not scene.request.half_closed()
    assert not scene.counted and not scene.request.concluded


@pytest.mark.parametrize("has_all", [False, True])
def test_a_receiver_that_leaves_between_two_looks(scene: Scene, has_all: bool) -> None:
    """It counts if it had everything; nobody looks at its connection any more."""
    scene.stage.stall(POLL)
    scene.connection.disconnected = True
    scene.connection.settled = has_all
    scene.request.lost()
    assert scene.counted == has_all
    assert len(scene.stage.clock.getDelayedCalls()) == (0 if has_all else 1), "only the broker has a timer"
    assert scene.sender.transfer.left == (0 if has_all else 1)


@pytest.mark.parametrize("known", [False, True], ids=["as it comes", "short"])
def test_a_delivery_has_the_receivers_patience(known: bool) -> None:
    """While it runs a receiver may keep its window shut, unless it is so short that the system takes it at once."""
    scene = Scene(known)
    try:
        assert scene.connection.patience == (VANISHED if known else POLICY.idle_timeout + VANISHED)
        scene.connection.settled = True
        scene.stage.stall(0)
        assert scene.connection.patience == VANISHED, "behind it the connection is as before"
    finally:
        scene.connection.socket.close()


@pytest.mark.parametrize("in_order", [True, False], ids=["closed", "reset"])
def test_what_a_reset_leaves_open_was_not_received(in_order: bool) -> None:
    """Little that is unacknowledged counts as received if the peer closed, and does not if it reset."""
    from twisted.internet import reactor

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listener.getsockname())
        accepted = listener.accept()[0]
        accepted.setblocking(False)
        accepted.send(bytes(NOT_WORTH_A_WAIT // 2))
        assert 0 < unacknowledged(accepted) <= NOT_WORTH_A_WAIT
        connection = DirectTCP(accepted, Protocol(), ("127.0.0.1", 0), None, 0, reactor)
        assert connection.is_settled()
        connection.connectionLost(Failure(ConnectionDone() if in_order else ConnectionLost()))
        assert connection.is_settled() == in_order


class Way:
    """What TLS keeps back until it is flushed, or the next turn."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def flush(self) -> None:
        self.connection.settled = True


@pytest.mark.parametrize("gone", [False, True])
def test_what_tls_keeps_back_is_flushed_before_the_first_look(monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """It would seem settled with all of it; on a connection that is lost there is nothing to flush."""

    def way(request: Request) -> Way:
        request.connection.disconnected = gone
        return Way(request.connection)

    monkeypatch.setattr(Request, "way", way)
    monkeypatch.setattr(Request, "clientproto", b"HTTP/1.0")  # so that a producer end writes
    scene = Scene(known=False)
    assert scene.connection.settled is not gone
    assert scene.counted is not gone
    scene.request.lost()
    scene.connection.socket.close()
