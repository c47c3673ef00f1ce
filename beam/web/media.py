"""What a file is, told from its bytes; its name is asked only where they leave it open.

Binary formats are puremagic's to know, and of its answers one is chosen in the same way every time.  Text, and what is
written in text, is told here: puremagic's marks of it are words that any text may begin with.
"""

import codecs
import json
import mimetypes
import re
from collections.abc import Iterable
from os.path import splitext
from typing import Any

import puremagic

from beam.errors import UnsupportedMediaType
from beam.policy import Policy

HEAD = 4096  # bytes of the start that are looked at: no mark of a type that has a name lies behind them
TAIL = 1024  # bytes of the end
UNKNOWN = "application/octet-stream"
NAMES = mimetypes.MimeTypes()  # Python's own: those of the system differ from one to the next

# What puremagic does not know, or takes for something else.
STARTS = {
    b"\x7fELF": "application/x-executable",
    b"MZ": "application/vnd.microsoft.portable-executable",
    b"\xfe\xed\xfa\xce": "application/x-mach-binary",
    b"\xfe\xed\xfa\xcf": "application/x-mach-binary",
    b"\xce\xfa\xed\xfe": "application/x-mach-binary",
    b"\xcf\xfa\xed\xfe": "application/x-mach-binary",
    b"\0asm": "application/wasm",
}
TEXT_STARTS = {b"%PDF-": "application/pdf", b"{\\rtf": "application/rtf", b"%!PS": "application/postscript"}
SHORTEST = 2  # bytes of a mark; shorter ones are everywhere
# Where several types have the same marks and no name decides: what is true of all of them.
GENERAL = ("application/zip", "application/pdf", "video/webm", "application/ogg", "application/zstd")
# The registered names of what puremagic calls otherwise.
REGISTERED = {
    "application/excel": "application/vnd.ms-excel",
    "application/font-woff": "font/woff",
    "application/mspowerpoint": "application/vnd.ms-powerpoint",
    "application/x-gzip": "application/gzip",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-zip-compressed": "application/zip",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "image/x-ms-bmp": "image/bmp",
    "text/xml": "application/xml",
    "video/avi": "video/x-msvideo",
}
TEXTUAL = re.compile(r"text/.*|application/(json|xml|.*\+json|.*\+xml|javascript|x-sh|x-csh|x-tex|x-yaml|toml|sql)")
SHOWN = re.compile(r".*html.*|.*xml|application/(pdf|rtf|postscript)")  # a text of which it would show
SHOWN_IF_WHOLE = re.compile(rf"{SHOWN.pattern}|.*json")
PROLOG = re.compile(rb"(?:\s++|<\?.*?\?>|<!--.*?-->|<!doctype(?!\s+html)[^>\[]*(?:\[.*?\]\s*)?>)*+", re.I | re.DOTALL)
HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body|script|iframe|title|table|style|div|h1)\b", re.I)
XHTML = re.compile(rb"<(?:!doctype\s+)?html\b", re.I)
SVG = re.compile(rb"<(?:\w+:)?svg\b")
JSON_START = re.compile(rb'\s*(?:\{\s*"[^"\n]*"\s*:|\[\s*[\[{"])')


def registered(kind: str) -> str:
    """The media type of one of puremagic's rows; nothing if it tells none."""
    kind = kind.strip().lower()
    return "" if kind == UNKNOWN else REGISTERED.get(kind, kind)


KNOWN = {registered(row.mime_type) for row in (*puremagic.magic_header_array, *puremagic.magic_footer_array)}
KNOWN |= set(STARTS.values())


def type_of(head: bytes, tail: bytes, filename: str) -> str:
    """The media type of a file, in lower case and without parameters.

    :param head: its first bytes: all, if they are fewer than ``HEAD``.
    :param tail: its last bytes, ``TAIL`` if it has so many, or none if they are not known yet.
    :param filename: of which only the extension counts, and only for what the content does not rule out.
    """
    extension = splitext(filename.lower())[1]
    guess = NAMES.guess_type(f"x{extension}")
    named = registered(guess[0] or "") if guess[1] is None else ""
    is_whole = len(head) < HEAD
    end = head if is_whole else tail
    if not head:
        return named or UNKNOWN
    if is_text(head, is_whole) and (is_whole or is_text(after_character(tail), True)):
        shown = SHOWN_IF_WHOLE if is_whole else SHOWN
        by_name = named if TEXTUAL.fullmatch(named) and not shown.fullmatch(named) else "text/plain"
        return text_type(head, end, is_whole) or by_name
    if is_utf16(head, is_whole):
        return "text/plain"
    found = binary_type(head, end, extension)
    if found is None and head[4:8] == b"ftyp":
        found = "video/mp4"  # of a brand that nobody has listed
    if found is None and named not in KNOWN and not TEXTUAL.fullmatch(named):
        found = named  # if it were of a type that has marks, they would be there
    return found or UNKNOWN


def is_text(data: bytes, is_whole: bool) -> bool:
    """Whether ``data`` is UTF-8 without NULs.

    :param is_whole: whether its last character must be.
    """
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, is_whole)
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def is_utf16(data: bytes, is_whole: bool) -> bool:
    """Whether ``data`` is text in UTF-16 that says so."""
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-16")().decode(data, is_whole)
    except UnicodeDecodeError:
        return False


def after_character(data: bytes) -> bytes:
    """``data`` without the rest of a character that began before it."""
    at = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
    return data[at:]


def text_type(head: bytes, end: bytes, is_whole: bool) -> str | None:
    """What is written in a text, if that shows."""
    text = head.removeprefix(codecs.BOM_UTF8)
    for start, kind in TEXT_STARTS.items():
        if text.startswith(start):
            return kind
    prolog = PROLOG.match(text)
    root = prolog.end() if prolog else 0
    is_xml = text.lstrip().startswith(b"<?xml")
    if (XHTML if is_xml else HTML).match(text, root):
        return "text/html"
    if SVG.match(text, root):
        return "image/svg+xml"
    if is_xml:
        return "application/xml"
    return "application/json" if is_json(text, end, is_whole) else None


def is_json(text: bytes, end: bytes, is_whole: bool) -> bool:
    """Whether a text is an object or an array of JSON; of one that is not whole, whether it looks so."""
    if is_whole:
        try:
            return isinstance(json.loads(text), dict | list)
        except (ValueError, RecursionError):
            return False
    return bool(JSON_START.match(text)) and (not end or end.rstrip()[-1:] in (b"}", b"]"))


def binary_type(head: bytes, end: bytes, extension: str) -> str | None:
    """What the longest marks of a binary file say: those of its start, else those of its end."""
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    try:
        # It looks for the marks of the end in what stands last.
        rows = puremagic.magic_string(head + end if len(head) >= HEAD else head)
    except puremagic.PureError:
        return None
    named = [
        row
        for row in rows
        if len(row.byte_match) >= SHORTEST and not TEXTUAL.fullmatch(registered(row.mime_type) or "text/plain")
    ]
    starts = [row for row in named if row.offset >= 0]
    ends = [row for row in named if row.offset < 0 and end]
    return longest(starts, extension) or longest(ends, extension)


def longest(rows: Iterable[Any], extension: str) -> str | None:
    """The type of the longest mark; of several the one that ``extension`` fits, the general one, or the first."""
    found: dict[tuple[int, int], list[Any]] = {}
    for row in rows:
        found.setdefault((len(row.byte_match), row.offset), []).append(row)
    if not found:
        return None
    best = found[max(found)]
    fitting = sorted({registered(row.mime_type) for row in best if extension and row.extension.lower() == extension})
    kinds = sorted({registered(row.mime_type) for row in best})
    return next((kind for kind in (*fitting, *GENERAL) if kind in kinds), kinds[0])


def fits(kind: str, patterns: Iterable[str]) -> bool:
    """Whether ``kind`` is one of ``patterns``, such as ``image/png``, ``image/*`` and ``*/*``."""
    group = kind.partition("/")[0]
    return any(pattern in (kind, f"{group}/*", "*/*") for pattern in patterns)


class TypeCheck:
    """Looks at one file as it comes: when its start is there, and when it is whole.

    :ivar filename: as its sender named it, once that is known.
    """

    def __init__(self, allowed: tuple[str, ...], denied: tuple[str, ...]) -> None:
        self.filename = ""
        self._allowed = allowed
        self._denied = denied
        self._head = bytearray()
        self._tail = b""

    def take(self, data: memoryview) -> None:
        """``data`` comes next.

        :raises UnsupportedMediaType: its start is that of a file that is not taken.
        """
        missing = HEAD - len(self._head)
        self._tail = (self._tail + data[-TAIL:].tobytes())[-TAIL:]
        if missing > 0:
            self._head += data[:missing]
            if len(self._head) == HEAD and not self._may_turn_out():
                self._judge(b"")

    def end(self) -> None:
        """That was all.

        :raises UnsupportedMediaType: the file is not taken.
        """
        self._judge(self._tail)

    def _judge(self, tail: bytes) -> None:
        kind = type_of(bytes(self._head), tail, self.filename)
        if fits(kind, self._denied) or (self._allowed and not fits(kind, self._allowed)):
            takes = f"takes {', '.join(self._allowed) or 'everything'}"
            but = f" but {', '.join(self._denied)}" if self._denied else ""
            raise UnsupportedMediaType(f"By its content this file is {kind}; this server {takes}{but}.")

    def _may_turn_out(self) -> bool:
        """Whether the end may show that it is allowed, as its name says."""
        extension = splitext(self.filename.lower())[1]
        ends = (row for row in puremagic.magic_footer_array if row.extension == extension)
        return bool(self._allowed) and any(fits(registered(row.mime_type), self._allowed) for row in ends)


def type_check(policy: Policy) -> TypeCheck | None:
    """What a file has to pass, if anything."""
    if policy.allow_types or policy.deny_types:
        return TypeCheck(policy.allow_types, policy.deny_types)
    return None
