"""How keys, options and header fields are written."""

import base64
import hashlib
import time
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam.errors import BadRequest, KeyTooLong, MissingKey
from beam.policy import Keys
from beam.transfer import Span
from beam.web.fields import (
    LONGEST_KEY,
    LONGEST_NAME,
    Part,
    announced_digests,
    attachment,
    checked_key,
    decoded,
    digest_field,
    filename_in,
    has_control,
    matches,
    part_in,
    path_of,
    query_of,
    safe_filename,
    span_of,
)

NAMES = st.one_of(
    st.text(max_size=300),
    st.text("ab./\\\"';:=*%\u00fc\u202e\u2066\x00\x1f\x85 \t\u20ac\U0001f600", max_size=30),
    st.text("\u00e9\u4e2d\U0001f600x ", min_size=60, max_size=300),
)
HELLO = b'{"hello": "world"}\n'


def sha256(data: bytes) -> bytes:
    """Its SHA-256."""
    return hashlib.sha256(data).digest()


# Keys.


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"a%20b", "a b"),
        (b"a%2Fb", "a/b"),
        (b"a%2fb", "a/b"),
        (b"%25", "%"),
        (b"+", "+"),
        (b"gr%C3%BC%c3%9fe", "gr\u00fc\u00dfe"),
        ("gr\u00fc\u00dfe".encode(), "gr\u00fc\u00dfe"),
        (b"%00", "\0"),
    ],
)
def test_decoded(raw: bytes, text: str) -> None:
    """Percent escapes and raw bytes are both UTF-8."""
    assert decoded(raw) == text


@pytest.mark.parametrize("raw", [b"%", b"a%2", b"%zz", b"%-1", b"% 1", b"100%", b"%%41"])
def test_bad_escapes(raw: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(BadRequest, match="percent"):
        decoded(raw)


@pytest.mark.parametrize("raw", [b"\xff", b"%FF", b"%C3", b"%C3%28", b"%ED%A0%80", b"%C0%AF", b"%F5%80%80%80"])
def test_bad_utf8(raw: bytes) -> None:
    """Neither surrogates nor longer spellings of a slash."""
    with pytest.raises(BadRequest, match="UTF-8"):
        decoded(raw)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_undoes_quoting(text: str) -> None:
    """Any text can be a path, quoted or raw."""
    assert path_of(b"/" + quote(text, safe="").encode()) == text
    if "%" not in text:
        assert path_of(b"/" + text.encode()) == text


def test_a_path_loses_its_first_slash_only() -> None:
    """A second one is an empty segment, which is for ``checked_key`` to refuse."""
    assert path_of(b"/a/b/") == "a/b/"
    assert path_of(b"//a") == "/a"
    assert path_of(b"/") == ""
    assert path_of(b"") == ""


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "report-2026.pdf",
        "a/b/c",
        "...",
        "..a",
        ".hidden",
        "a b",
        "\u00fc",
        "x" * LONGEST_KEY,
        "\u00fc" * (LONGEST_KEY // 2),
        "a?b#c%",
        "\U0001f600",
        "\u05d0\u05d1",
    ],
)
def test_good_keys(key: str) -> None:
    """Any text of 1 to 512 bytes in segments that are not empty."""
    assert checked_key(key, Keys.STRICT) == key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "no key"),
        ("/", "empty segment"),
        ("/a", "empty segment"),
        ("a/", "empty segment"),
        ("a//b", "empty segment"),
        (".", "dot"),
        ("..", "dot"),
        ("a/../b", "dot"),
        ("a/.", "dot"),
        ("x" * (LONGEST_KEY + 1), "longer than 512"),
        ("\u00fc" * (LONGEST_KEY // 2) + "x", "longer than 512"),
        ("a\0", "control"),
        ("a\nb", "control"),
        ("\x7f", "control"),
        ("\x9f", "control"),
        ("a\u202eb", "control"),
        ("a\u2066b", "control"),
    ],
)
def test_bad_keys(key: str, says: str) -> None:
    """Each with the reason."""
    with pytest.raises(BadRequest, match=says):
        checked_key(key, Keys.STRICT)


@pytest.mark.parametrize(
    ("path", "keys", "key"),
    [
        ("a", Keys.TRIMMED, "a"),
        ("/a", Keys.TRIMMED, "a"),
        ("///a/b", Keys.TRIMMED, "a/b"),
        ("/a//b/", Keys.TRIMMED, "a//b/"),
        ("/..", Keys.TRIMMED, ".."),
        ("/" * 600 + "x" * LONGEST_KEY, Keys.TRIMMED, "x" * LONGEST_KEY),
        ("a", Keys.ANY, "a"),
        ("/a", Keys.ANY, "/a"),
        ("/", Keys.ANY, "/"),
        ("a//../b/", Keys.ANY, "a//../b/"),
        ("\u00fc" * 600, Keys.ANY, "\u00fc" * 600),
    ],
)
def test_keys_that_are_less_strict(path: str, keys: Keys, key: str) -> None:
    """Trimmed ones lose the slashes in front; of any the path is as it was written."""
    assert checked_key(path, keys) == key


@pytest.mark.parametrize(
    ("path", "keys", "error"),
    [
        *(("", keys, MissingKey) for keys in Keys),
        ("/", Keys.TRIMMED, MissingKey),
        ("////", Keys.TRIMMED, MissingKey),
        ("/", Keys.STRICT, BadRequest),
        *(("a\nb", keys, BadRequest) for keys in Keys),
        *(("a\u202eb", keys, BadRequest) for keys in Keys),
        ("x" * (LONGEST_KEY + 1), Keys.STRICT, KeyTooLong),
        ("/" + "x" * (LONGEST_KEY + 1), Keys.TRIMMED, KeyTooLong),
        ("\u00fc" * (LONGEST_KEY // 2 + 1), Keys.TRIMMED, KeyTooLong),
        ("/a", Keys.STRICT, BadRequest),
    ],
)
def test_keys_that_are_none_of_any_kind(path: str, keys: Keys, error: type[BadRequest]) -> None:
    """Each reason is a class of its own where a profile has words for it."""
    with pytest.raises(BadRequest) as caught:
        checked_key(path, keys)
    assert type(caught.value) is error


@given(st.text(max_size=20), st.sampled_from(list(Keys)))
def test_a_key_of_any_kind_ends_no_line(path: str, keys: Keys) -> None:
    """And it is never empty."""
    try:
        key = checked_key(path, keys)
    except (BadRequest, UnicodeEncodeError):
        return
    assert key and path.endswith(key)
    assert not has_control(key)


@given(st.text(max_size=20))
def test_no_key_is_dangerous(key: str) -> None:
    """What passes cannot leave a folder, end a line or turn the direction of a log."""
    try:
        checked_key(key, Keys.STRICT)
    except (BadRequest, UnicodeEncodeError):
        return
    assert not {"", ".", ".."} & set(key.split("/"))
    assert not any(unicodedata.category(each) == "Cc" or each in "\u202a\u202b\u202c\u202d\u202e" for each in key)


@pytest.mark.parametrize("character", list("\0\t\n\x1f\x7f\x80\x9f\u202a\u202e\u2066\u2069"))
def test_controls(character: str) -> None:
    """C0, C1, and what overrides the direction of text."""
    assert has_control(character)


@pytest.mark.parametrize("character", list(" a\u00a0\u00fc\u05d0\u0627\U0001f600"))
def test_what_is_no_control(character: str) -> None:
    """Letters of any script are none, right to left ones neither."""
    assert not has_control(character)


# Queries.


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        (b"", {}),
        (b"&&", {}),
        (b"a", {"a": [""]}),
        (b"a=", {"a": [""]}),
        (b"a=b", {"a": ["b"]}),
        (b"a=b=c", {"a": ["b=c"]}),
        (b"a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        (b"name=a+b%2Bc%20d", {"name": ["a b+c d"]}),
        (b"%61=%C3%BC", {"a": ["\u00fc"]}),
        (b"=x", {"": ["x"]}),
        (b"a=b;c=d", {"a": ["b;c=d"]}),
    ],
)
def test_queries(raw: bytes, query: dict[str, list[str]]) -> None:
    """As forms write them."""
    assert query_of(raw) == query


def test_bad_queries() -> None:
    """A bad escape is 400 in names and values alike."""
    for raw in (b"a=%", b"%zz=1", b"a=%FF"):
        with pytest.raises(BadRequest):
            query_of(raw)


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        (b"%zz=1&a=1", {"a": ["1"]}),
        (b"a=1&b=%FF%", {"a": ["1"]}),
        (b"a=%zz&a=1", {"a": ["1"]}),
        (b"a=1&a=%zz", {"a": ["1"]}),
        (b"a=%zz", {}),
        (b"%", {}),
        (b"a=%C3%BC", {"a": ["\u00fc"]}),
    ],
)
def test_queries_that_are_less_strict(raw: bytes, query: dict[str, list[str]]) -> None:
    """What cannot be decoded is left out, and nothing but that."""
    assert query_of(raw, strict=False) == query


@given(st.lists(st.sampled_from([b"a", b"n", b"=", b"&", b"%", b"%zz", b"%41", b"%FF", b"+"]), max_size=9))
def test_no_option_is_there_without_a_value(parts: list[bytes]) -> None:
    """Whoever asks for the first value of an option finds one."""
    assert all(query_of(b"".join(parts), strict=False).values())


# File names.


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.txt", "a.txt"),
        ("../../x", "x"),
        ("..\\..\\x", "x"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.doc", "x.doc"),
        ("a/", ""),
        ("", ""),
        (".", ""),
        ("..", ""),
        ("\0..", ""),
        (" .. ", ""),
        (".bashrc", ".bashrc"),
        ("a\r\nSet-Cookie: b", "aSet-Cookie: b"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("  a  ", "a"),
        ("x" * 4096, "x" * LONGEST_NAME),
        ("\u20ac" * 100, "\u20ac" * (LONGEST_NAME // 3)),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
    ],
)
def test_file_names_are_made_safe(name: str, safe: str) -> None:
    """No folder, no control, no name that a file system refuses."""
    assert safe_filename(name) == safe


@given(NAMES)
@example("x" * 254 + " y")
def test_any_name_is_made_safe(name: str) -> None:
    """Whatever a sender writes; and what is safe stays as it is."""
    try:
        safe = safe_filename(name)
    except UnicodeEncodeError:
        assert any(unicodedata.category(each) == "Cs" for each in name), "only half a character cannot be written"
        return
    assert len(safe.encode()) <= LONGEST_NAME
    assert not set("/\\") & set(safe)
    assert not has_control(safe)
    assert safe not in (".", "..")
    assert safe == safe.strip()
    assert safe_filename(safe) == safe


@given(NAMES)
def test_a_name_comes_through_a_header(name: str) -> None:
    """What we write into a ``Content-Disposition``, we and others read from it."""
    try:
        safe = safe_filename(name)
    except UnicodeEncodeError:
        return
    field = attachment(safe)
    assert field.isascii() and field.isprintable()
    assert (filename_in(field) or "") == safe
    # Who does not know filename* gets a name of as many characters, with _ for what ASCII lacks.
    plain = filename_in(field.partition("; filename*=")[0]) or ""
    assert len(plain) == len(safe)
    assert all(a == b or a == "_" for a, b in zip(plain, safe, strict=True))


@pytest.mark.parametrize(
    ("field", "name"),
    [
        # RFC 6266, section 5, and RFC 8187, section 3.2.3.
        ("Attachment; filename=example.html", "example.html"),
        ('INLINE; FILENAME= "an example.html"', "an example.html"),
        ("attachment; filename*= UTF-8''%e2%82%ac%20rates", "\u20ac rates"),
        ("attachment; filename=\"EURO rates\"; filename*=utf-8''%e2%82%ac%20rates", "\u20ac rates"),
        ("attachment; filename*=utf-8''%e2%82%ac%20rates; filename=\"EURO rates\"", "\u20ac rates"),
        ("attachment; filename*=iso-8859-1'en'%A3%20rates", "\u00a3 rates"),
        ("attachment; filename*=UTF-8''%c2%a3%20and%20%e2%82%ac%20rates", "\u00a3 and \u20ac rates"),
        ("attachment", None),
        ("", None),
        ('form-data; name="a"', None),
        # As curl and browsers write them (RFC 7578).
        ('form-data; name="file"; filename="a.txt"', "a.txt"),
        ('form-data; name="file"; filename=""', ""),
        ('form-data; name="file"; filename="a\\"b.txt"', 'a"b.txt'),
        ('form-data; name="file"; filename="a\\\\b.txt"', "a\\b.txt"),
        ('form-data; name="file"; filename="C:\\dir\\x.txt"', "C:\\dir\\x.txt"),
        ('form-data; name="file"; filename="a;b.txt"', "a;b.txt"),
        ('form-data; name="file"; filename="\u00fc.txt"', "\u00fc.txt"),
        ('form-data; filename="x" ; name="file"', "x"),
        ('form-data;filename="x"', "x"),
        ("form-data; filename=x;name=y", "x"),
        ('form-data; name="filename=x"', None),
        # Damaged ones.
        ('attachment; filename="open', ""),
        ("attachment; filename*=UTF-8''%e2%82", "\ufffd"),
        ("attachment; filename*=klingon''abc; filename=x", "x"),
        ("attachment; filename*=abc; filename=x", "x"),
        ("attachment; filename=x; filename=y", "x"),
    ],
)
def test_names_in_headers(field: str, name: str | None) -> None:
    """``filename*`` before ``filename``."""
    assert filename_in(field) == name


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('form-data; name="; filename=x"', None),
        ('form-data; name="; filename*=UTF-8\'\'evil"; filename="x"', "x"),
        ('form-data; name="a\\"; filename=\\"evil"; filename="x"', "x"),
    ],
)
def test_a_name_within_another_value_is_none(field: str, name: str | None) -> None:
    """What stands within quotes is one value, whatever it looks like."""
    assert filename_in(field) == name


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "a; " + " " * n,
        lambda n: "a" + "; " * n,
        lambda n: "a; filename" + " " * n,
        lambda n: "a; filename=" + " " * n + '"',
        lambda n: 'a; filename="' + "\\" * n,
        lambda n: 'a; filename="' + "a" * n,
        lambda n: "a; filename*=" + "u" * n,
        lambda n: "a; filename*=u'" * n,
        lambda n: "a; filename*=utf-8'" + "e" * n,
        lambda n: ";filename*=u'" * n,
        lambda n: ';filename="' * n,
    ],
)
def test_no_name_takes_long(make: Callable[[int], str]) -> None:
    """A disposition that is made to make a pattern backtrack costs no more than others."""
    began = time.process_time()
    filename_in(make(1 << 15)[: 64 << 10])
    assert time.process_time() - began < 0.5


# Ranges.


@pytest.mark.parametrize(
    ("field", "length", "span"),
    [
        # RFC 9110, section 14.1.2: a representation of 10000 bytes.
        ("bytes=0-499", 10000, Span(0, 500, look=True)),
        ("bytes=500-999", 10000, Span(500, 1000, look=True)),
        ("bytes=-500", 10000, Span(9500)),
        ("bytes=9500-", 10000, Span(9500)),
        ("bytes=0-0,-1", 10000, None),
        ("bytes= 0-999, 4500-5499, -1000", 10000, None),
        ("bytes=0-9999", 10000, Span(0)),
        ("bytes=0-99999", 10000, Span(0)),
        ("bytes=0-9998", 10000, Span(0, 9999, look=True)),
        ("bytes=-10000", 10000, Span(0)),
        ("bytes=-10001", 10000, Span(0)),
        ("bytes=-0", 10000, Span(10000)),
        ("bytes=0-", 10000, Span(0)),
        ("bytes=10000-", 10000, Span(10000)),
        ("bytes=20000-30000", 10000, Span(20000)),
        ("BYTES=5-", 10000, Span(5)),
        (" bytes=5- ", 10000, Span(5)),
        ("bytes=5-4", 10000, None),
        ("bytes=-", 10000, None),
        ("bytes=", 10000, None),
        ("bytes", 10000, None),
        ("", 10000, None),
        ("items=0-5", 10000, None),
        ("bytes=a-b", 10000, None),
        ("bytes=+1-2", 10000, None),
        ("bytes=1.0-2", 10000, None),
        ("bytes=1_0-20", 10000, None),
        ("bytes=1--2", 10000, None),
        ("bytes=1 - 2", 10000, None),
        ("bytes=" + "9" * 19 + "-", 10000, None),
        ("bytes=\u0661-", 10000, None),
        ("bytes=0-\u0662", 10000, None),
        # A body of unknown length.
        ("bytes=5-", None, Span(5)),
        ("bytes=0-499", None, Span(0, 500, look=True)),
        ("bytes=-5", None, None),
        ("bytes=-0", None, None),
        # An empty one.
        ("bytes=0-", 0, Span(0)),
        ("bytes=0-0", 0, Span(0)),
        ("bytes=-5", 0, Span(0)),
    ],
)
def test_ranges(field: str, length: int | None, span: Span | None) -> None:
    """The one range that is meant, or nothing: a field that is not understood is ignored."""
    assert span_of(field, length) == span


@given(
    first=st.one_of(st.none(), st.integers(0, 30)),
    last=st.one_of(st.none(), st.integers(0, 30)),
    length=st.integers(0, 25),
)
def test_a_range_is_the_part_it_names(first: int | None, last: int | None, length: int) -> None:
    """Against the definition of RFC 9110, 14.1.2, byte by byte."""
    span = span_of(f"bytes={'' if first is None else first}-{'' if last is None else last}", length)
    body = range(length)
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert span is None
        return
    assert span is not None
    if first is None:
        assert last is not None
        wanted = list(body)[-last:] if last else []
    else:
        wanted = [i for i in body if first <= i and (last is None or i <= last)]
    assert list(body[span.start : span.stop]) == wanted
    assert span.look is (span.stop is not None)
    assert span.stop is None or span.stop < length, "a part that reaches the end is a resume, not a look"


@pytest.mark.parametrize("field", ["bytes 0-9/10", "BYTES 0-9/10", " bytes 0-9/10 ", "bytes 0-0/1"])
def test_a_content_range_that_is_the_whole(field: str) -> None:
    """As ``curl -C - -T`` sends at first."""
    part = part_in(field)
    assert part is not None and part.is_whole


@pytest.mark.parametrize(("field", "part"), [("bytes 1-9/10", Part(1, 10, 10)), ("bytes 0-8/10", Part(0, 9, 10))])
def test_a_content_range_that_is_a_part(field: str, part: Part) -> None:
    """Where it begins and where it ends."""
    assert part_in(field) == part and not part.is_whole


@pytest.mark.parametrize(
    "field",
    [
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes 0-9/*",
        "bytes */10",
        "bytes=0-9/10",
        "",
        "bytes 0-9",
        "x 0-9/10",
        "bytes 0-\u0669/10",
    ],
)
def test_a_content_range_that_is_none(field: str) -> None:
    """What ends before it begins or behind the file, and what is not written so."""
    assert part_in(field) is None


# Entity tags.


@pytest.mark.parametrize(
    ("field", "matched"),
    [
        ('"abc"', True),
        ('"x", "abc"', True),
        ('"abc","x"', True),
        (' "abc" ', True),
        ("*", True),
        (" * ", True),
        ('"ab"', False),
        ("abc", False),
        ("", False),
        ('"x", *', False),
        ('"abcd"', False),
    ],
)
def test_entity_tags(field: str, matched: bool) -> None:
    """RFC 9110, 13.1: any of a list, or any at all."""
    assert matches(field, '"abc"') is matched


# Digests (RFC 9530).


@pytest.mark.parametrize(
    ("fields", "digests"),
    [
        ([], {}),
        (
            # Appendix B.1.
            ["sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"],
            {"sha-256": sha256(HELLO)},
        ),
        (
            [
                "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:",
                "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
            ],
            {"sha-256": sha256(HELLO), "sha-512": hashlib.sha512(HELLO).digest()},
        ),
        (["md5=:Sd/dVLAcvNLSq16eXua5uQ==:"], {}),
        (["md5=:Sd/dVLAcvNLSq16eXua5uQ==:, sha-256=:YQ==:"], {"sha-256": b"a"}),
        (["  sha-256=:YQ==: ,sha-256=:YQ==:"], {"sha-256": b"a"}),
        (["sha-256=::"], {"sha-256": b""}),
        (["unixsum=:7Ys=:"], {}),
    ],
)
def test_digests(fields: list[str], digests: dict[str, bytes]) -> None:
    """Those that we can check, by name; the others are ignored."""
    assert announced_digests(fields) == digests


@pytest.mark.parametrize(
    "field",
    [
        "",
        ",",
        "sha-256",
        "sha-256=",
        "sha-256=YQ==",
        "sha-256=:YQ==",
        "sha-256=YQ==:",
        "sha-256=:YQ=:",
        "sha-256=:Y:",
        "sha-256=:Y-_=:",
        "sha-256=:YQ==:,",
        'sha-256="YQ=="',
        "SHA-256=:YQ==:",
        "sha-256 =:YQ==:",
        "sha-256= :YQ==:",
        "sha-256=:YQ==:;q=1x=",
        "=:YQ==:",
    ],
)
def test_digests_that_are_malformed(field: str) -> None:
    """400, and not a body that nobody has checked."""
    with pytest.raises(BadRequest, match="digest"):
        announced_digests([field])


def test_digests_that_disagree() -> None:
    """In one field or in two."""
    for fields in (["sha-256=:YQ==:, sha-256=:Yg==:"], ["sha-256=:YQ==:", "sha-256=:Yg==:"]):
        with pytest.raises(BadRequest, match="disagree"):
            announced_digests(fields)


@given(st.dictionaries(st.sampled_from(["sha-256", "sha-512"]), st.binary(max_size=80)))
def test_digests_round_trip(digests: dict[str, bytes]) -> None:
    """What we write we can read."""
    field = digest_field(digests)
    assert announced_digests([field] if field else []) == digests
    for name, value in digests.items():
        assert f"{name}=:{base64.b64encode(value).decode()}:" in field
