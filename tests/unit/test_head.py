"""Request heads: what passes is read alike by h11, a parser of another family; everything else is refused."""

import time

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam.errors import BadRequest, BeamError, ExpectationFailed, HeadTooLarge, NotImplementedHere
from beam.web.head import LIMIT, MOST_HEADERS, VersionNotSupported, checked, end_of_head


def a_head(*lines: bytes, line: bytes = b"PUT /k HTTP/1.1", host: bytes | None = b"Host: h") -> bytes:
    """A request head of ``lines``."""
    return b"\r\n".join([line, *([] if host is None else [host]), *lines]) + b"\r\n\r\n"


def by_h11(head: bytes) -> h11.Request:
    """``head`` as h11 reads it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event


def read_alike(head: bytes) -> None:
    """Pass ``head`` to both; what we let pass, h11 must read as we wrote it."""
    ours = checked(head)
    assert ours.endswith(b"\r\n\r\n") and ours.count(b"\r\n\r\n") == 1
    theirs = by_h11(ours)
    method, target, version = ours.partition(b"\r\n")[0].split(b" ")
    assert (theirs.method, theirs.target, b"HTTP/" + theirs.http_version) == (method, target, version)
    assert method == head.split(b" ")[0], "the method is passed on as it is"
    lines = ours[:-4].split(b"\r\n")[1:]
    # h11 writes a transfer coding in lower case.
    assert [(name, value.lower()) for name, value in theirs.headers] == [
        (line.partition(b":")[0].lower(), line.partition(b":")[2].strip(b" \t").lower()) for line in lines
    ]
    names = [line.partition(b":")[0] for line in head[:-4].split(b"\r\n")[1:]]
    assert [line.partition(b":")[0] for line in lines] == names, "no header appears and none is lost"


GOOD = [
    a_head(),
    a_head(b"Content-Length: 0"),
    a_head(b"Content-Length: 000000000000000012"),
    a_head(b"content-length:5"),
    a_head(b"Content-Length: \t 5 \t "),
    a_head(b"Transfer-Encoding: chunked"),
    a_head(b"TRANSFER-ENCODING: Chunked"),
    a_head(b"Expect: 100-continue"),
    a_head(b"Expect: 100-Continue", b"Content-Length: 7"),
    a_head(b"X: a\tb c"),
    a_head(b"X:"),
    a_head(b"X: "),
    a_head(b"!#$%&'*+-.^_`|~09azAZ: token"),
    a_head(b"X: \xc3\xbc"),
    a_head(b"X: \xfc"),
    a_head(b"X: 1", b"X: 2", b"x: 3"),
    a_head(line=b"GET / HTTP/1.0", host=None),
    a_head(b"Content-Length: 3", line=b"POST /a HTTP/1.0", host=None),
    a_head(b"Expect: whatever", line=b"POST /a HTTP/1.0"),
    a_head(line=b"OPTIONS * HTTP/1.1"),
    a_head(line=b"GET /a?b=c&d=%20 HTTP/1.1"),
    a_head(line=b"GET /a'\"<>\\^`{|} HTTP/1.1"),
    a_head(line=b"CONNECT host:443 HTTP/1.1"),
    a_head(line=b"BREW /pot HTTP/1.1"),
    a_head(*[b"X: y"] * (MOST_HEADERS - 1)),
    a_head(b"X: " + b"x" * (60 << 10)),
]


@pytest.mark.parametrize("head", GOOD, ids=lambda head: repr(head[:60]))
def test_good_heads(head: bytes) -> None:
    """They pass, and h11 reads the same."""
    assert end_of_head(head) == len(head)
    read_alike(head)


@pytest.mark.parametrize(
    ("target", "becomes"),
    [
        (b"/a", b"/a"),
        (b"*", b"*"),
        (b"http://example.org/a?b", b"/a?b"),
        (b"HTTPS://example.org:3000/a", b"/a"),
        (b"http://example.org", b"/"),
        (b"http://example.org?a=b", b"/?a=b"),
        (b"/http://example.org/x", b"/http://example.org/x"),
        ("/gr\u00fc\u00dfe".encode(), b"/gr%C3%BC%C3%9Fe"),
        (b"/\xff%41", b"/%FF%41"),
        (b"/a//b", b"/a//b"),
    ],
)
def test_targets(target: bytes, becomes: bytes) -> None:
    """Absolute form becomes origin form, raw bytes become escapes, and nothing else changes."""
    head = a_head(line=b"GET " + target + b" HTTP/1.1")
    assert checked(head) == a_head(line=b"GET " + becomes + b" HTTP/1.1")
    read_alike(head)


def test_headers_in_other_charsets() -> None:
    """UTF-8 stays; what is none is read as ISO-8859-1, so that nobody meets bytes that cannot be decoded."""
    assert checked(a_head(b"X: \xc3\xbc")) == a_head(b"X: \xc3\xbc")
    assert checked(a_head(b"X: \xfc")) == a_head(b"X: \xc3\xbc")


@pytest.mark.parametrize(
    ("head", "error"),
    [
        # The request line.
        (a_head(line=b""), BadRequest),
        (a_head(line=b"GET"), BadRequest),
        (a_head(line=b"GET /"), BadRequest),
        (a_head(line=b"GET / "), BadRequest),
        (a_head(line=b" GET / HTTP/1.1"), BadRequest),
        (a_head(line=b"GET  / HTTP/1.1"), BadRequest),
        (a_head(line=b"GET /  HTTP/1.1"), BadRequest),
        (a_head(line=b"GET / HTTP/1.1 "), BadRequest),
        (a_head(line=b"GET\t/ HTTP/1.1"), BadRequest),
        (a_head(line=b"GET /a b HTTP/1.1"), BadRequest),
        (a_head(line=b"GET /\x00 HTTP/1.1"), BadRequest),
        (a_head(line=b"GET /\x7f HTTP/1.1"), BadRequest),
        (a_head(line=b"GET /\r HTTP/1.1"), BadRequest),
        (a_head(line=b"G(T / HTTP/1.1"), BadRequest),
        (a_head(line=b"G\xcbT / HTTP/1.1"), BadRequest),
        (a_head(line=b"GET / http/1.1"), BadRequest),
        (a_head(line=b"GET / HTTP/1"), BadRequest),
        (a_head(line=b"GET / HTTP/1.11"), BadRequest),
        (a_head(line=b"GET / HTTP/1,1"), BadRequest),
        (a_head(line=b"GET / HTTPS/1.1"), BadRequest),
        (a_head(line=b"GET a HTTP/1.1"), BadRequest),
        (a_head(line=b"GET ftp://h/a HTTP/1.1"), BadRequest),
        (a_head(line=b"GET http://h#x HTTP/1.1"), BadRequest),
        (a_head(line=b"GET / HTTP/2.0"), VersionNotSupported),
        (a_head(line=b"GET / HTTP/0.9"), VersionNotSupported),
        (a_head(line=b"GET / HTTP/1.2"), VersionNotSupported),
        # The form of headers.
        (a_head(b" folded"), BadRequest),
        (a_head(b"X: a", b"\tfolded"), BadRequest),
        (a_head(b"X : a"), BadRequest),
        (a_head(b"X\t: a"), BadRequest),
        (a_head(b": a"), BadRequest),
        (a_head(b"X"), BadRequest),
        (a_head(b"X Y: a"), BadRequest),
        (a_head(b"\xc3\xbc: a"), BadRequest),
        (a_head(b"X: a\x00b"), BadRequest),
        (a_head(b"X: a\x0bb"), BadRequest),
        (a_head(b"X: a\x1fb"), BadRequest),
        (a_head(b"X: a\x7fb"), BadRequest),
        (a_head(b"X: a\rb"), BadRequest),
        (a_head(b"X: a\r"), BadRequest),
        (a_head(*[b"X: y"] * MOST_HEADERS), HeadTooLarge),
        # Host.
        (a_head(host=None), BadRequest),
        (a_head(b"Host: h"), BadRequest),
        (a_head(b"hOST: other", line=b"GET / HTTP/1.0"), BadRequest),
        # Where the body ends.
        (a_head(b"Content-Length: 5", b"Content-Length: 5"), BadRequest),
        (a_head(b"Content-Length: 5", b"content-length: 6"), BadRequest),
        (a_head(b"Content-Length: 5, 5"), BadRequest),
        (a_head(b"Content-Length: -1"), BadRequest),
        (a_head(b"Content-Length: +1"), BadRequest),
        (a_head(b"Content-Length: 1_0"), BadRequest),
        (a_head(b"Content-Length: 0x10"), BadRequest),
        (a_head(b"Content-Length: 1.0"), BadRequest),
        (a_head(b"Content-Length:"), BadRequest),
        (a_head(b"Content-Length: five"), BadRequest),
        (a_head(b"Content-Length: \xd9\xa3"), BadRequest),
        (a_head(b"Content-Length: " + b"9" * 19), BadRequest),
        (a_head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), BadRequest),
        (a_head(b"Transfer-Encoding: chunked", b"Content-Length: 5"), BadRequest),
        (a_head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), BadRequest),
        (a_head(b"Transfer-Encoding: gzip"), NotImplementedHere),
        (a_head(b"Transfer-Encoding: gzip, chunked"), NotImplementedHere),
        (a_head(b"Transfer-Encoding: chunked, chunked"), NotImplementedHere),
        (a_head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), NotImplementedHere),
        (a_head(b"Transfer-Encoding: identity"), NotImplementedHere),
        (a_head(b"Transfer-Encoding: \x0bchunked"), BadRequest),
        (a_head(b"Transfer-Encoding:"), NotImplementedHere),
        # Expect.
        (a_head(b"Expect: 200-ok"), ExpectationFailed),
        (a_head(b"Expect: 100-continue", b"Expect: x"), ExpectationFailed),
        (a_head(b"Expect: 100-continue, x"), ExpectationFailed),
    ],
    ids=lambda case: repr(case[:60]) if isinstance(case, bytes) else case.__name__,
)
def test_refusals(head: bytes, error: type[BeamError]) -> None:
    """Each with its status, and a sentence that a user can act on."""
    with pytest.raises(BeamError) as caught:
        checked(head)
    assert type(caught.value) is error
    assert caught.value.sentence.endswith(".")
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize(
    "data", [b"\n", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: h\n\r\n\r\n", b"GET /\n\r\n\r\n"]
)
def test_bare_line_feeds(data: bytes) -> None:
    """They are refused as soon as they are seen: it cannot become a head any more."""
    with pytest.raises(BadRequest, match="carriage return"):
        end_of_head(data)


def test_a_line_feed_in_the_body_is_none_of_the_heads() -> None:
    """Only the head is looked at."""
    head = a_head(b"Content-Length: 9")
    assert end_of_head(head + b"a\nb\nc\r\n\r\n") == len(head)


def test_a_head_that_is_not_there_whole() -> None:
    """However it is cut, it is waited for."""
    head = a_head(b"X: y")
    for cut in range(len(head)):
        assert end_of_head(head[:cut]) == 0


def test_a_head_that_is_too_large() -> None:
    """The limit is on the head, with or without its end."""
    largest = a_head(b"X: " + b"x" * (LIMIT - len(a_head(b"X: "))))
    assert len(largest) == LIMIT
    assert end_of_head(largest) == LIMIT
    assert end_of_head(largest[:-1]) == 0
    for data in (largest[:-4] + b"x\r\n\r\n", b"x" * LIMIT, largest[:-4] + b"xxxx"):
        with pytest.raises(HeadTooLarge):
            end_of_head(data)


@pytest.mark.parametrize("filling", [b" ", b"\t", b"x ", b" \t", b":", b"\xff", b"x", b"http://", b"%", b"\r"])
@pytest.mark.parametrize("tail", [b"", b"\x01", b"x", b" \x00"])
@pytest.mark.parametrize(
    "before", [b"GET / HTTP/1.1\r\nHost: h\r\nX:", b"GET / HTTP/1.1\r\nHost: h\r\nX", b"GET /", b""]
)
def test_no_head_takes_long(before: bytes, filling: bytes, tail: bytes) -> None:
    """The largest heads, made to make a pattern backtrack, cost no more than others: time grows with their length.

    A head of 64 KiB takes about a millisecond; a pattern that backtracks takes hours.  The bound lies between, and
    the first step, of 1 KiB, fails within some seconds if one does.
    """
    for size in (1 << 10, 4 << 10, LIMIT - 100):
        head = (before + filling * size)[:size] + tail + b"\r\n\r\n"
        began = time.process_time()
        try:
            if end_of_head(head):
                checked(head)
        except BeamError:
            pass
        assert time.process_time() - began < 0.5


NAME = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
VALUE = st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte > 31 and byte != 127))
HEADERS = st.one_of(
    st.tuples(NAME, VALUE).map(lambda pair: pair[0] + b": " + pair[1]),
    st.sampled_from(
        [
            b"Host: h",
            b"Content-Length: 5",
            b"Content-Length: 5,5",
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
        ]
    ),
    st.binary(max_size=20),
)
LINES = st.one_of(
    st.tuples(NAME, st.binary(max_size=20), st.sampled_from([b"1.1", b"1.0", b"1.2", b"2.0"])).map(
        lambda parts: parts[0] + b" /" + parts[1] + b" HTTP/" + parts[2]
    ),
    st.sampled_from([b"GET / HTTP/1.1", b"PUT http://h/ HTTP/1.1", b"OPTIONS * HTTP/1.0"]),
    st.binary(max_size=30),
)


@settings(deadline=None, max_examples=600)
@given(line=LINES, headers=st.lists(HEADERS, max_size=5))
@example(line=b"GET / HTTP/1.1", headers=[b"Host: h", b"X: \x85\xa0"])
def test_any_bytes_are_refused_or_read_alike(line: bytes, headers: list[bytes]) -> None:
    """What gets past us has one reading."""
    data = b"\r\n".join([line, *headers]) + b"\r\n\r\n"
    try:
        end = end_of_head(data)
        assert end, "the head is whole"
        head = data[:end]
        checked(head)
    except BeamError:
        return
    read_alike(head)


@settings(deadline=None, max_examples=300)
@given(good=st.sampled_from(GOOD[:20]), at=st.integers(0, 200), byte=st.integers(0, 255), inserted=st.booleans())
def test_good_heads_with_one_byte_changed(good: bytes, at: int, byte: int, inserted: bool) -> None:
    """A head that is nearly good is refused, or has one reading."""
    at %= len(good) - 4
    data = good[:at] + bytes([byte]) + good[at + (0 if inserted else 1) :]
    try:
        head = data[: end_of_head(data)]
        if not head:
            return
        checked(head)
    except BeamError:
        return
    read_alike(head)
