"""Forms: however the bytes of a form are cut, the same file comes out."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam.errors import BadRequest, MalformedForm, NoFile
from beam.web.form import LONGEST_FIELD, LONGEST_PART_HEADER, FilePart, FormDecoder, FormField, is_form

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


# Fields before the file, and forms whose first part is the file.


NAMED = ("authentication", "file-size")


def a_field(name: str) -> bytes:
    """The header of a field."""
    return f'Content-Disposition: form-data; name="{name}"'.encode()


def told(pieces: list[bytes], any_part: bool = False, fields: tuple[str, ...] = NAMED) -> list[object]:
    """All that a decoder tells of ``pieces``, the bytes of the file as one.

    :raises BadRequest: whenever the decoder does.
    """
    decoder = FormDecoder(TYPE, any_part, fields)
    events: list[object] = []
    data = b""
    for piece in pieces:
        for event in decoder.feed(piece):
            if isinstance(event, bytes):
                data += event
            else:
                assert not data, "nothing is told behind the first byte of the file"
                events.append(event)
    decoder.end()
    return [*events, data]


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ([], []),
        ([(a_field("authentication"), b"secret")], [FormField("authentication", "secret")]),
        (
            [(a_field("file-size"), b"4"), (a_field("authentication"), b"secret")],
            [FormField("file-size", "4"), FormField("authentication", "secret")],
        ),
        ([(FIELD, b"hi"), (a_field("file-size"), b"4"), (FIELD, b"ho")], [FormField("file-size", "4")]),
        ([(a_field("file-size"), b"")], [FormField("file-size", "")]),
        ([(a_field("file-size"), b"1"), (a_field("file-size"), b"2")], [FormField("file-size", each) for each in "12"]),
        ([(a_field("authentication"), "\u00fc".encode())], [FormField("authentication", "\u00fc")]),
        ([(a_field("authentication"), b"\xff")], [FormField("authentication", "\ufffd")]),
        ([(a_field("authentication"), b"\r\n--x")], [FormField("authentication", "\r\n--x")]),
        ([(a_field("authentication") + b'; filename=""', b"x")], [FormField("authentication", "x")]),
        ([(a_field("Authentication"), b"x"), (b"Content-Disposition: form-data", b"x")], []),
        ([(a_field("comment"), b"x" * (2 * LONGEST_FIELD))], []),
        ([(a_field("file-size"), b"1" * LONGEST_FIELD)], [FormField("file-size", "1" * LONGEST_FIELD)]),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_fields_before_the_file(parts: list[tuple[bytes, bytes]], fields: list[FormField], step: int) -> None:
    """Those that were asked for, in their order, before the file; others are passed over, and of any size."""
    if step == 1 and any(len(data) > 1000 for _, data in parts):
        step = 100
    body = a_form(*parts, (FILE, b"data"))
    assert told([body[i : i + step] for i in range(0, len(body), step)]) == [*fields, A_FILE, b"data"]


def test_a_field_behind_the_file() -> None:
    """Nobody waits for it any more."""
    body = a_form((FILE, b"data"), (a_field("authentication"), b"secret"), (a_field("file-size"), b"9" * 9999))
    assert told([body]) == [A_FILE, b"data"]


def test_a_field_that_is_a_file() -> None:
    """With a file name it is the file, whatever its own name."""
    head = a_field("authentication") + b'; filename="a.txt"'
    expected = FilePart("a.txt", None, head.decode().partition(": ")[2])
    assert told([a_form((head, b"data"), (a_field("file-size"), b"4"))]) == [expected, b"data"]


@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_a_field_that_is_too_long(step: int) -> None:
    """Refused as soon as that is known; its name is in the sentence."""
    body = a_form((a_field("authentication"), b"x" * (LONGEST_FIELD + 1)), (FILE, b"data"))
    with pytest.raises(MalformedForm, match="field authentication of the form is too long"):
        told([body[i : i + step] for i in range(0, len(body), step)])


def test_a_field_that_never_ends() -> None:
    """Memory is bounded whatever is sent."""
    decoder = FormDecoder(TYPE, fields=NAMED)
    sent = 0
    with pytest.raises(MalformedForm):
        for piece in [a_form((a_field("file-size"), b""), end=False)[:-2], *[b"1" * 512] * 100]:
            sent += len(piece)
            assert list(decoder.feed(piece)) == []
    assert sent < 2 * LONGEST_FIELD


def test_fields_and_no_file() -> None:
    """They are no file."""
    with pytest.raises(NoFile):
        told([a_form((a_field("authentication"), b"secret"))])


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (FILE, A_FILE),
        (FIELD, FilePart(None, None, 'form-data; name="comment"')),
        (b"Content-Disposition: form-data; name=x\r\nContent-Type: a/b", FilePart(None, "a/b", "form-data; name=x")),
        (a_field("authentication"), FilePart(None, None, 'form-data; name="authentication"')),
        (FIELD + b'; filename=""', FilePart("", None, 'form-data; name="comment"; filename=""')),
    ],
)
def test_any_part_may_be_the_file(head: bytes, part: FilePart) -> None:
    """The first one is, with a file name or without; what follows is passed over."""
    body = a_form((head, b"first"), (FILE, b"second"), (a_field("file-size"), b"5"))
    for pieces in ([body], [body[i : i + 1] for i in range(len(body))]):
        assert told(pieces, any_part=True) == [part, b"first"]


def test_no_part_at_all() -> None:
    """Where any part would do, there has to be one."""
    with pytest.raises(NoFile):
        told([a_form()], any_part=True)


@settings(deadline=None)
@given(data=st.binary(max_size=100), value=st.binary(max_size=30), at=st.lists(st.integers(0, 400), max_size=12))
def test_fields_and_files_cut_anywhere(data: bytes, value: bytes, at: list[int]) -> None:
    """However the network cuts them."""
    mark = b"\r\n--" + BOUNDARY.encode()
    if any(mark in b"\r\n" + each + b"\r\n" for each in (data, value)):
        return
    body = a_form((a_field("authentication"), value), (FILE, data))
    assert told(cuts(body, at)) == [FormField("authentication", value.decode(errors="replace")), A_FILE, data]
