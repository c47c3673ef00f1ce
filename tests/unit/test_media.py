"""What a file is by its content, and which files are refused."""

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam.errors import Outcome, UnsupportedMediaType
from beam.policy import Policy
from beam.web.media import HEAD, TAIL, TypeCheck, fits, type_check, type_of

ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0" + bytes(60)


def png() -> bytes:
    """One pixel."""

    def piece(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\0")
    return b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", header) + piece(b"IDAT", pixels) + piece(b"IEND", b"")


def archive(*names: str) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, "x" * 20)
    return buffer.getvalue()


def tar() -> bytes:
    """A tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        entry = tarfile.TarInfo("a")
        entry.size = 3
        file.addfile(entry, io.BytesIO(b"abc"))
    return buffer.getvalue()


PNG = png()
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><path d=""/></svg>\n'
TEXT = b"The quick brown fox.\n"
NOISE = random.Random(1).randbytes(9000)
LONG_TEXT = "Grüße, 世界. ".encode() * 1000
# name of the sample: the bytes, and the type without any name
SAMPLES = {
    "png": (PNG, "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xdb" + bytes(60) + b"\xff\xd9", "image/jpeg"),
    "exif": (b"\xff\xd8\xff\xe1\0\x18Exif\0\0II*\0" + bytes(60), "image/jpeg"),
    "gif": (b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;", "image/gif"),
    "bmp": (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(30), "image/bmp"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(20), "image/webp"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(20), "audio/wav"),
    "tiff": (b"II*\0\x08\0\0\0" + bytes(40), "image/tiff"),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "image/avif"),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free", "video/mp4"),
    "mp4 of a brand": (b"\0\0\0\x20ftypxyz1\0\0\2\0isomiso5\0\0\0\x08free", "video/mp4"),
    "quicktime": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video/quicktime"),
    "webm": (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\1B\x82\x84webm", "video/webm"),
    "flac": (b"fLaC\0\0\0\x22" + bytes(40), "audio/flac"),
    "mp3": (b"ID3\3\0\0\0\0\0\0" + bytes(40), "audio/mpeg"),
    "ogg": (b"OggS\0\2" + bytes(40), "application/ogg"),
    "pdf": (b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n", "application/pdf"),
    "pdf with bytes": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj\n", "application/pdf"),
    "zip": (archive("a.txt"), "application/zip"),
    "empty zip": (archive(), "application/zip"),
    "docx": (archive("[Content_Types].xml", "word/document.xml"), "application/zip"),
    "gzip": (gzip.compress(b"hello" * 10), "application/gzip"),
    "bzip2": (bz2.compress(TEXT), "application/x-bzip2"),
    "xz": (lzma.compress(TEXT), "application/x-xz"),
    "tar": (tar(), "application/x-tar"),
    "sqlite": (b"SQLite format 3\0" + bytes(50), "application/x-sqlite3"),
    "elf": (ELF, "application/x-executable"),
    "elf with a tail": (ELF + b"</svg>\n", "application/x-executable"),
    "elf in a tar": (ELF + bytes(257 - len(ELF)) + b"ustar\0" + bytes(300), "application/x-executable"),
    "exe": (b"MZ\x90\0\3\0\0\0" + bytes(60), "application/vnd.microsoft.portable-executable"),
    "wasm": (b"\0asm\1\0\0\0", "application/wasm"),
    "html": (b"<!DOCTYPE html>\n<html><body>hi</body></html>\n", "text/html"),
    "html in capitals": (b"\n <!-- a --><HTML><BODY>hi</BODY></HTML>", "text/html"),
    "html with a picture": (b"<html><body>" + SVG.strip(), "text/html"),
    "xhtml": (b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"/>', "text/html"),
    "svg": (SVG, "image/svg+xml"),
    "svg in xml": (b'<?xml version="1.0"?>\n<!-- a -->\n<!DOCTYPE svg PUBLIC "a" "b">\n' + SVG, "image/svg+xml"),
    "xml": (b'<?xml version="1.0"?><a/>', "application/xml"),
    "json": (json.dumps({"a": [1, 2]}).encode(), "application/json"),
    "long json": (json.dumps([{"a": i} for i in range(1000)]).encode(), "application/json"),
    "number": (b"12\n", "text/plain"),
    "deep json": (b"[" * 4000, "text/plain"),
    "text": (TEXT, "text/plain"),
    "text with a mark": (b"\xef\xbb\xbf" + TEXT, "text/plain"),
    "long text": (LONG_TEXT, "text/plain"),
    "one character": (b"a", "text/plain"),
    "utf-16": ("Grüße\n".encode("utf-16"), "text/plain"),
    "text like bmp": (b"BMW is a car\n", "text/plain"),
    "text like exe": (b"MZ is a mark\n", "text/plain"),
    "text like xbm": (b"#define A 1\n", "text/plain"),
    "text like gif": (b"GIF89a is a mark", "text/plain"),
    "script": (b"#!/bin/sh\necho\n", "text/plain"),
    "program": (b"function a() { return 1 }\n", "text/plain"),
    "text with a tail of bytes": (LONG_TEXT + b"\xff", "application/octet-stream"),
    "half a character": ("ü".encode()[:1], "application/octet-stream"),
    "latin-1": ("Grüße".encode("latin-1"), "application/octet-stream"),
    "nothing": (b"", "application/octet-stream"),
    "one zero": (b"\0", "application/octet-stream"),
    "zeros": (bytes(9000), "application/octet-stream"),
    "noise": (NOISE, "application/octet-stream"),
    "tga": (NOISE + b"TRUEVISION-XFILE.\0", "image/tga"),
    "short tga": (NOISE[:500] + b"TRUEVISION-XFILE.\0", "image/tga"),
}


def told(data: bytes, filename: str = "") -> str:
    """The type of ``data``."""
    return type_of(data[:HEAD], data[-TAIL:], filename)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    """Without a name, and with one that says nothing or something else."""
    data, expected = SAMPLES[name]
    assert told(data) == told(data, "x") == told(data, "x.nonsense") == expected
    if data and expected != "application/octet-stream":
        lies = ["x.png", "x.svg", "x.pdf", "x.html", "x.exe", "archive.tar.gz"]
        assert {told(data, lie) for lie in lies} == {expected}


def test_the_answer_is_the_same_in_every_process() -> None:
    """However Python orders its sets."""
    source = (
        "import sys; sys.path[:0] = ['tests']\nfrom unit.test_media import SAMPLES, told\n"
        "print([told(data, name) for data, _ in SAMPLES.values() for name in ('', 'x.mobi', 'x.it')])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", source], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("sample", "filename", "expected"),
    [
        ("docx", "a.DOCX", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("zip", "a.zip", "application/zip"),
        ("zip", "a.jar", "application/java-archive"),
        ("text", "a.csv", "text/csv"),
        ("text", "a.css", "text/css"),
        ("text", "a.png", "text/plain"),
        ("text", "a.json", "text/plain"),
        ("text", "a.svg", "text/plain"),
        ("text", "a.tar.gz", "text/plain"),
        ("long text", "a.json", "application/json"),  # the rest of which nobody has looked at
        ("html", "a.txt", "text/html"),
        ("elf", "a.png", "application/x-executable"),
        ("noise", "a.png", "application/octet-stream"),
        ("noise", "a.txt", "application/octet-stream"),
        ("noise", "a.svg", "application/octet-stream"),
        ("noise", "a.oda", "application/oda"),
        ("noise", "data:text/html,a", "application/octet-stream"),
        ("nothing", "a.png", "image/png"),
        ("nothing", "a.gz", "application/octet-stream"),
    ],
)
def test_a_name_says_only_what_the_content_leaves_open(sample: str, filename: str, expected: str) -> None:
    """It tells apart what has the same marks, and names what has none."""
    assert told(SAMPLES[sample][0], filename) == expected


@given(data=st.binary(max_size=600), filename=st.text(max_size=10))
def test_whatever_comes_has_a_type(data: bytes, filename: str) -> None:
    """In lower case, without parameters; twice the same."""
    kind = told(data, filename)
    group, _, rest = kind.partition("/")
    assert group and rest and kind == kind.lower() and ";" not in kind
    assert told(data, filename) == kind


@given(cut=st.integers(0, 40))
def test_text_that_is_cut_within_a_character(cut: int) -> None:
    """Start and end are cut wherever the bytes are."""
    assert told(LONG_TEXT[: HEAD + TAIL + cut] + b"." * 10) in ("text/plain", "application/octet-stream")
    text = ("世" * 5000).encode()
    assert told(b"x" * cut + text) == "text/plain"


@pytest.mark.parametrize(
    ("kind", "patterns", "expected"),
    [
        ("image/png", ("image/png",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("*/*",), True),
        ("image/png", ("image/jpeg", "text/*"), False),
        ("image/svg+xml", ("image/svg",), False),
        ("imagex/png", ("image/*",), False),
        ("image/png", (), False),
    ],
)
def test_patterns(kind: str, patterns: Sequence[str], expected: bool) -> None:
    """One type, all of a kind, or all."""
    assert fits(kind, patterns) is expected


def passes(check: TypeCheck, data: bytes, step: int) -> int | None:
    """How many bytes came before ``check`` refused ``data``; ``None`` if it did not."""
    seen = 0
    try:
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            check.take(memoryview(piece))
            seen += len(piece)
        check.end()
    except UnsupportedMediaType as error:
        assert error.status == 415 and error.outcome is Outcome.TYPE_REFUSED
        return seen
    return None


@pytest.mark.parametrize("step", [1, 1000, HEAD, 1 << 20])
@pytest.mark.parametrize(
    ("allowed", "denied", "good", "bad"),
    [
        (("image/*",), (), ("png", "gif", "svg", "short tga"), ("elf", "text", "noise", "html", "nothing")),
        (("image/*",), ("image/svg+xml",), ("png",), ("svg", "svg in xml", "elf")),
        ((), ("application/x-executable", "text/*"), ("png", "noise", "json"), ("elf", "text", "html", "long text")),
        (("image/png",), ("image/*",), (), ("png",)),
        (("application/json",), (), ("json", "long json"), ("text", "deep json")),
        ((), ("image/tga",), ("noise",), ("tga", "short tga")),
    ],
)
def test_what_passes(
    allowed: tuple[str, ...], denied: tuple[str, ...], good: Sequence[str], bad: Sequence[str], step: int
) -> None:
    """However the bytes come; what is denied is refused although it is allowed."""
    for name in good:
        assert passes(TypeCheck(allowed, denied), SAMPLES[name][0], step) is None, name
    for name in bad:
        assert passes(TypeCheck(allowed, denied), SAMPLES[name][0], step) is not None, name


def test_a_long_file_is_refused_at_its_start() -> None:
    """As soon as that is there; but one that its end makes what its name says is heard out."""
    assert passes(TypeCheck(("image/*",), ()), NOISE * 100, HEAD) == 0
    check = TypeCheck(("image/*",), ())
    check.filename = "x.tga"
    assert passes(check, NOISE * 100, HEAD) == len(NOISE) * 100
    check = TypeCheck(("image/*",), ())
    check.filename = "x.TGA"
    assert passes(check, SAMPLES["tga"][0], HEAD) is None


def test_the_sentence_says_what_it_is_and_what_is_taken() -> None:
    """So that the sender knows what to do."""
    with pytest.raises(UnsupportedMediaType) as caught:
        TypeCheck(("image/png", "text/*"), ("text/html",)).end()
    assert caught.value.sentence == (
        "By its content this file is application/octet-stream; this server takes image/png, text/* but text/html."
    )


def test_nothing_is_looked_at_unless_it_is_asked_for() -> None:
    """No check where no type is configured."""
    assert type_check(Policy()) is None
    assert type_check(Policy(allow_types=("a/b",))) is not None
    assert type_check(Policy(deny_types=("a/b",))) is not None
