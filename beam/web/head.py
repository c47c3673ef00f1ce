"""What a request head must look like before Twisted sees it (RFC 9112, sections 2 to 6).

``twisted.web`` lets pass what two parsers could read differently (folded headers, two Hosts, a transfer coding in
HTTP/1.0), refuses raw UTF-8 in a target, and answers a malformed head without a word.  So the head is checked here,
whole and as bytes.  No state, no socket.
"""

import re

from beam.errors import BadRequest, BeamError, ExpectationFailed, HeadTooLarge, NotImplementedHere

LIMIT = 64 << 10  # bytes of a head
MOST_HEADERS = 500

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])")
HEADER = re.compile(rb"(" + TOKEN + rb"):([^\x00-\x08\x0a-\x1f\x7f]*)")
BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
NOT_ASCII = re.compile(rb"[\x80-\xff]")


class VersionNotSupported(BeamError):
    """505: neither HTTP/1.0 nor HTTP/1.1."""

    status = 505


def end_of_head(data: bytes) -> int:
    """Offset behind the head in ``data``, or 0 if it is not there whole.

    :raises BadRequest: it can never become a head.
    :raises HeadTooLarge: it is longer than ``LIMIT``.
    """
    end = data.find(b"\r\n\r\n", 0, LIMIT)
    if BARE_LINE_FEED.search(data, 0, end if end >= 0 else LIMIT):
        raise BadRequest("A line of the request head ends without a carriage return; end each line with CR LF.")
    if end >= 0:
        return end + 4
    if len(data) >= LIMIT:
        raise HeadTooLarge(f"The request head is larger than {LIMIT} bytes; send fewer or shorter headers.")
    return 0


def checked(head: bytes) -> bytes:
    """``head`` as Twisted is to read it: origin form, ASCII target.

    :raises BeamError: the refusal.
    """
    line, *lines = head[:-4].split(b"\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if not match:
        raise BadRequest("The request line is malformed; it reads METHOD, space, path, space, HTTP/1.1.")
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise VersionNotSupported("This server speaks HTTP/1.1 and HTTP/1.0.")
    if len(lines) > MOST_HEADERS:
        raise HeadTooLarge(f"The request has more than {MOST_HEADERS} headers; send fewer.")
    fields: dict[bytes, list[bytes]] = {}
    for each in lines:
        field = HEADER.fullmatch(each)
        if not field:
            raise BadRequest("A header is malformed (folded, a space before the colon, or a control character).")
        fields.setdefault(field[1].lower(), []).append(field[2].strip(b" \t"))
    _check_framing(fields, minor)
    if method != b"CONNECT":
        target = ABSOLUTE.sub(b"", target, count=1) if not target.startswith((b"/", b"*")) else target
        if not target.startswith((b"/", b"*")):
            if target and not target.startswith(b"?"):
                raise BadRequest("The request target is malformed; it is a path that begins with a slash.")
            target = b"/" + target
    target = NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], target)
    return b"%s %s HTTP/1.%s" % (method, target, minor) + _as_utf8(head[len(line) :])


def _as_utf8(fields: bytes) -> bytes:
    """``fields`` in UTF-8; what is not is taken as ISO-8859-1, as it was meant of old."""
    try:
        fields.decode()
    except UnicodeDecodeError:
        return fields.decode("latin-1").encode()
    return fields


def _check_framing(fields: dict[bytes, list[bytes]], minor: bytes) -> None:
    """Where the body ends must have one reading only (RFC 9112, section 6.3)."""
    hosts = len(fields.get(b"host", ()))
    if hosts > 1 or (hosts == 0 and minor == b"1"):
        raise BadRequest("A request has exactly one Host header.")
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if lengths and codings:
        raise BadRequest("A request has a Content-Length or a Transfer-Encoding, not both.")
    if len(lengths) > 1:
        raise BadRequest("A request has one Content-Length only.")
    if lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise BadRequest("The Content-Length is not a number of bytes; it has digits only.")
    if codings:
        if minor == b"0":
            raise BadRequest("A request of version 1.0 has no Transfer-Encoding; send a Content-Length.")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise NotImplementedHere("The only transfer coding that this server knows is chunked.")
    expectations = fields.get(b"expect", [])
    if minor == b"1" and any(each.lower() != b"100-continue" for each in expectations):
        raise ExpectationFailed("The only expectation that this server knows is 100-continue.")
