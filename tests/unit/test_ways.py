"""The ways between a socket and memory: what comes and goes through TLS is what was meant, in its order."""

import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from contract.server import Certificate
from harness import until
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from beam.testing import some_bytes
from beam.web.transport import CLOSED, DirectTCP, has_left, unread
from beam.web.ways import RECORD, STEP, Plain, Secure, Way, way

PATIENCE = 20.0
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted does
needs_s_client = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")


class Reactor(Clock):
    """Knows who wants to read and write; a test does the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class Application(Protocol):
    """Writes down what Twisted brings."""

    def __init__(self, came: bytearray) -> None:
        self.came = came
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.came += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.reason = reason


class End:
    """Reads a way into views of ``size`` bytes, as ``DirectUpload`` does.

    :ivar reads: how often it was asked to.
    """

    may_read = True

    def __init__(self, way: Way, size: int, came: bytearray) -> None:
        self.way = way
        self.size = size
        self.came = came
        self.reads = 0

    def do_read(self) -> BaseException | None:
        self.reads += 1
        view = memoryview(bytearray(self.size))
        try:
            n = self.way.receive(view)
        except BlockingIOError:
            n = -1
        except OSError:
            return ConnectionLost()
        if n == 0:
            return ConnectionDone()
        self.came += view[: max(0, n)]
        self.way.rest()
        return None


class Connection:
    """The server's end of a connection, with a direct end; no reactor runs.

    :ivar came: what came, whoever read it.
    """

    def __init__(self, accepted: socket.socket, certificate: Certificate, size: int) -> None:
        self.reactor = Reactor()
        self.came = bytearray()
        self.application = Application(self.came)
        forProtocol: Any = Factory.forProtocol
        pem = certificate.key.read_text() + certificate.certificate.read_text()
        options = PrivateCertificate.loadPEM(pem).options()
        factory = TLSMemoryBIOFactory(options, False, forProtocol(lambda: self.application), self.reactor)
        self.tls: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 0))
        accepted.setblocking(False)
        self.socket = accepted
        self.direct: Any = DirectTCP(accepted, self.tls, ("127.0.0.1", 0), None, 0, self.reactor)
        self.tls.makeConnection(self.direct)
        self.size = size

    def attach(self) -> Secure:
        """From now on a direct end reads."""
        found = way(self.tls)
        assert isinstance(found, Secure)
        self.way = found
        self.end = End(found, self.size, self.came)
        self.direct.reading = self.end
        return found

    def turn(self, wait: float = 0.0) -> bool:
        """One turn of a reactor; whether anything happened."""
        if self.direct.disconnected:
            return False
        self.reactor.advance(0)
        readers = [self.direct] if self.direct in self.reactor.readers else []
        writers = [self.direct] if self.direct in self.reactor.writers else []
        readable, writable, _ = select.select(readers, writers, [], wait)
        for call in [*(each.doWrite for each in writable), *(each.doRead for each in readable)]:
            if not self.direct.disconnected and (why := call()) is not None:
                self.direct.connectionLost(Failure(why))
        return bool(readable or writable)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Turn until ``condition`` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"not in time: {what}"
            self.turn(0.01)

    def settle(self) -> None:
        """Turn until nothing happens any more."""
        while self.turn():
            pass

    @property
    def reason(self) -> type[BaseException] | None:
        """Why the application was told that the connection is lost."""
        failure: Any = self.application.reason
        return None if failure is None else type(failure.value)


class Client:
    """A TLS client of Python's own, whose ciphertext a test can cut, spoil and hold back.

    :param peer: the other end, where what is sent can be seen to have come.
    """

    def __init__(self, connected: socket.socket, peer: socket.socket, version: ssl.TLSVersion) -> None:
        connected.setblocking(False)
        self.socket = connected
        self._peer = peer
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)

    def shake_hands(self, server: Connection) -> None:
        """Until both are ready."""
        while True:
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                break
            if data := self._outgoing.read():
                self.send(data)
            server.settle()
            assert self._is_readable()
            self._receive()
        if data := self._outgoing.read():
            self.send(data)
        server.settle()

    def seal(self, data: bytes) -> bytes:
        """The ciphertext of ``data``."""
        self.tls.write(data)
        return self._outgoing.read()

    def seal_end(self) -> bytes:
        """The ciphertext of a ``close_notify``."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def send(self, ciphertext: bytes) -> None:
        """Send all of it, for which there has to be room, until it is there."""
        before = unread(self._peer)
        assert self.socket.send(ciphertext) == len(ciphertext)
        until(lambda: unread(self._peer) == before + len(ciphertext), "it has come")

    def close(self) -> None:
        """Close the socket, until that is seen."""
        self.socket.close()
        until(lambda: has_left(self._peer, 1 << 30), "the end is seen")

    def _receive(self) -> bool:
        """Whether something came."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    def hear_now(self) -> bytes:
        """What has come, decrypted."""
        self._receive()
        heard = bytearray()
        with suppress(ssl.SSLWantReadError):
            while data := self.tls.read(1 << 20):
                heard += data
        return bytes(heard)

    def hear(self, n: int) -> bytes:
        """The next ``n`` bytes, and what has come behind them; fewer if the connection ends."""
        heard = self.hear_now()
        while len(heard) < n and self._is_readable():
            heard += self.hear_now()
        return heard

    def _is_readable(self) -> bool:
        """Whether something comes in time."""
        return bool(select.select([self.socket], [], [], PATIENCE)[0]) and self.socket.recv(1, socket.MSG_PEEK) != b""

    def hears_the_end(self) -> bool:
        """Whether the server ends TLS in order, as this side has."""
        while True:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                if not self._is_readable():
                    return False
                self._receive()
            else:
                return True

    def reset(self) -> None:
        """End the connection without an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        until(lambda: self._peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSED, "the reset is seen")


@contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection: the accepted one, and the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(listener.accept()[0]) as ours:
            yield ours, theirs


@contextmanager
def connected(
    certificate: Certificate, version: ssl.TLSVersion, size: int = 1 << 20
) -> Iterator[tuple[Connection, Client]]:
    """A client that has shaken hands with a server that reads into views of ``size`` bytes."""
    with sockets() as (ours, theirs):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        server, client = Connection(ours, certificate, size), Client(theirs, ours, version)
        client.shake_hands(server)
        server.attach()
        yield server, client
        if not server.direct.disconnected:
            server.direct.connectionLost(Failure(ConnectionDone()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The server's."""
    return Certificate.create(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """Each that clients still speak."""
    return VERSIONS[request.param]


# What comes.


@pytest.mark.parametrize("size", [1, 7, 1000, RECORD - 1, RECORD, STEP, 4 << 20])
def test_all_of_it_comes_in_views_of_any_size(certificate: Certificate, version: ssl.TLSVersion, size: int) -> None:
    """What has no place in the view comes through Twisted, behind it; nothing stays in OpenSSL."""
    data = some_bytes(150_000, seed=1)
    with connected(certificate, version, size) as (server, client):
        client.send(client.seal(data))
        server.settle()
        assert server.came == data
        client.send(client.seal(b"and on"))
        server.settle()
        assert server.came == data + b"and on"


def test_one_read_takes_what_it_can(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """A view that is large enough is filled by one call, whatever the records."""
    data = some_bytes(3 * STEP // 2, seed=2)
    with connected(certificate, version) as (server, client):
        client.send(b"".join(client.seal(data[at : at + 5000]) for at in range(0, len(data), 5000)))
        assert server.end.reads == 0
        server.turn(PATIENCE)
        assert server.end.reads == 1
        assert server.came == data


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 25_000), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 200_000), max_size=8),
    size=st.integers(1, 50_000),
    newest=st.booleans(),
)
def test_records_may_come_in_any_pieces(
    certificate: Certificate, sizes: list[int], cuts: list[int], size: int, newest: bool
) -> None:
    """Reads do not begin and end where records do."""
    data = some_bytes(sum(sizes), seed=3)
    with connected(certificate, VERSIONS["TLS 1.3" if newest else "TLS 1.2"], size) as (server, client):
        at, ciphertext = 0, b""
        for each in sizes:
            ciphertext += client.seal(data[at : at + each])
            at += each
        at = 0
        for cut in [*sorted(cut % len(ciphertext) for cut in cuts), len(ciphertext)]:
            if cut > at:
                client.send(ciphertext[at:cut])
            at = cut
            server.settle()
            assert data.startswith(server.came)
        server.settle()
        assert server.came == data
        assert server.reason is None


def test_a_part_of_a_record_is_nothing_yet(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """It is no end either."""
    with connected(certificate, version) as (server, client):
        ciphertext = client.seal(b"x" * 100)
        for at in range(0, len(ciphertext) - 1, 10):
            client.send(ciphertext[at : min(at + 10, len(ciphertext) - 1)])
            server.settle()
            assert not server.came
        client.send(ciphertext[-1:])
        server.settle()
        assert server.came == b"x" * 100


@pytest.mark.parametrize("size", [50, 100, 150, 1 << 20])
@pytest.mark.parametrize("together", [True, False], ids=["in one read", "later"])
def test_what_came_before_the_end_is_taken(
    certificate: Certificate, version: ssl.TLSVersion, size: int, together: bool
) -> None:
    """A ``close_notify`` ends the connection, for Twisted answers it; what came before it has come."""
    with connected(certificate, version, size) as (server, client):
        client.send(client.seal(b"x" * 100) + (client.seal_end() if together else b""))
        server.settle()
        if not together:
            client.send(client.seal_end())
            server.settle()
        assert server.came == b"x" * 100
        assert server.reason is ConnectionDone
        assert client.hears_the_end()


@pytest.mark.parametrize("size", [50, 100, 150, 1 << 20])
def test_spoilt_ciphertext_ends_the_connection(certificate: Certificate, version: ssl.TLSVersion, size: int) -> None:
    """Twisted says so to the peer; what came before has come, and nothing of what came behind."""
    with connected(certificate, version, size) as (server, client):
        good, bad, behind = (client.seal(letter * 100) for letter in (b"a", b"b", b"c"))
        client.send(good + bad[:-1] + bytes([bad[-1] ^ 1]) + behind)
        server.settle()
        assert server.came == b"a" * 100
        assert server.reason in (ConnectionLost, SSL.Error)
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            client.hear(1)


def test_what_is_no_record_ends_the_connection(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """A client that forgets to encrypt."""
    with connected(certificate, version) as (server, client):
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        server.settle()
        assert server.came == b""
        assert server.reason is ConnectionLost


def test_other_connections_are_not_told_of_a_failure(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """OpenSSL has one list of errors for all of them."""
    with connected(certificate, version) as (bad, spoiler), connected(certificate, version) as (server, client):
        spoiler.send(b"?" * 100)
        bad.turn(PATIENCE)
        client.send(client.seal(b"x")[:-1])
        server.settle()
        assert server.reason is None
        assert server.way.send([b"answer"]) == 6
        assert client.hear(6) == b"answer"
        bad.settle()
        assert bad.reason is ConnectionLost


def test_an_end_without_an_end(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """A peer that closes its socket alone is gone."""
    with connected(certificate, version) as (server, client):
        client.send(client.seal(b"x" * 100) + b"\x17\x03\x03\x40")
        client.close()
        server.settle()
        assert server.came == b"x" * 100
        assert server.reason is not None


def test_a_reset(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """It is told as one."""
    with connected(certificate, version) as (server, client):
        client.reset()
        with pytest.raises(ConnectionResetError):
            server.way.receive(memoryview(bytearray(100)))
        server.direct.connectionLost(Failure(ConnectionLost()))


def test_what_came_before_a_reset_is_taken(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """Also if one call meets both."""
    with connected(certificate, version) as (server, client):
        probe = client.seal(b"x")
        client.send(probe)
        server.settle()
        size = RECORD - len(probe) + 1
        data = some_bytes(7 * size, seed=4)
        ciphertext = b"".join(client.seal(data[at : at + size]) for at in range(0, len(data), size))
        assert len(ciphertext) == STEP, "as much as one call asks for"
        client.send(ciphertext)
        client.reset()
        server.settle()
        assert server.came == b"x" + data
        assert server.reason is not None


# What goes.


def test_what_is_sent_arrives(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """In one piece or in many, small or large, as bytes or as memory."""
    data = some_bytes(STEP, seed=5)
    with connected(certificate, version) as (server, client):
        assert server.way.send([b"a"]) == 1
        assert server.way.send([b"7\r\n", memoryview(b"a chunk"), b"\r\n"]) == 12
        assert client.hear(13) == b"a7\r\na chunk\r\n"
        assert server.way.send([memoryview(data)]) == STEP
        heard = b""
        while len(heard) < STEP:
            server.turn(0.01)
            heard += client.hear_now()
        assert heard == data


def test_what_the_system_does_not_take_waits(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """In Twisted's buffer, in its order; nothing more is taken meanwhile, and all of it arrives."""
    with connected(certificate, version) as (server, client):
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sent = heard = b""
        while not server.way.has_pending():
            data = some_bytes(STEP, seed=len(sent))
            assert server.way.send([memoryview(data)]) == STEP
            sent += data
        assert server.way.send([b"too early"]) == 0
        server.tls.write(b"Twisted's")
        assert server.way.send([b"too early"]) == 0
        sent += b"Twisted's"
        while server.way.has_pending():
            server.turn(0.01)
            heard += client.hear_now()
        assert server.way.send([b"the last"]) == 8
        sent += b"the last"
        while len(heard) < len(sent):
            server.turn(0.01)
            heard += client.hear_now()
        assert heard == sent


def test_nothing_overtakes_what_twisted_gathers(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """Small writes wait for the reactor's next turn; a send sees that they go first."""
    with connected(certificate, version) as (server, client):
        server.tls.write(b"head, ")
        assert server.way.has_pending()
        assert not server.direct.has_pending(), "the connection itself knows nothing of it"
        server.way.write(b"a few bytes, ")
        assert server.way.send([b"body"]) == 0
        assert server.way.has_pending()
        server.turn(PATIENCE)
        assert not server.way.has_pending()
        assert server.way.send([b"body"]) == 4
        assert client.hear(23) == b"head, a few bytes, body"


def test_a_flush_leaves_nothing_behind(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """What was gathered is with the system at once, in no later turn."""
    with connected(certificate, version) as (server, client):
        server.way.write(b"x")
        server.way.flush()
        assert not server.way.has_pending()
        assert client.hear(1) == b"x"


def test_nothing_is_sent_behind_the_end(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """The connection counts as lost for who tries."""
    with connected(certificate, version) as (server, client):
        server.tls.loseConnection()
        server.settle()
        with pytest.raises(OSError):
            server.way.send([b"x"])
        assert client.hears_the_end()


def test_nothing_is_sent_to_a_peer_that_is_gone(certificate: Certificate, version: ssl.TLSVersion) -> None:
    """The same."""
    with connected(certificate, version) as (server, client):
        client.reset()
        select.select([server.socket], [], [], PATIENCE)
        with pytest.raises(OSError):
            server.way.send([b"x"])


# Handshakes in the middle.


@contextmanager
def s_client(certificate: Certificate, *flags: str) -> Iterator[tuple[Connection, "subprocess.Popen[bytes]"]]:
    """``openssl s_client``, connected: what it reads as a line of one letter it takes for an order."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with (
            subprocess.Popen(
                ["openssl", "s_client", "-connect", address, *flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process,
            closing(listener.accept()[0]) as ours,
        ):
            try:
                server = Connection(ours, certificate, 1 << 20)
                server.until(lambda: server.tls._handshakeDone, "the handshake")
                server.settle()
                server.attach()
                yield server, process
                if not server.direct.disconnected:
                    server.direct.connectionLost(Failure(ConnectionDone()))
            finally:
                process.kill()


def typed(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    """``line`` is typed, alone."""
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def shown(server: Connection, process: "subprocess.Popen[bytes]", words: bytes) -> None:
    """Wait until ``process`` shows ``words``."""
    assert process.stdout is not None
    descriptor, text = process.stdout.fileno(), bytearray()

    def is_shown() -> bool:
        if select.select([descriptor], [], [], 0)[0]:
            text.extend(os.read(descriptor, 1 << 16))
        return words in text

    server.until(is_shown, f"{words!r} is shown")


@needs_s_client
def test_new_keys_in_the_middle(certificate: Certificate) -> None:
    """TLS 1.3: a peer that changes its keys, and asks us to, is understood and understands."""
    with s_client(certificate, "-tls1_3") as (server, process):
        expected = b""
        for order in (b"K\n", b"k\n", b"K\n"):
            for line in (b"line %d\n" % len(expected), order):
                reads = server.end.reads
                typed(process, line)
                server.until(lambda reads=reads: server.end.reads > reads, "something comes")  # type: ignore[misc]
            expected += b"line %d\n" % (len(expected))
            assert server.came == expected
            words = b"answer %d" % len(expected)
            assert server.way.send([words + b"\n"]) == len(words) + 1
            shown(server, process, words)
        assert server.reason is None


@needs_s_client
def test_a_renegotiation_is_refused_at_once(certificate: Certificate) -> None:
    """TLS 1.2: OpenSSL allows none to clients; one that asks for it in the middle of a body is told so, and can go."""
    with s_client(certificate, "-tls1_2") as (server, process):
        typed(process, b"a line\n")
        server.until(lambda: server.came == b"a line\n", "the line")
        typed(process, b"R\n")
        server.until(lambda: process.poll() is not None or server.reason is not None, "the refusal")
        assert server.came == b"a line\n"


# Which way there is.


class Wrapper(ProtocolWrapper):
    """Something between the connection and its protocol."""


def test_a_way_leads_only_through_what_is_known(certificate: Certificate) -> None:
    """Plain, or TLS on a plain one; what else is in between may change the bytes."""
    with connected(certificate, VERSIONS["TLS 1.3"]) as (server, _):
        assert isinstance(way(server.direct), Plain)
        assert isinstance(way(server.tls), Secure)
        wrapper = Wrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = server.direct
        assert way(wrapper) is None
        server.tls.transport = wrapper
        assert way(server.tls) is None
        server.tls.transport = server.direct
        assert way(None) is None


def test_a_plain_way() -> None:
    """What comes and goes is what the socket has."""
    with sockets() as (ours, theirs):
        ours.setblocking(False)
        direct: Any = DirectTCP(ours, Protocol(), ("127.0.0.1", 0), None, 0, Reactor())
        plain = Plain(direct)
        view = memoryview(bytearray(10))
        with pytest.raises(BlockingIOError):
            plain.receive(view)
        assert plain.send([b"5\r\n", memoryview(b"chunk"), b"\r\n"]) == 10
        assert theirs.recv(100) == b"5\r\nchunk\r\n"
        theirs.send(b"hello")
        select.select([ours], [], [], PATIENCE)
        assert (plain.receive(view), bytes(view[:5])) == (5, b"hello")
        plain.write(b"head")
        assert plain.has_pending()
        plain.flush()
        assert not plain.has_pending()
        assert theirs.recv(100) == b"head"
        while plain.send([bytes(1 << 20)]):
            pass
        theirs.close()
        direct.connectionLost(Failure(ConnectionDone()))
