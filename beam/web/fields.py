"""How keys, options and header fields are written: bytes from the wire become values, and values become fields.

Syntax only: nothing here knows a transfer or a connection.
"""

import base64
import binascii
import re
from urllib.parse import quote, unquote_to_bytes

from attrs import frozen

from beam.digests import DIGESTS
from beam.errors import BadRequest, KeyTooLong, MissingKey
from beam.policy import Keys
from beam.transfer import Span

LONGEST_KEY = 512  # bytes
LONGEST_NAME = 255  # bytes of a file name, the limit of most file systems
UNKNOWN_LAST = (1 << 53) - 1  # the very large value of RFC 8673
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # C0, C1, and what turns the text around
ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")  # a bad one
RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
DIGEST_MEMBER = re.compile(r"([a-z*][a-z0-9_\-.*]*)=:([A-Za-z0-9+/]*={0,2}):")  # RFC 8941: a byte sequence
PARAMETER = re.compile(r"""\s*;\s*([\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))""")  # RFC 9110, 5.6.6
GOOD_KEY = "a good key is, for example, /report-2026.pdf"


def has_control(text: str) -> bool:
    """Whether a character of ``text`` is a C0 or C1 control or overrides the direction of text."""
    return CONTROL.search(text) is not None


def decoded(raw: bytes) -> str:
    """Percent-decoded UTF-8.

    :raises BadRequest: a bad escape or bad UTF-8.
    """
    if ESCAPE.search(raw):
        raise BadRequest("The path or the query has a bad percent escape; a percent sign itself is written %25.")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest("The path or the query is not UTF-8.") from None


def path_of(raw: bytes) -> str:
    """The decoded path behind its first slash."""
    return decoded(raw.removeprefix(b"/"))


def checked_key(path: str, keys: Keys) -> str:
    """The key that ``path`` (decoded, without its first slash) is.

    :raises BadRequest: it is none, and why.
    """
    key = path.lstrip("/") if keys is Keys.TRIMMED else path
    if not key:
        raise MissingKey(f"The path has no key; {GOOD_KEY}.")
    if len(key.encode()) > LONGEST_KEY and keys is not Keys.ANY:
        raise KeyTooLong(f"The key is longer than {LONGEST_KEY} bytes; choose a shorter one.")
    if has_control(key):
        raise BadRequest("The key has a control character; leave it out.")
    if keys is Keys.STRICT and any(segment in ("", ".", "..") for segment in key.split("/")):
        raise BadRequest(f"The key has an empty segment, or one that is a dot or two; {GOOD_KEY}.")
    return key


def query_of(raw: bytes, strict: bool = True) -> dict[str, list[str]]:
    """Option names and their values, decoded.

    :param strict: whether one that cannot be decoded is an error; else it is left out.
    :raises BadRequest: there is one.
    """
    found: dict[str, list[str]] = {}
    for part in filter(None, raw.split(b"&")):
        name, _, value = part.partition(b"=")
        try:
            option, decoded_value = decoded(name), decoded(value.replace(b"+", b"%20"))
        except BadRequest:
            if strict:
                raise
        else:
            found.setdefault(option, []).append(decoded_value)
    return found


def safe_filename(name: str) -> str:
    """``name`` as it may reach a receiver: its last segment, without controls, at most ``LONGEST_NAME`` bytes."""
    name = re.split(r"[/\\]", name)[-1]
    name = CONTROL.sub("", name).strip()
    if name in (".", ".."):
        return ""
    return name.encode()[:LONGEST_NAME].decode(errors="ignore").rstrip()


def attachment(filename: str) -> str:
    """A ``Content-Disposition`` that saves under ``filename`` (RFC 6266, with RFC 8187 for what is not ASCII)."""
    if not filename:
        return "attachment"
    plain = re.sub(r'["\\]|[^\x20-\x7e]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def filename_in(disposition: str) -> str | None:
    """The file name that a ``Content-Disposition`` gives, ``filename*`` before ``filename``; not made safe yet."""
    found: dict[str, str] = {}
    at = disposition.find(";")
    while at >= 0 and (match := PARAMETER.match(disposition, at)):
        name, quoted, bare = match.groups()
        # Only a quote and a backslash are escaped in practice; C:\x of old browsers is a path.
        value = bare if quoted is None else re.sub(r'\\(["\\])', r"\1", quoted)
        found.setdefault(name.lower(), value)
        at = match.end()
    charset, quote_mark, encoded = found.get("filename*", "").partition("'")
    if quote_mark and charset.lower() in ("utf-8", "iso-8859-1"):
        return unquote_to_bytes(encoded.partition("'")[2]).decode(charset, "replace")
    return found.get("filename")


def announced_digests(fields: list[str]) -> dict[str, bytes]:
    """The digests in ``Repr-Digest`` or ``Content-Digest`` that we can check, by name (RFC 9530, sections 2 and 3).

    :raises BadRequest: a field is malformed, or two of them disagree.
    """
    found: dict[str, bytes] = {}
    for member in (member.strip() for field in fields for member in field.split(",")):
        match = DIGEST_MEMBER.fullmatch(member)
        if not match:
            raise BadRequest("A digest field is malformed; it reads sha-256=:BASE64: (RFC 9530).")
        try:
            value = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            raise BadRequest("A digest field has bad base64; it reads sha-256=:BASE64: (RFC 9530).") from None
        if match[1] in DIGESTS and found.setdefault(match[1], value) != value:
            raise BadRequest("Two digest fields disagree; send one.")
    return found


def digest_field(digests: dict[str, bytes]) -> str:
    """``digests`` as a ``Repr-Digest`` field."""
    return ", ".join(f"{name}=:{base64.b64encode(value).decode()}:" for name, value in sorted(digests.items()))


@frozen
class Part:
    """What a ``Content-Range`` says of a body: from ``start`` to before ``stop``, of ``total`` bytes."""

    start: int
    stop: int
    total: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is, as ``curl -C - -T`` sends at first."""
        return self.stop - self.start == self.total


def part_in(content_range: str) -> Part | None:
    """The part that is sent (RFC 9110, 14.4); ``None`` if the field is malformed."""
    match = CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None:
        return None
    part = Part(int(match[1]), int(match[2]) + 1, int(match[3]))
    return part if part.start < part.stop <= part.total else None


def span_of(field: str, length: int | None) -> Span | None:
    """The part that a ``Range`` asks for (RFC 9110, 14.2); ``None`` if the field is to be ignored.

    A suffix of a body of unknown length cannot be told, so that it is ignored.  A start at or beyond a known end
    comes back as it is: the caller answers 416.
    """
    match = RANGE.fullmatch(field.strip())
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last bytes
        if length is None:
            return None
        return Span(length if int(match[2]) == 0 else max(0, length - int(match[2])), None)
    start = int(match[1])
    if not match[2]:
        return Span(start, None)
    last = int(match[2])
    if last < start:
        return None
    if length is not None and last + 1 >= length:
        return Span(start, None)
    return Span(start, last + 1, look=True)


def matches(field: str, etag: str) -> bool:
    """Whether ``If-Match`` or ``If-None-Match`` names ``etag`` or any (RFC 9110, 13.1; ours are all strong)."""
    return field.strip() == "*" or etag in [each.strip() for each in field.split(",")]
