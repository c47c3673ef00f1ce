"""Bodies that are received beside Twisted: however the wire cuts them, they are what was sent, and end as they did."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from beam.errors import BadRequest, BeamError
from beam.testing import some_bytes
from beam.web.framing import LINE, Chunked, Framing, Identity
from beam.web.request import Channel, StreamingRequest
from beam.web.site import BeamSite

HEAD = b"PUT /k HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n"
CHUNKED = HEAD % b"Transfer-Encoding: chunked"
NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"0\r\n\r\n"

sizes_of_reads = st.lists(st.integers(1, 40), min_size=1, max_size=6)


class Server(Resource):
    """Takes the body of the first request, which a direct end reads from the moment its head is in.

    :ivar taken: what came of the body, whoever read it.
    :ivar over: how often the body's end was told; nothing may come behind it.
    :ivar rendered: the targets of all requests.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.taken = bytearray()
        self.over = 0
        self.errors: list[BeamError] = []
        self.rendered: list[bytes] = []
        self.request: StreamingRequest | None = None
        self.clock = Clock()
        self.transport = StringTransport()
        site = BeamSite(self, self.clock, header_timeout=10, max_connections=9, channels={})
        self.channel: Any = site.buildProtocol(None)
        assert isinstance(self.channel, Channel)
        self.channel.makeConnection(self.transport)

    def render(self, request: Any) -> int:
        self.rendered.append(request.uri)
        if self.request is None:
            self.request = request
            request.take_body(self)
        else:
            request.finish()
        return NOT_DONE_YET

    def received(self, data: bytes) -> None:
        assert not self.over and not self.errors
        self.taken += data

    def ended(self) -> None:
        self.over += 1
        assert self.request is not None
        self.request.conclude()

    def broken(self, error: BeamError) -> None:
        assert not self.over
        self.errors.append(error)

    def is_open(self) -> bool:
        """Whether the body goes on."""
        return not self.over and not self.errors

    def framing(self) -> Framing:
        """What a direct end has to read by."""
        assert self.request is not None
        return self.request.framing()

    def feed(self, wire: bytes, first: int, sizes: list[int]) -> None:
        """``wire`` comes: ``first`` bytes are read by Twisted, and the rest directly, in reads of ``sizes``."""
        self.channel.dataReceived(wire[:first])
        if not self.is_open():
            self.channel.dataReceived(wire[first:])
            return
        framing = self.framing()
        for view in reads(wire[first:], sizes):
            if self.is_open():
                n = framing.decode(view, len(view))
                assert 0 <= n <= len(view)
                if self.is_open():
                    self.taken += view[:n]
                    framing.settle()
            else:
                self.channel.dataReceived(bytes(view))

    def close(self) -> None:
        """The connection ends, and leaves nothing."""
        self.channel.connectionLost(Failure(ConnectionDone()))
        assert self.clock.getDelayedCalls() == []


def reads(data: bytes, sizes: list[int]) -> Iterator[memoryview]:
    """``data`` in pieces of ``sizes``, again and again."""
    turn, at = cycle(sizes), 0
    while at < len(data):
        size = next(turn)
        yield memoryview(bytearray(data[at : at + size]))
        at += size


def served(wire: bytes, first: int, sizes: list[int]) -> Server:
    """What becomes of ``wire``."""
    server = Server()
    server.feed(wire, len(CHUNKED) + first, sizes)
    server.close()
    return server


# Chunks.

extensions = st.sampled_from([b"", b"", b";a", b";a=b;c", b';name="a value"', b";" + b"e" * 2 * LINE])
trailers = st.lists(st.sampled_from([b"A: b\r\n", b"Digest: 0\r\n", b"X: " + b"y" * 50 + b"\r\n"]), max_size=3)
bodies = st.lists(st.tuples(st.binary(min_size=1, max_size=60), extensions, st.sampled_from([b"%x", b"%X", b"00%x"])))


def in_chunks(chunks: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """``chunks`` as the wire has them, without the last one."""
    return b"".join(number % len(data) + extension + b"\r\n" + data + b"\r\n" for data, extension, number in chunks)


@given(
    chunks=bodies,
    ending=extensions,
    behind=trailers,
    first=st.integers(0, 200),
    sizes=sizes_of_reads,
    pipelined=st.booleans(),
)
def test_chunks_come_as_they_were_sent(
    chunks: list[tuple[bytes, bytes, bytes]],
    ending: bytes,
    behind: list[bytes],
    first: int,
    sizes: list[int],
    pipelined: bool,
) -> None:
    """Wherever reads begin and end; the request behind the body is seen, and none of it is the body's."""
    last = b"0" + ending + b"\r\n" + b"".join(behind) + b"\r\n"
    server = served(CHUNKED + in_chunks(chunks) + last + (NEXT if pipelined else b""), first, sizes)
    assert server.taken == b"".join(data for data, _, _ in chunks)
    assert (server.over, server.errors) == (1, [])
    assert server.rendered == [b"/k", *([b"/next"] if pipelined else [])]


@pytest.mark.parametrize("cut", range(len(b"5\r\nabcde\r\n3;x\r\nfgh\r\n" + LAST + NEXT)))
@pytest.mark.parametrize("rest", [1, 1000])
def test_every_cut(cut: int, rest: int) -> None:
    """In two reads, with the cut at each byte; and what is behind the cut byte by byte."""
    body = b"5\r\nabcde\r\n3;x\r\nfgh\r\n" + LAST + NEXT
    for first in (0, 4, 10, 21):
        server = served(CHUNKED + body, first, [max(1, cut), *[rest] * 100])
        assert (bytes(server.taken), server.over, server.rendered) == (b"abcdefgh", 1, [b"/k", b"/next"])


def test_the_end_is_told_behind_the_last_bytes() -> None:
    """One read brings both: they are there to be taken before the body's end is told."""
    server = Server()
    server.channel.dataReceived(CHUNKED)
    framing, view = server.framing(), memoryview(bytearray(b"3\r\nabc\r\n2\r\nde\r\n" + LAST + NEXT))
    n = framing.decode(view, len(view))
    assert (bytes(view[:n]), server.over, server.rendered) == (b"abcde", 0, [b"/k"])
    framing.settle()
    assert (server.over, server.rendered) == (1, [b"/k", b"/next"])
    framing.settle()
    assert server.over == 1
    server.close()


def test_large_chunks_move_together() -> None:
    """In the memory where they are; what overlaps keeps its bytes."""
    data = some_bytes(300_000, seed=1)
    for size in (1, 2, 1000, 16_384, 299_999):
        pieces = [data[at : at + size] for at in range(0, len(data) if size > 2 else 3000, size)]
        wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + LAST
        server = served(CHUNKED + wire, 0, [len(wire)])
        assert (bytes(server.taken), server.over) == (b"".join(pieces), 1)


def test_nothing_is_missing_but_the_end() -> None:
    """How much comes cannot be told."""
    server = Server()
    server.channel.dataReceived(CHUNKED)
    framing = server.framing()
    assert isinstance(framing, Chunked)
    assert framing.missing is None
    server.close()


# Chunks that are none.

MALFORMED = {
    "no size": b"\r\nabc\r\n",
    "no number": b"xyz\r\nabc\r\n",
    "a sign": b"-3\r\nabc\r\n",
    "a prefix": b"0x3\r\nabc\r\n",
    "a space": b"3 \r\nabc\r\n",
    "an underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n",
    "no carriage return": b"3\nabc\r\n",
    "too few bytes": b"5\r\nabc\r\n",
    "too many bytes": b"3\r\nabcd\r\n",
    "no end": b"3\r\nabc2\r\nde\r\n",
    "half an end": b"3\r\nabc\n2\r\nde\r\n",
    "another end": b"3\r\nabc\r\r2\r\nde\r\n",
    "a forbidden extension": b"3;\x00\r\nabc\r\n",
    "a line feed in an extension": b"3;a\nb\r\nabc\r\n",
    "a long line": b"3;" + b"e" * 2000 + b"\r\nabc\r\n",
    "a line without an end": b"3" * 2000,
    "long trailers": b"0\r\n" + b"A: b\r\n" * 11_000 + b"\r\n",
    "a trailer without an end": b"0\r\nA: " + b"b" * 70_000,
}


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("malformed", MALFORMED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, LINE, LINE + 1, 1 << 20])
def test_malformed_chunks_break_the_body(malformed: str, before: int, size: int) -> None:
    """It is told once, with the place in the standard; nothing behind it is taken, for a body or for a request."""
    if len(MALFORMED[malformed]) > 10_000:
        size = max(size, LINE)
    wire = CHUNKED + b"4\r\ngood\r\n" * before + MALFORMED[malformed] + b"3\r\nbad\r\n" + LAST + NEXT
    server = served(wire, 0, [size])
    (error,) = server.errors
    assert isinstance(error, BadRequest)
    assert "RFC 9112" in error.sentence
    assert server.over == 0
    assert server.rendered == [b"/k"]
    assert (b"good" * before + b"abc\r\n").startswith(server.taken), "and nothing of what came behind"


fragments = st.sampled_from(
    [
        *(b"0", b"1", b"3", b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b";", b";a=b", b"\x00", b"-", b"e" * LINE),
        *(b"abc", b"3\r\nabc\r\n", b"1\r\nx", b"0\r\n", LAST, b"A: b\r\n", NEXT),
    ]
)


@given(soup=st.lists(fragments, max_size=12), valid=bodies, first=st.integers(0, 40), sizes=sizes_of_reads)
def test_the_same_comes_of_it_as_through_twisted(
    soup: list[bytes], valid: list[tuple[bytes, bytes, bytes]], first: int, sizes: list[int]
) -> None:
    """Whatever comes: a body ends, breaks or goes on exactly if it does in Twisted's hands, and has the same bytes."""
    wire = CHUNKED + in_chunks(valid) + b"".join(soup)
    twisteds, ours = served(wire, len(wire), [1]), served(wire, first, sizes)
    assert (ours.over, len(ours.errors), ours.rendered) == (twisteds.over, len(twisteds.errors), twisteds.rendered)
    if ours.errors:
        assert twisteds.taken.startswith(ours.taken)
    else:
        assert ours.taken == twisteds.taken
    assert ours.transport.value() == twisteds.transport.value()


# A known length.


@given(data=st.binary(min_size=1, max_size=200), first=st.integers(0, 199), sizes=sizes_of_reads)
def test_a_known_length(data: bytes, first: int, sizes: list[int]) -> None:
    """All that comes is the body's, as long as something is missing; then comes the next request."""
    first = min(first, len(data) - 1)
    server = Server()
    server.channel.dataReceived(HEAD % (b"Content-Length: %d" % len(data)) + data[:first])
    framing = server.framing()
    assert isinstance(framing, Identity)
    turn = cycle(sizes)
    while server.is_open():
        missing = framing.missing
        assert missing == len(data) - len(server.taken)
        view = memoryview(bytearray(data[len(server.taken) :][: next(turn)]))
        n = framing.decode(view, len(view))
        assert n == len(view)
        assert server.over == 0, "it has not been taken yet"
        server.taken += view[:n]
        framing.settle()
    assert (bytes(server.taken), server.over, framing.missing) == (data, 1, 0)
    framing.settle()
    assert server.over == 1
    server.channel.dataReceived(NEXT)
    assert server.rendered == [b"/k", b"/next"]
    server.close()


def test_twisted_may_read_in_between() -> None:
    """What had no place comes through Twisted, and the next read goes on behind it."""
    for head, wire in (
        (HEAD % b"Content-Length: 12", [b"abcd", b"efgh", b"ijkl"]),
        (CHUNKED, [b"5\r\nab", b"cde\r\n7\r", b"\nfghijkl\r\n" + LAST]),
    ):
        server = Server()
        server.channel.dataReceived(head)
        framing = server.framing()
        for turn, piece in enumerate(wire):
            if turn % 2:
                server.channel.dataReceived(piece)
            else:
                view = memoryview(bytearray(piece))
                server.taken += view[: framing.decode(view, len(view))]
                framing.settle()
        assert (bytes(server.taken), server.over) == (b"abcdefghijkl", 1)
        server.close()
