"""Forms: however the bytes of a form are cut, the same file comes out."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam.errors import BadRequest
from beam.web.form import LONGEST_PART_HEADER, FilePart, FormDecoder, is_form

BOUNDARY = "----x7"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain'
FIELD = b'Content-Disposition: form-data; name="comment"'
A_FILE = FilePart("a.txt", "text/plain", 'form-data; name="file"; filename="a.txt"')


def a_form(*parts: tuple[bytes, bytes], end: bool = True) -> bytes:
    """A form of ``parts``: each its headers and its bytes."""
    mark = b"--" + BOUNDARY.encode()
    body = b"".join(mark + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + mark + b"--\r\n" if end else body


def decode(pieces: list[bytes], content_type: str = TYPE) -> tuple[FilePart | None, bytes]:
    """What a decoder makes of ``pieces``.

    :raises BadRequest: whenever the decoder does.
    """
    decoder = FormDecoder(content_type)
    part: FilePart | None = None
    data = bytearray()
    for piece in pieces:
        for event in decoder.feed(piece):
            if isinstance(event, FilePart):
                assert part is None, "there is one file"
                assert not data, "its headers come before its bytes"
                part = event
            else:
                assert isinstance(event, bytes), "nobody asked for fields"
                assert part is not None
                assert event, "no empty piece"
                data += event
    decoder.end()
    return part, bytes(data)


def cuts(body: bytes, at: list[int]) -> list[bytes]:
    """``body`` cut at ``at``."""
    places = sorted({place for place in at if 0 < place < len(body)})
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"hello\r\n",
        b"\r\n",
        b"\r",
        b"\r\n--",
        b"\r\n--" + BOUNDARY[:-1].encode(),
        b"--" + BOUNDARY.encode(),
        b"\r\n\r\n--\r\n" * 5,
        bytes(range(256)) * 3,
    ],
)
def test_a_file_whole_byte_by_byte_and_at_random(data: bytes) -> None:
    """However the network cuts it."""
    body = a_form((FIELD, b"hi"), (FILE, data), (FIELD, b"behind"))
    expected = (A_FILE, data)
    assert decode([body]) == expected
    assert decode([body[i : i + 1] for i in range(len(body))]) == expected
    chance = random.Random(7)
    for _ in range(50):
        assert decode(cuts(body, chance.sample(range(len(body)), 9))) == expected


@settings(deadline=None)
@given(
    data=st.one_of(st.binary(max_size=200), st.text("\r\n-x7", max_size=60).map(str.encode)),
    at=st.lists(st.integers(0, 500), max_size=12),
    before=st.binary(max_size=10),
)
def test_any_file_cut_anywhere(data: bytes, at: list[int], before: bytes) -> None:
    """Bytes that look like a boundary, and boundaries that come in pieces."""
    mark = b"\r\n--" + BOUNDARY.encode()
    for each in (data, before):
        if mark in b"\r\n" + each + b"\r\n":
            return
    body = a_form((FIELD, before), (FILE, data))
    assert decode(cuts(body, at)) == (A_FILE, data)


def test_bytes_are_seen_as_soon_as_they_cannot_be_the_boundary() -> None:
    """A live stream through a form is not held back."""
    decoder = FormDecoder(TYPE)
    head = a_form((FILE, b""), end=False)[:-2]
    assert list(decoder.feed(head)) == [A_FILE]
    assert list(decoder.feed(b"a")) == [b"a"]
    assert list(decoder.feed(b"b\r")) == [b"b"]
    assert b"".join(event for event in decoder.feed(b"c") if isinstance(event, bytes)) == b"\rc"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'form-data; name="f"; filename="a.txt"', "a.txt"),
        (b"form-data; name=f; filename=a.txt", "a.txt"),
        (b'form-data; name="f"; filename="a b; c.txt"', "a b; c.txt"),
        (b'form-data; name="f"; filename="a\\"b.txt"', 'a"b.txt'),
        (b'form-data; name="f"; filename="C:\\dir\\a.txt"', "C:\\dir\\a.txt"),
        (b'form-data; name="f"; filename="../../x"', "../../x"),
        ('form-data; name="f"; filename="gr\u00fc\u00dfe.txt"'.encode(), "gr\u00fc\u00dfe.txt"),
        (b"form-data; name=\"f\"; filename*=UTF-8''gr%C3%BC%C3%9Fe.txt", "gr\u00fc\u00dfe.txt"),
        (b'form-data; name="f"; filename="x"; filename*=UTF-8\'\'y', "y"),
        (b'form-data; name="f"; filename="' + b"n" * 4096 + b'"', "n" * 4096),
        (b'form-data; filename="a.txt"', "a.txt"),
    ],
)
def test_names_of_files(disposition: bytes, name: str) -> None:
    """As browsers, curl and old ones write them; they are made safe later."""
    body = a_form((b"Content-Disposition: " + disposition, b"data"))
    part, data = decode([body])
    assert part is not None
    assert (part.filename, part.content_type, data) == (name, None, b"data")
    assert part.disposition.encode() == disposition


def test_the_first_file_is_the_file() -> None:
    """Fields before it, empty choices of file, and further files are passed over."""
    empty = b'Content-Disposition: form-data; name="none"; filename=""\r\nContent-Type: application/octet-stream'
    second = FILE.replace(b"a.txt", b"b.txt")
    body = a_form((FIELD, b"hi"), (empty, b""), (FILE, b"first"), (second, b"second"), (FIELD, b"bye"))
    assert decode([body]) == (A_FILE, b"first")


def test_what_stands_around_the_parts() -> None:
    """A preamble and an epilogue are allowed, and are not the file (RFC 2046, 5.1.1)."""
    body = a_form((FILE, b"data"))
    expected = (A_FILE, b"data")
    assert decode([b"preamble\r\n" + body]) == expected
    assert decode([body + b"epilogue"]) == expected
    assert decode([body, b"epilogue\r\n--" + BOUNDARY.encode() + b"\r\n"]) == expected


def test_a_form_without_a_file() -> None:
    """The sentence shows how to send one."""
    for body in (a_form((FIELD, b"hi")), a_form(), a_form((b'Content-Disposition: form-data; filename=""', b"x"))):
        with pytest.raises(BadRequest, match="no file in the form"):
            decode([body])


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5, 12, 13, 20, 60, 100])
def test_a_form_without_an_end(missing: int) -> None:
    """A sender that stopped in the middle is not taken for one that is done."""
    body = a_form((FIELD, b"hi"), (FILE, b"0123456789"))[:-2]
    with pytest.raises(BadRequest, match="no end"):
        decode([body[:-missing]])


@pytest.mark.parametrize(
    "body",
    [
        a_form((b"X" * (1 << 20), b"x")),
        a_form((FILE + b"\r\nX: " + b"x" * (1 << 20), b"x")),
        a_form((FILE + b"\r\nX: y" * 20, b"x")),
        a_form((b"no colon", b"x")),
        a_form((b"Content-Type: text/plain", b"x")),
        a_form((b"Content-Disposition: attachment; filename=x", b"x")),
        a_form((FILE.replace(b"a.txt", b"\xff"), b"x")),
        a_form((FILE + b"\r\nContent-Length: 99", b"x")),
        a_form((FILE, b"x")).replace(b"\r\n", b"\n"),
        b"junk" + a_form((FILE, b"x")),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_forms_that_are_malformed(body: bytes) -> None:
    """Refused, whole or in pieces; a header of a megabyte is not gathered."""
    for pieces in ([body], [body[i : i + 1000] for i in range(0, len(body), 1000)]):
        with pytest.raises(BadRequest):
            decode(pieces)


def test_a_header_that_never_ends_is_refused_early() -> None:
    """Memory is bounded whatever is sent."""
    decoder = FormDecoder(TYPE)
    sent = 0
    with pytest.raises(BadRequest):
        for piece in [b"--" + BOUNDARY.encode() + b"\r\n", *[b"x" * 1024] * 1000]:
            sent += len(piece)
            list(decoder.feed(piece))
    assert sent < 2 * LONGEST_PART_HEADER


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; charset=utf-8",
    ],
)
def test_forms_without_a_boundary(content_type: str) -> None:
    """Refused before a byte is read."""
    with pytest.raises(BadRequest, match="boundary"):
        FormDecoder(content_type)


@pytest.mark.parametrize(
    "content_type",
    [f'multipart/form-data; boundary="{BOUNDARY}"', f"Multipart/Form-Data; charset=utf-8; BOUNDARY={BOUNDARY}"],
)
def test_boundaries_may_be_quoted(content_type: str) -> None:
    """And stand behind other parameters."""
    assert is_form(content_type)
    assert decode([a_form((FILE, b"x"))], content_type) == (A_FILE, b"x")


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/mixed; boundary=x", "multipart/form-datax", "x"])
def test_what_is_no_form(content_type: str) -> None:
    """Everything else is a raw body."""
    assert not is_form(content_type)


@settings(deadline=None, max_examples=300)
@given(
    body=st.one_of(
        st.binary(max_size=100),
        st.lists(
            st.sampled_from(
                [b"--", BOUNDARY.encode(), b"\r\n", b"\r", b"\n", b":", FILE, FIELD, b"x", b" ", b"Content-Length: 1"]
            ),
            max_size=16,
        ).map(b"".join),
    ),
    at=st.lists(st.integers(0, 300), max_size=5),
)
def test_any_bytes_are_a_form_or_refused(body: bytes, at: list[int]) -> None:
    """Nothing but ``BadRequest``; and the cuts do not matter."""

    def outcome(pieces: list[bytes]) -> tuple[FilePart | None, bytes] | None:
        try:
            return decode(pieces)
        except BadRequest:
            return None

    if body:
        assert outcome([body]) == outcome(cuts(body, at))
